#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 480
#
# Holds tests/host against what the other tests rely on. What a host is like is looked at from inside one, in
# which this script runs again; how hosts come and go, from outside.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

tests=$(realpath "$(dirname "$0")")

#
# Inside
#

as() {
        "$tests/as" "$@"
}

check_boot() {
        check_output running "the host is up" systemctl is-system-running
        check_output systemd "PID 1 is systemd" cat /proc/1/comm
        check_output host "it has a name of its own" hostname
        check_output "lo *LOOPBACK,UP*" "its network has a loopback device and nothing else" ip -brief link
        check "dbus-daemon, polkitd, logind and journald run" systemctl is-active \
                dbus.service polkit.service systemd-logind.service systemd-journald.service
        check "there are the devices that QEMU uses" test -c /dev/net/tun -a -c /dev/urandom
        check "the host's network can be set up" tee /proc/sys/net/ipv4/ip_forward <<< 1
        check_error "*Read-only*" "this machine's kernel can't" tee /proc/sys/kernel/panic <<< 0

        logger --tag test-host "a line for the journal"
        journalctl --sync
        check_output "a line for the journal" "the journal can be read" journalctl --output=cat -t test-host
}

check_users() {
        check_output alice "alice is there" as alice id --user --name
        check_output alice "she has no group but her own" as alice id --groups --name
        check_output /home/alice "her home is hers" as alice bash -c 'cd && touch file && pwd'
        check_output bob "bob is there" as bob id --user --name
        check_error "*Permission denied*" "he can't see her runtime directory" \
                as bob ls "/run/user/$(id --user alice)"
        check_output running "her user manager runs" as alice systemctl --user --wait is-system-running
        check_output "*org.freedesktop.systemd1*" "her bus runs" as alice busctl --user list
        check_output "/usr/local/sbin:*" "her path is the usual one" as alice printenv PATH
        check_status 3 "the status of what a user runs is handed on" as alice bash -c 'exit 3'
        check_error "*no user mallory*" "an unknown user is refused" as mallory true
}

# Is the user active, in polkit's sense?
reboot_allowed() {
        # shellcheck disable=SC2016
        as "$@" bash -c 'pkcheck --action-id org.freedesktop.login1.reboot --process $$'
}

check_sessions() {
        # shellcheck disable=SC2016
        check_output "*Seat=seat0*Remote=no*Active=yes*" "a session is local and active" \
                as --session alice bash -c 'loginctl show-session "$XDG_SESSION_ID"'
        check "polkit takes a user in a session for active" reboot_allowed --session alice
        check_status 2 "polkit takes nobody else for active" reboot_allowed alice
        check_output running "a session brings its user's manager" \
                as --session bob systemctl --user --wait is-system-running
}

in_scope() {
        systemd-run --quiet --scope --collect --property="$1" "${@:2}"
}

# Prints how many milliseconds of processor time a busy program gets in two seconds.
busy_ms() {
        local TIMEFORMAT=%U

        { time in_scope CPUQuota=20% timeout 2 bash -c 'while :; do :; done' || :; } 2>&1 |
                sed 's/[.,]//; s/^0*//'
}

quota_enforced() {
        local ms

        ms=$(busy_ms) && echo "$ms ms" && [ "$ms" -gt 0 ] && [ "$ms" -lt 700 ]
}

check_limits() {
        local forks='
import os
count = 0
try:
    while count < 100 and os.fork():
        count += 1
except BlockingIOError:
    print(count, flush=True)
os._exit(0)'

        check_status 137 "a 200 MB allocation in a scope of 50 MB is killed" \
                in_scope MemoryMax=50M python3 -c 'bytearray(200 << 20)'
        check_status 0 "it is not in a scope of 400 MB" \
                in_scope MemoryMax=400M python3 -c 'bytearray(200 << 20)'
        check "a busy program in a scope with a quota of 20 % gets no more" quota_enforced
        check_output 9 "a scope of ten tasks has no eleventh" in_scope TasksMax=10 python3 -c "$forks"
}

#
# Outside
#

