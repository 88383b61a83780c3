#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# How tests/root keeps what it makes: a copy of the scripts with its own cache and a package list that changes, and
# in place of mmdebstrap something that copies the few programs which a command needs.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

[ "$(id -u)" -eq 0 ] || skip "needs root"

tests=$(realpath "$(dirname "$0")")
mkdir -p "$scratch"/{tree/tests,bin,cache}
cp "$tests"/{root,debian.sh,packages} "$scratch/tree/tests"

# Tells that it runs and goes on when it is let. The folder is the last but what begins with "deb".
cat > "$scratch/bin/mmdebstrap" << END
#!/bin/bash
set -eu
echo "\$*" >> "$scratch/made"
for word; do [[ \$word == deb\ * ]] || dir=\$word; done
mkdir -p "\$dir"/{etc,mnt,run,usr/bin,usr/lib,usr/lib64}
[ ! -p "$scratch/gate" ] || { echo here > "$scratch/gate"; sleep infinity; }
for word in bin lib lib64; do ln -s "usr/\$word" "\$dir/\$word"; done
for word in cat env mkdir rmdir sh touch umount; do
        cp --dereference "/usr/bin/\$word" "\$dir/usr/bin"
        ldd "/usr/bin/\$word"
done | grep --only-matching '/[^ ]*' | sort --unique | xargs cp --dereference --parents --target-directory "\$dir"
END
chmod +x "$scratch/bin/mmdebstrap"

root() {
        env XDG_CACHE_HOME="$scratch/cache" PATH="$scratch/bin:$PATH" "$scratch/tree/tests/root" "$@"
}

roots() {
        (cd "$scratch/cache/vmctl-roots" && find . -mindepth 1 -maxdepth 1 ! -name '*.lock') | wc -l
}

made() {
        [ "$(wc -l < "$scratch/made")" -eq "$1" ] || { cat "$scratch/made"; return 1; }
}

change_packages() {
        echo "test $1" >> "$scratch/tree/tests/packages"
}

two_at_once() {
        root > "$scratch/one" & root > "$scratch/two" & wait
        cmp "$scratch/one" "$scratch/two" && [ -d "$(< "$scratch/one")/usr" ]
}

killed_half_way() {
        local ready

        mkfifo "$scratch/gate"
        setsid env XDG_CACHE_HOME="$scratch/cache" PATH="$scratch/bin:$PATH" "$scratch/tree/tests/root" 2> /dev/null &
        read -r ready < "$scratch/gate" && kill -KILL $! && rm "$scratch/gate"
        wait $! 2> /dev/null
        [ "$ready" = here ] && [ "$(roots)" -eq 2 ]
}

# A root is used, then two newer ones are made.
used_is_kept() {
        local used using end name status=0

        used=$(root) || return
        mkfifo "$scratch/begin" "$scratch/end"
        root -- sh -c "echo > '$scratch/begin'; cat '$scratch/end'" &
        using=$!
        read -r < "$scratch/begin"
        exec {end}> "$scratch/end"
        for name in c d e; do
                change_packages $name
                root > /dev/null
        done
        [ -d "$used/usr" ] || status=1
        exec {end}>&-
        wait $using
        return $status
}

check "Two at once get the same root" two_at_once
check "... which was made once" made 1
check "... of the packages that are listed" grep --quiet ",gcc,.*,systemd," "$scratch/made"
check_output "*/bookworm-*" "It is there for the next one" root
check_output "bookworm" "A command runs in it" root -- cat /etc/vmctl-root
check_output "$scratch/tree" "... where it was called" env --chdir="$scratch/tree" XDG_CACHE_HOME="$scratch/cache" \
        PATH="$scratch/bin:$PATH" tests/root -- sh -c pwd
check "... and may write" root -- sh -c 'touch /new && test -e /new'
check "... to a copy" test ! -e "$(root)/new"
check_status 7 "Its status is handed on" root -- sh -c 'exit 7'
check "Nothing more was made" made 1

change_packages a
check "One that is killed while it makes a root leaves a part of it" killed_half_way
check_output "*/bookworm-*" "... which the next one makes anew" root
check_output 2 "... and removes" roots

change_packages b
check_output "*/bookworm-*" "Other packages make another root" root
check_output 2 "Two are kept" roots
check_output "*/trixie-*" "Another suite has roots of its own" root --os trixie
check_output 3 "... beside them" roots
check "One that is used is kept" used_is_kept
check_error "*no suite sid*" "Unknown suites are refused" root --os sid
