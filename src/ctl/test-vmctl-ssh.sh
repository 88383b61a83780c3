#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Usage: test-vmctl-ssh.sh VMCTL TEST-SERVICE TESTS-FOLDER
#
# 'vmctl ssh-config' with the real ssh, scp, sftp and rsync, and 'vmctl cp': where a guest's sshd would be there is one
# of this host.

# What eval gets is expanded by it, and so used there.
# shellcheck disable=SC2016,SC2034

# shellcheck source=src/ctl/test-vmctl-lib.sh
. "$(dirname "$0")/test-vmctl-lib.sh" "$@"

sshd=$(PATH=$PATH:/usr/sbin:/sbin type -P sshd) || exit 77
[ "$(id -u)" -ne 0 ] || mkdir -p /run/sshd
HOME=$scratch/home
export HOME FAKE_USER
FAKE_USER=$(id -un)
mkdir -m 0700 "$HOME"

# start_sshd PORT: a guest's; its log says when it listens.
ssh-keygen -q -t ed25519 -N "" -C "" -f "$scratch/host"
ssh-keygen -q -t ed25519 -N "" -C "" -f "$scratch/web.key"
cat > "$scratch/sshd_config" << END
HostKey $scratch/host
AuthorizedKeysFile $scratch/web.key.pub
StrictModes no
UsePAM no
PidFile none
ListenAddress 127.0.0.1
PermitRootLogin yes
AcceptEnv *
SetEnv GUEST=yes
Subsystem sftp internal-sftp -d $scratch/guest
END
start_sshd() {
        local line

        exec {log}< <(exec "$sshd" -D -e -f "$scratch/sshd_config" -p "$1" 2>&1)
        sshd_pid=$!
        while read -r -t 10 -u "$log" line; do
                [[ $line != *"Server listening"* ]] || return 0
        done
        return 1
}

mkdir "$scratch/guest" "$scratch/here" "$scratch/bin"
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
start_sshd "$port" || exit
start_service web=running:"$port" db=stopped:10023 none=running others=running:"$port" || exit
trap 'kill $sshd_pid; end' EXIT
: > "$scratch/web.known_hosts"
ln -s "$vmctl" "$scratch/bin/vmctl"
PATH=$scratch/bin:$PATH
cd "$scratch/here" || exit

#
# ssh-config
#

check_output "*
Host vm/web web.vm
    HostName 127.0.0.1
    Port $port
    User $FAKE_USER
    IdentityFile $scratch/web.key
    IdentitiesOnly yes
    HostKeyAlias vmctl-web
    UserKnownHostsFile $scratch/web.known_hosts
    StrictHostKeyChecking accept-new

Host vm/db db.vm
*    HostKeyAlias vmctl-6c1f
    StrictHostKeyChecking accept-new*" "ssh-config describes each VM, also one that does not run" v ssh-config
check_output "" "but none without a network" eval '! v ssh-config | grep none'
check_output "1" "or those that are named" eval 'v ssh-config db | grep -c ^Host'
check_output "*'none' cannot be reached by ssh*" "which can fail" v_errors 1 ssh-config none
check_output "*exclude each other*" "names are not installed" v_errors 2 ssh-config --install web
check_output "*'vmctl ssh-config --install'*" "nothing is renewed that is not there" v_errors 1 ssh-config --update
v ssh-config > "$scratch/printed"
check_output "127.0.0.1" "ssh reads it" eval 'ssh -F "$scratch/printed" -G web.vm | sed -n "s/^hostname //p"'

config=$HOME/.ssh/config
check "ssh-config is installed where there is no configuration" v ssh-config --install
check_output $'600\n700' "for the user's eyes alone" stat --format=%a "$config" "$HOME/.ssh/vmctl"
check_output "# *
Include $HOME/.ssh/vmctl/update.conf
Include $HOME/.ssh/vmctl/hosts.conf" "by lines of Include" cat "$config"
check "it is taken back" v ssh-config --uninstall
check "with all files" eval '[ ! -s "$config" ] && [ ! -e "$HOME/.ssh/vmctl" ]'
check "also where it is not installed" v ssh-config --uninstall