# What a host leaves behind outside of it would be left in this TMPDIR. There need not be a build.
host() {
        TMPDIR=$scratch/tmp "$tests/host" --no-install "$@"
}

check_command() {
        local file=/root/vmctl-test-host-$$

        check_status 7 "the exit status is handed on" host -- bash -c 'exit 7'
        # shellcheck disable=SC2016
        check_status 137 "so is a signal" host -- bash -c 'kill -KILL $$'
        check_status 127 "so is that there is no such command" host -- /nonexistent
        # shellcheck disable=SC2016
        check_output '<a b><$x "y><><*>' "arguments arrive as they are" \
                host -- printf '<%s>' 'a b' '$x "y' '' '*'
        check_output through "so does standard input, and nothing else is printed" host -- cat <<< through
        # shellcheck disable=SC2016
        check_output "$tests in $tests" "so do the working directory and the environment" \
                env --chdir="$tests" TMPDIR="$scratch/tmp" VARIABLE="$tests" \
                "$tests/host" --no-install -- bash -c 'echo "$PWD in $VARIABLE"'

        check "the host can write where this machine's files are" host --os machine -- touch "$file"
        check_status 1 "it doesn't write to them" test -e "$file"
        check "it can write to the tree" host -- bash -c "cat '$0' && touch '$tests/test-host-$$'"
        check_status 1 "... which is a copy" test -e "$tests/test-host-$$"
        mkdir "$scratch/shared"
        check "it does where it is given a directory" \
                host --bind "$scratch/shared:/mnt/shared" -- touch /mnt/shared/file
        check "which is seen here" test -e "$scratch/shared/file"
        check_output "12.*" "it is a Debian 12" host --os bookworm -- cat /etc/debian_version
        check_output "13.*" "... or 13" host --os trixie -- cat /etc/debian_version
        check_output cgroup2fs "it has cgroup version 2 alone if told so" \
                host --cgroup2 -- stat --file-system --format=%T /sys/fs/cgroup
        check_output dbus-broker.service "its bus is dbus-broker if told so" \
                host --bus broker -- systemctl show --property=Id --value dbus.service
        check_error "*no bus ibus*" "... and no other" host --bus ibus -- true

        check_status 2 "no command is wrong usage" host
        check_status 2 "an unknown option, too" host --nonsense -- true
        check_error "*nothing is built in /nonexistent*" "a missing build is told" \
                host --build /nonexistent -- true
}

check_terminal() {
        check_output "*/dev/pts/*" "a terminal is one to the command, too" script --quiet --return \
                --command "TMPDIR=$scratch/tmp '$tests/host' --no-install -- tty" /dev/null

        # shellcheck disable=SC2016
        check "a shell has job control" env TMPDIR="$scratch/tmp" HOST="$tests/host" expect -c '
                set timeout 60
                proc await {pattern} {
                        expect {
                                timeout { puts "no $pattern"; exit 1 }
                                eof { puts "end instead of $pattern"; exit 1 }
                                $pattern {}
                        }
                }
                spawn $env(HOST) --no-install --as alice -- env PS1=shell> bash --norc --noprofile
                await "shell>"
                send "echo re\$(echo ady); cat\r"
                await "ready\r\n"
                send "line\r"
                await "line\r\nline\r\n"
                send "\x1a"
                await "Stopped"
                await "shell>"
                send "fg\r"
                await "cat\r\n"
                send "line\r"
                await "line\r\nline\r\n"
                send "\x03"
                await "shell>"
                send "exit 5\r"
                expect eof
                exit [expr {[lindex [wait] 3] != 5}]'
}

check_install() {
        local project=$scratch/project

        mkdir "$project"
        cat > "$project/meson.build" <<'EOF'
project('dummy')
install_data('dummy', install_dir : '/usr/lib/vmctl-test')
install_data('dummy.conf', install_dir : '/usr/lib/sysusers.d')
EOF
        echo dummy > "$project/dummy"
        echo 'g vmctl-test -' > "$project/dummy.conf"
        meson setup "$project/build" "$project" > /dev/null

        check_output dummy "the build is installed" \
                host --bind "$project" --build "$project/build" -- cat /usr/lib/vmctl-test/dummy
        check_output "vmctl-test:*" "its groups are made" \
                host --bind "$project" --build "$project/build" -- getent group vmctl-test
        check_status 1 "it isn't on this machine" test -e /usr/lib/vmctl-test
        check_status 1 "what is installed on this machine is still on record" \
                test -e "$project/build/meson-logs/install-log.txt"
}

