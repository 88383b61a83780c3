#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A client that does not read for a while, as one that was stopped: it keeps nobody from anything, its user's others
# neither, and when it goes on it hears of the ends of jobs, and that there was more.

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

usermod --append --groups vmctl bob
mkdir -p /etc/vmctl
printf '[Limits]\nUnreadBytesPerUser=64K\n' > /etc/vmctl/vmctld.conf
attend

# the monitor's own process, which is what is stopped
monitor_pid() {
        pgrep --uid bob --exact vmctl
}
prints() {
        grep --quiet --extended-regexp -e "$1" < <(exec timeout 60 tail --follow --lines=+1 "$scratch/monitor")
}
changes() {
        local i

        for ((i = 0; i < 100; i++)); do
                vmctl suspend his && vmctl resume his || return
        done
}

check "Somebody has a VM" as bob vmctl create his --kernel "$guest/vmlinuz" --initrd "$guest/initrd" \
        --append "console=ttyS0 quiet" --no-cloud-init --memory 128M --display none --network none --accel tcg --start
: > "$scratch/monitor"
as bob bash -c 'exec vmctl monitor' > "$scratch/monitor" 2>&1 &
check "... and listens" prints "service running"
stopped=$(monitor_pid)
check "The listener stops" kill -STOP "$stopped"
check "Much happens" changes
check "Meanwhile the same user is served" promptly as bob vmctl list
check "... and others are" promptly vmctl list
check "A job ends" as bob vmctl stop his --timeout 1
check "The listener goes on" kill -CONT "$stopped"
check "It hears of the job's end" prints "his +job 1 done"
check "... and that there was more" prints "service did not keep all that happened"
check "From now on it hears all again" eval 'as bob vmctl start his && prints "his.*running"'
check_output 1 "... in order" grep --count "did not keep" "$scratch/monitor"
kill "$stopped"
# A program that makes one blocking call after the other, which answers nothing that it is asked meanwhile
blocking_calls() {
        as bob env PYTHONPATH="$tests/integration" python3 -c '
import bus
connection = bus.Connection()
connection.is_polite = False
for i in range(200):
    reply = connection.call("org.vmctl1", "/org/vmctl1/vm/his", "org.freedesktop.DBus.Properties", "GetAll",
                            "s", "org.vmctl1.VM")
    assert not reply.error, reply.error
'
}
check "Who makes blocking calls alone gets all answers" within_ms 60000 blocking_calls
# Ten clients that read nothing more, and whose calls wait: more than are tried, or fit in the account
mkfifo "$scratch/hold"
as bob python3 "$tests/integration/attack.py" hoarders 10 5 100000 < "$scratch/hold" > "$scratch/hoarders" &
hoarders=$!
exec {hold}> "$scratch/hold"
begun() {
        grep --quiet "^begun" < <(exec timeout 60 tail --follow --lines=+1 "$scratch/hoarders")
}
check "Clients stop reading in the middle of their answers" begun
check "Meanwhile the same user is served" promptly as bob vmctl list
check "... again and again" within_ms 60000 blocking_calls
check "... and others are" promptly vmctl list
exec {hold}>&-
check "They end" wait $hoarders
# A program that makes many calls, and reads what is answered when it is told to
late_reader() {
        as bob env PYTHONPATH="$tests/integration" python3 -c '
import sys, bus
connection = bus.Connection()
calls = [connection.send("org.vmctl1", "/org/vmctl1/vm/his", "org.freedesktop.DBus.Properties", "GetAll",
                         "s", "org.vmctl1.VM") for i in range(120)]
print(connection.name, flush=True)
sys.stdin.read()
print(sum(not connection.wait(call).error for call in calls), flush=True)
'
}
mkfifo "$scratch/go-on"
exec {answers}< <(late_reader < "$scratch/go-on")
exec {go_on}> "$scratch/go-on"
read -r -u "$answers" reader
check "Somebody calls and does not read, while much happens" changes
check "The bus keeps no more for them than the service may send" at_most 65536 bus_stat "$reader" OutgoingBytes
exec {go_on}>&-
check_output 120 "They read all answers then" timeout 60 head --lines 1 <&"$answers"
check_output 0 "The service was never restarted" systemctl show --property=NRestarts --value vmctld
