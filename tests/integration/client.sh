#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 600
#
# vmctl with the service, guests, polkit and another host: what test-vmctl.sh can't see without them.

# Words for expect and eval are expanded there.
# shellcheck disable=SC2016

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

# A guest with something like an sshd, and one without.
check "VMs are made" define talks --network user --append \
        'console=ttyS0 quiet vmtest.run="net" vmtest.run="listen 22"'
check "... and started" define deaf --network user --start

#
# ssh
#

check "start --wait returns when sshd answers" vmctl start talks --wait --timeout 60
check_output "*GUEST READY*" "The guest is up then" vmctl log talks
check_output "*talks - running*Network: user*SSH: vm@127.0.0.1 port 10*GUEST READY*" "status tells" vmctl status talks
check_status 255 "ssh becomes ssh(1), whose status it hands on" vmctl ssh talks true
check_error "*You have several VMs: *deaf*talks*Hint: *" "ssh needs a name where there are several" vmctl ssh
check_status 124 "start --wait can wait in vain" vmctl start deaf --wait --timeout 3

exec {waiting}< <(vmctl ssh deaf --timeout 60 2>&1; echo "status $?")
check "A VM that is waited for is killed" vmctl kill deaf
check_output "*VM 'deaf': it is stop*status 1" "Who waits is told at once" timeout 60 cat <&"$waiting"

#
# Console and log on a terminal
#

check_output "*Connected to the console*ok facts*Detached from*isig icanon*echo *" \
        "console types what is typed, up to Ctrl-], and leaves the terminal as it was" expect -c '
                set timeout 60
                spawn sh -c "vmctl console talks; stty -a"
                expect "detaches."
                send "facts\r"
                expect "ok facts"
                send "\x1d"
                expect eof'
check_output "*isig icanon*echo *" "It does so when it is killed" expect -c '
                set timeout 60
                spawn sh -c "vmctl console talks & echo \$! is it; fg; stty -a"
                expect -re {([0-9]+) is it}
                set pid $expect_out(1,string)
                expect "detaches."
                exec kill $pid
                expect eof'
check "console needs no terminal" tell talks facts "^ok facts"

on_terminal() {
        TERM=xterm script --quiet --return --command "$*" /dev/null < /dev/null
}
check "A guest retitles the window" tell talks 'sh printf "\033]0;bad\007 \033[32mgood\n"' "ok sh"
check_output $'*\e\[32mgood*' "log leaves colours on a terminal" on_terminal vmctl log talks -n 3
check_status 1 "... and nothing else" eval 'on_terminal vmctl log talks | grep bad'
check "... and all in a pipe" eval 'vmctl log talks | grep bad'

#
# A crash of the service
#

exec {events}< <(exec timeout 300 vmctl monitor)
check "A guest doesn't heed its power button" tell talks ignore-power "ok ignore-power"
exec {stopping}< <(vmctl stop talks --timeout 60 2>&1; echo "status $?")
check "It is told to stop" wait_until 60 state talks stopping
check "The service is killed" systemctl kill --signal=KILL vmctld
check "It comes back" wait_until 60 state talks running stopping
check "The guest goes down by itself" tell talks poweroff ""
check_output "status 0" "stop sees that, across the crash" timeout 90 cat <&"$stopping"
check_output stopped "... and it is true" prop talks State
check_output "*talks state stopping*vmctld service gone*vmctld service started*talks state stopped*" \
        "monitor saw it all" sed "/state stopped/q" <&"$events"

#
# Users
#

check_output "NAME *" "A user without VMs has an empty list" as alice vmctl list
check_output "*vmctld *, the system service*" "... of the system service" as alice vmctl status
check_error "*needs a password*Hint: *vmctl*" "Root's VM isn't hers" as alice vmctl start talks --no-ask-password
echo root:secret | chpasswd
check_output "*assword*AUTHENTICATION COMPLETE*done 0*" "On a terminal she is asked for a password" \
        expect -c '
                set timeout 60
                spawn '"$tests"'/as --session alice sh -c "vmctl start talks; echo done \$?"
                expect "assword:"
                # What is typed before the agent has switched the echo off, it throws away.
                set timeout 3
                for {set i 0} {$i < 6} {incr i} {
                        send "secret\r"
                        expect "AUTHENTICATION COMPLETE" break timeout {}
                }
                set timeout 60
                expect eof'
check_output running "... and it is done" prop talks State

#
# Another host
#

ssh-keygen -q -t ed25519 -N "" -f "$scratch/key"
install -d -m 0700 /root/.ssh /run/sshd
cat "$scratch/key.pub" > /root/.ssh/authorized_keys
cat > /root/.ssh/config << END
Host *
        IdentityFile $scratch/key
        StrictHostKeyChecking no
        LogLevel ERROR
END
ssh-keygen -q -t ed25519 -N "" -f "$scratch/host-key"
/usr/sbin/sshd -f /dev/null -h "$scratch/host-key" -o Port=2222 -o ListenAddress=127.0.0.1 -o PermitRootLogin=yes
there=(vmctl -H root@127.0.0.1:2222)

check_output $'NAME *\ndeaf *\ntalks *' "list" "${there[@]}" list
check_output "*on root@127.0.0.1:2222*" "status" "${there[@]}" status
check "stop waits" "${there[@]}" stop talks --timeout 30
check_output stopped "... for the end" prop talks State
check "start --wait" "${there[@]}" start talks --wait --timeout 60
check "console" wait_for_line 60 "^ok facts" "${there[@]}" console talks --timeout 60 <<< facts
check_output "*GUEST READY*" "log" "${there[@]}" log talks
check_status 255 "ssh" "${there[@]}" ssh talks true
check_error "*another host*Hint: *" "Files don't go there" "${there[@]}" create x --image "$guest/base.qcow2"
check_error "*refused*connection to the host was lost*Hint: *" "A host that can't be reached" vmctl -H root@127.0.0.1:2223 list