mkdir "$HOME/dotfiles"
printf 'User somebody\nHost web.vm\n    Port 1' > "$HOME/dotfiles/config"
chmod 0640 "$HOME/dotfiles/config"
cp "$HOME/dotfiles/config" "$scratch/before"
ln -sf ../dotfiles/config "$config"
check "ssh-config is installed in a configuration" v ssh-config --install
cp "$config" "$scratch/installed"
inode=$(stat --dereference --format=%i "$config" "$HOME/.ssh/vmctl/hosts.conf")
check "twice" v ssh-config --install
check "which changes nothing" eval 'cmp "$config" "$scratch/installed" &&
        [ "$inode" = "$(stat --dereference --format=%i "$config" "$HOME/.ssh/vmctl/hosts.conf")" ]'
check_output "640" "a link is followed, the mode stays" eval '[ -L "$config" ] && stat --format=%a "$HOME/dotfiles/config"'

s() {
        timeout 20 "$1" -F "$config" -o BatchMode=yes "${@:2}"
}
check_output "$port $FAKE_USER" "what it says holds before the rest" eval \
        's ssh -G web.vm | sed -n "s/^\(port\|user\) //p" | sort | xargs'
check_output "somebody 22" "which holds for others" eval 's ssh -G example.com | sed -n "s/^\(port\|user\) //p" | xargs'
check_output "yes" "ssh vm/NAME" s ssh vm/web 'echo $GUEST'
check_output "vmctl-web ssh-ed25519 *" "pins the host key" eval \
        'ssh-keygen -F vmctl-web -f "$scratch/web.known_hosts" | tail -1'
check_output "yes" "ssh NAME.vm" s ssh web.vm 'echo $GUEST'
echo content > file
check "scp" eval 's scp -q file web.vm: && s scp -q web.vm:file copied && cmp file copied && cmp file ../guest/file'
check "sftp" eval 'echo "get file got" | s sftp -b - vm/web > /dev/null && cmp file got'
if type -P rsync > /dev/null; then
        check "rsync" eval 'mkdir tree && cp file tree && timeout 20 rsync --archive \
                --rsh "ssh -F $config -o BatchMode=yes" tree "web.vm:$scratch/guest" && cmp file ../guest/tree/file'
fi
check "a VM that is made later" v create late --kernel file
check "is known to those who list hosts" grep -q "^Host vm/late late.vm$" "$HOME/.ssh/vmctl/hosts.conf"
check "one that others made" busctl --user --quiet call org.vmctl1 /org/vmctl1 org.vmctl1.Manager CreateVM 'sa{sv}' late.2 0
check_output "10024" "is known when ssh is to reach it" eval 's ssh -G late.2.vm | sed -n "s/^port //p"'
check "many at once leave a whole file" eval \
        'for i in {1..8}; do s ssh -G web.vm > /dev/null & pids+=($!); done; wait "${pids[@]}" &&
        s ssh -G web.vm | grep -q "^port $port"'
check "uninstalling leaves what was there" eval 'v ssh-config --uninstall && cmp "$config" "$scratch/before" && [ -L "$config" ]'

printf 'Port 1\0\n' > "$scratch/binary"
cp "$scratch/binary" "$config"
check_output "*Failed to change*" "what is no text stays as it is" eval 'v_errors 1 ssh-config --install &&
        cmp "$config" "$scratch/binary"'

#
# cp
#