# Starts a host in the background. All that belongs to it, here or inside, holds an end of the FIFO: when that ends,
# no process is left, and with them go namespaces and mounts. (Numbers of namespaces are soon another's.)
start_held() {
        rm -f "$scratch/life"
        mkfifo "$scratch/life"
        env --default-signal TMPDIR="$scratch/tmp" setsid "$tests/host" --no-install "$@" -- \
                bash -c 'echo up; exec sleep infinity' \
                > "$scratch/life" 2>&1 &
        held=$!
        exec {life}< "$scratch/life"
}

await_held() {
        while read -r -t 30 -u "$life" && [ "$REPLY" != up ]; do :; done
        [ "$REPLY" = up ]
}

await_end() {
        timeout 20 cat <&"$life"
}

nothing_is_left() {
        [ -z "$(ls -A "$scratch/tmp")" ] &&
                [ -z "$(find /sys/fs/cgroup -name "vmctl-host-$held")" ] &&
                await_end
}

end_held() {
        local expected=$1 status=0

        shift
        kill "$@"
        wait "$held" 2> /dev/null || status=$?
        [ $status -eq "$expected" ] && { [ $status -ne 137 ] || await_end; }
}

check_ends() {
        local delay

        check "a host stays up" start_held && await_held
        check_output running "another runs at the same time" host -- systemctl is-system-running
        check_status 1 "a running host has traces" nothing_is_left
        check "SIGTERM ends it" end_held 143 -TERM "$held"
        check "nothing is left" nothing_is_left

        start_held && await_held
        check "Ctrl-C ends a host" end_held 130 -INT -- "-$held"
        check "nothing is left" nothing_is_left

        start_held && await_held
        check "SIGKILL ends a host" end_held 137 -KILL "$held"
        check "nothing is left" nothing_is_left

        start_held && await_held
        check "SIGKILL to all of its process group ends a host" end_held 137 -KILL -- "-$held"
        check "nothing is left" nothing_is_left

        for delay in 0.02 0.1 0.2 0.3; do
                start_held
                sleep $delay
                check "SIGKILL after $delay s ends a host" end_held 137 -KILL "$held"
                check "nothing is left" nothing_is_left
        done

        check_output "" "what a command leaves running ends with it" host -- bash -c 'sleep infinity &'
}

check_state() {
        local state=$scratch/state

        check_status 143 "a reboot ends the command" host --state "$state" -- \
                bash -c 'echo kept > /root/file; systemctl reboot; exec sleep infinity'
        check_output kept "the disk is there after it" host --state "$state" -- cat /root/file

        start_held --state "$state" && await_held
        check_error "*in use by another host*" "two hosts can't have one disk" host --state "$state" -- true
        check "the first is ended" end_held 143 -TERM "$held"

        check_error "*neither empty nor a host's disk*" "no other folder is taken for a disk" \
                host --state "$scratch" -- true

        mkdir -p "$state/upper/usr/lib/systemd"
        ln -sf /bin/false "$state/upper/usr/lib/systemd/systemd"
        check_status 125 "a host that does not boot ends with 125" host --state "$state" -- true
        check_error "*PID 1 died*" "the reason is told" host --state "$state" -- true
        held=
        check "nothing is left" nothing_is_left
}

if [ -d /run/vmctl-host ]; then
        check_boot
        check_users
        check_sessions
        check_limits
        exit
fi

[ "$(id -u)" -eq 0 ] || skip "needs root"
mkdir "$scratch/tmp"

if host -- "$tests/test-host.sh" | sed '/^1\.\./d'; then
        pass "a host is as expected"
else
        fail "a host is as expected"
fi
check_command
check_terminal
check_install
check_ends
check_state