rm -rf ../guest/* ./*
echo content > file
chmod 0640 file
touch -d 2001-01-01 file
mkdir -p tree/sub/empty
echo b > tree/sub/b
ln -s sub/b tree/link
mkfifo tree/fifo
check "a file is copied to the guest" v cp file web:
check "and back" v cp web:file back
check "as it was" eval 'cmp file back && cmp file ../guest/file'
check_output $'640\n640' "with its mode" stat --format=%a back ../guest/file
check "in a home by its sign, and in folders" eval 'v cp file web:~/by-home && v cp file "web:$scratch/guest/absolute" &&
        cmp file ../guest/by-home && cmp file ../guest/absolute && v cp web:by-home tree/ && cmp file tree/by-home'
check "times are kept if wanted" eval 'v cp -p file web:kept && v cp --preserve web:kept kept &&
        [ ! kept -nt file ] && [ ! kept -ot file ] && [ back -nt file ]'
rm tree/by-home
check "a folder is copied" v cp -r tree web:new
check_output "*1 of the files in 'tree' were left out*" "into one that is there, too, and says what is not" \
        v_errors 0 cp -r tree web:new
check "with all that is in it" eval 'rm tree/fifo && diff --no-dereference -r tree ../guest/new/tree &&
        rm -r ../guest/new/tree && diff --no-dereference -r tree ../guest/new'
check "and back under another name" eval 'v cp -r web:new old && diff --no-dereference -r tree old'
check "or its own" eval 'mkdir in && v cp -r web:new in && diff --no-dereference -r tree in/new'
check "or what is in it" eval 'mkdir bare && v cp -r web:new/. bare && diff --no-dereference -r tree bare &&
        (cd tree && v cp -r . "web:$scratch/guest/new") && [ ! -e ../guest/new/tree ]'
check "several files" eval 'v cp file back web:new/ && v cp web:new/file web:new/back in && cmp file in/back'
check_output "*'tree'*'-r'*" "a folder needs -r" v_errors 1 cp tree web:
check_output "*'web:new'*folder*" "there, too" v_errors 1 cp web:new other
check_output "*'none'*" "a file that is not there" v_errors 1 cp none web:
check_output "*no 'none'*" "nor there" v_errors 1 cp web:none other
check_output "*no folder*none*" "several files need a folder" v_errors 1 cp file back web:none
check_output "*no folder 'none'*" "here, too" v_errors 1 cp web:file web:back none
check_output "*no folder*none*" "as does a slash" v_errors 1 cp file web:none/
check "of several the good ones are copied" eval '! v cp none file web:in-spite 2> /dev/null; mkdir ../guest/spite;
        ! v cp none file web:spite 2> /dev/null && cmp file ../guest/spite/file'
check "nothing half is left" eval '! find . ../guest -name ".vmctl-*" | grep .'
check "a stream is sent" eval 'seq 100000 | v cp - web:stream && seq 100000 | cmp - ../guest/stream'
check "and received" eval 'v cp web:stream - | cmp - ../guest/stream'
check "also into a device" v cp web:stream /dev/null
check "which stays one" [ -c /dev/null ]
check_output "*folder*" "a folder takes no stream" eval 'echo | v_errors 1 cp - web:new'
ln -s file alias
check "a link is written through" eval 'echo other > ../guest/file && v cp web:file alias && [ -L alias ] && grep -q other file'
check_output "*vmctl: Nothing is copied from one guest to another*Hint: *" "not between guests" v_errors 2 cp web:a db:b
check_output "*has to be a guest's*" "nor here" v_errors 2 cp a ./b:c
check_output "*stream*" "a stream is alone" v_errors 2 cp - file web:
check_output "*VM 'db': it is stopped*vmctl start db*" "a VM has to run" v_errors 1 cp file db:
check_output "*VM 'nosuch'*no such VM*" "and to be there" v_errors 1 cp file nosuch:
check_output "*Run vmctl there*" "on this host" eval \
        'timeout 20 "$vmctl" cp -H server file web: 2>&1 || :'
check_output "*no private key*Hint: *--key*" "a key is needed" v_errors 1 cp file others:
check "any will do" eval 'v cp --key "$scratch/web.key" file others:by-key && cmp file ../guest/by-key'
check_output "*vmctl-6c1f ssh-ed25519 *" "a VM of somebody else is known by its UUID" cat "$HOME/.ssh/known_hosts"
ssh-keygen -q -H -f "$HOME/.ssh/known_hosts" 2> /dev/null
check "also if the name is hashed" v cp --key "$scratch/web.key" file others:hashed
check_output 1 "which is not added again" eval 'wc -l < "$HOME/.ssh/known_hosts"'
rm -f "$HOME/.ssh/known_hosts.old"
printf 'vmctl-web %s\n' "$(cat "$scratch/web.key.pub")" > "$scratch/web.known_hosts"
check_output "*host key*" "a guest with another key is refused" v_errors 1 cp file web:forged
check "and gets nothing" [ ! -e ../guest/forged ]
: > "$scratch/web.known_hosts"
check "the first contact" v cp file web:first
check_output "vmctl-web $(cut -d' ' -f1,2 "$scratch/host.pub")" "pins its key, as ssh does" cat "$scratch/web.known_hosts"
check_output $'*Uploading*\r\e\[K*' "progress is shown on a terminal" on_terminal cp ../guest/stream web:again
check_output "" "and nowhere else" v_errors 0 cp file web:once-more

# More than a pipe holds is only taken once the file is being written.
mkfifo slow
"$vmctl" --user cp slow web:half 2> "$scratch/canceled" &
copying=$!
exec {feed}> slow
head --bytes=1M /dev/zero >&"$feed"
kill "$copying"
check_status 143 "what is ended by a signal" wait "$copying"
exec {feed}>&-
check_output "vmctl: Canceled" "says so" cat "$scratch/canceled"
check "and leaves nothing there" eval '! find ../guest -name half -o -name ".vmctl-*" | grep .'
