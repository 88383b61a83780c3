#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 600
#
# What goes wrong between the service and PID 1: scopes that are left over, a stop that is under way, notes that cannot be
# written.

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

# Small, so that it can be filled
mkdir -p /run/vmctl
mount -t tmpfs -o size=1M,mode=0711 vmctl /run/vmctl

fill() {
        ! head -c 2M /dev/zero > /run/vmctl/ballast 2> /dev/null
}

# empty_scope NAME: a scope that PID 1 keeps, since what it put there was dead already: no end of it will be seen.
empty_scope() {
        python3 - "vmctl-$1.scope" <<'END'
import os, subprocess, sys
pid = os.fork()
if pid == 0:
    os._exit(0)
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
manager = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"]
sys.exit(subprocess.call(["busctl", "--quiet", "call", *manager, "StartTransientUnit", "ssa(sv)a(sa(sv))", sys.argv[1],
                          "fail", "1", "PIDs", "au", "1", str(pid), "0"]))
END
        wait_until 60 systemctl is-active "vmctl-$1.scope"
}

# foreign_scope NAME: somebody else's, with their process in it, whose PID it sets.
foreign_scope() {
        systemd-run --quiet --scope --unit="vmctl-$1" sleep 1000 2> /dev/null &
        foreign=$!
        disown
        wait_until 60 systemctl is-active "vmctl-$1.scope"
}

failed_scope() {
        systemd-run --quiet --scope --unit="vmctl-$1" --property=RuntimeMaxSec=1 sleep 1000 2> /dev/null
        wait_for_line 60 "vmctl-$1.scope: Failed with result" journalctl --follow --lines 100 _PID=1 &&
                systemctl is-failed "vmctl-$1.scope"
}

is_attached() {
        [ "$(prop "$1" Attached)" = true ]
}

is_unknown() {
        [ "$(systemctl show --property LoadState --value "$1")" = not-found ]
}

matches+=(--match "type=signal,path=/org/freedesktop/systemd1,member=UnitRemoved")
vmctl list > /dev/null
listen

#
# Scopes that are left over
#

define left
check "A scope without processes is there" empty_scope left
check "... and does not keep its VM from being started" vmctl start left
check "... which runs then" runs_once left
vmctl kill left
wait_until 60 is_unknown vmctl-left.scope
systemctl stop vmctld
check "One is there when the service starts" eval "empty_scope left && systemctl start vmctld"
check "... which removes it" wait_until 60 is_unknown vmctl-left.scope
check "A scope of that name that has failed is there" failed_scope left
check "... and does not keep the VM from being started" vmctl start left
check "... which runs then" runs_once left
vmctl kill left
wait_until 60 is_unknown vmctl-left.scope

foreign_scope left
is_told() {
        check_error "*'vmctl-left.scope' is there already, with process $foreign in it: */sleep 1000*" "$1" vmctl start left
}
is_told "A scope with somebody else's process is an error that names it"
systemctl restart vmctld
is_told "... also after a restart"
check_output stopped "... and is not taken for the VM" prop left State
check "... nor ended" kill -0 "$foreign"
kill "$foreign"
check "... until that process ends" eval "wait_until 60 is_unknown vmctl-left.scope && vmctl start left"
check "A destroyed VM leaves none" eval "vmctl destroy left && is_gone left && is_unknown vmctl-left.scope"

#
# Scopes that PID 1 stops
#

# The power button is not heard while a command runs.
define slow --start
booted slow > /dev/null
tell slow "sh echo waiting; read -r x < /dev/ttyS0; echo done" "^waiting" > /dev/null
forget_signals
systemctl stop --no-block vmctl-slow.scope
check "A guest takes its time to shut down" await 60 "$(changed_to slow State stopping)"
check "A service that crashes meanwhile is back" crash_service
check_output stopping "... and knows of the stop" prop slow State
wait_for_line 60 "^done" vmctl console slow --timeout 60 <<< "go" > /dev/null
check "... which the guest completes" wait_until 60 state slow stopped
check_output "*GUEST POWERDOWN*" "... by itself" vmctl log slow --tail 3
check_output guest-shutdown "... and not by force" prop slow ShutdownReason

# A stop that has to wait for a unit which goes first
mkdir -p /run/systemd/system
printf '[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=true\nExecStop=/bin/sh -c "read -r _ < /run/gate"\n' \
        > /run/systemd/system/vm@slow.service
mkfifo /run/gate
systemctl daemon-reload
systemctl start vm@slow.service
vmctl start slow
booted slow 2 > /dev/null
forget_signals
systemctl stop --no-block vm@slow.service vmctl-slow.scope
stop_waits() {
        systemctl list-jobs | grep "vmctl-slow.scope *stop *waiting"
}
check "PID 1 is to stop a scope after another unit" wait_until 60 stop_waits
check_output running "... and the guest runs meanwhile" prop slow State
echo > /run/gate
check "... but not longer" await 60 "$(changed_to slow State stopping)"
check "... and is stopped" await 60 "$(changed_to slow State stopped)"

#
# PID 1 executes itself anew, as with each update of its package, and loses what it is asked meanwhile
#

meanwhile() {
        local status=0 pid

        "$@" > "$scratch/output" 2>&1 &
        pid=$!
        systemctl daemon-reexec
        wait $pid || status=$?
        cat "$scratch/output"
        return $status
}

define again
for ((i = 1; i <= 5; i++)); do
        check "A VM starts while PID 1 begins anew, $i" meanwhile vmctl start again
        check "... and is one" runs_once again
        check "... and is killed meanwhile" meanwhile vmctl kill again
done
vmctl start again
check "... and destroyed" meanwhile vmctl destroy again
check "... and leaves nothing" eval "is_gone again && wait_until 60 is_unknown vmctl-again.scope"

#
# Notes that cannot be written, or are not whole
#

define full
fill
check_error "*runtime folder*No space left on device*" "A start that cannot be noted fails" vmctl start full
check_output "*: No such process*|" "... and nothing runs" eval "pgrep --full guest=full || echo ': No such process|'"
rm /run/vmctl/ballast
hold_helper vmctl-shim
forget_signals
vmctl start full > "$scratch/start" 2>&1 &
starting=$!
await 60 "$(changed_to full State starting)" > /dev/null
wait_until 60 systemctl is-active vmctl-full.scope
fill
release_helper vmctl-shim
wait $starting
check_output 1 "So does one whose end cannot be noted" echo $?
check_output "*runtime folder*No space left on device*" "... which says why" cat "$scratch/start"
check "... and nothing runs" eval '! pgrep --full "^/usr/bin/qemu.* guest=full "'
rm /run/vmctl/ballast

# A shim that stays when it has told of the end, as one that still hands out the log does, whatever it is called
hold_helper vmctl-shim
cat > /usr/lib/vmctl/vmctl-shim << 'END'
#!/bin/bash
read -r _ < /run/vmctl-shim.gate
/usr/lib/vmctl/vmctl-shim.real "$@" &
for ((fd = 3; fd < 64; fd++)); do
        eval "exec $fd>&-"
done
wait
exec sleep 1000
END
vmctl start full > "$scratch/start" 2>&1 &
starting=$!
wait_until 60 systemctl is-active vmctl-full.scope
release_helper vmctl-shim
check "A VM starts whose shim is to stay" wait $starting
check "... when the VM was killed" eval "vmctl kill full && systemctl is-active vmctl-full.scope"
check "... which does not keep the VM from being started" vmctl start full
check "... of which it is no part" runs_once full
check "... nor from being destroyed" eval "vmctl destroy full && is_unknown vmctl-full.scope"
define full

vmctl start full
define bystander --start
define odd --start
pid=$(prop full PID)
fill
check "The service crashes while nothing can be noted" crash_service
check_output "running $pid" "... and a VM whose start was done runs on" eval "echo \$(prop full State) \$(prop full PID)"
check "... and is attached" wait_until 60 is_attached full
rm /run/vmctl/ballast
define fails --start
define ends --start
fill
kill -SEGV "$(prop fails PID)"
vmctl kill ends
wait_until 60 state fails failed
check "It crashes when ends could not be noted" crash_service
check_output "failed signal" "... and knows of a VM that has failed" eval "echo \$(prop fails State) \$(prop fails FailureReason)"
check_output stopped "... and of one that was killed" eval "echo \$(prop ends State) \$(prop ends FailureReason)"
rm /run/vmctl/ballast
vmctl destroy fails ends
for key in came-up ending kvm; do
        systemctl stop vmctld
        jq "del(.\"$key\")" /run/vmctl/full/run.json > "$scratch/run.json" && cp "$scratch/run.json" /run/vmctl/full/
        systemctl start vmctld
        check_output "running $pid" "A note without $key ends no VM" eval "echo \$(prop full State) \$(prop full PID)"
done
check_output "*notes on this run are lost*" "... but is told of" prop full Warnings

#
# A VM that cannot be taken over
#

pid=$(pgrep --full "^/usr/bin/qemu.* guest=odd ")
systemctl stop vmctld
mv /run/vmctl/odd /run/vmctl/.odd
touch /run/vmctl/odd
check "The service starts though a VM cannot be taken over" systemctl start vmctld
check_output "*could not be taken over (Not a directory)*" "... which is told" prop odd Warnings
check_output running "... and has taken over the others" prop bystander State
check_error "*'vmctl-odd.scope' is there already, with process*" "... and does not start it twice" vmctl start odd
check_output "$pid" "... for it runs" pgrep --full "^/usr/bin/qemu.* guest=odd "
systemctl stop vmctld
rm /run/vmctl/odd && mv /run/vmctl/.odd /run/vmctl/odd
systemctl start vmctld
check_output "running $pid" "It is taken over when it can be" eval "echo \$(prop odd State) \$(prop odd PID)"
systemctl stop vmctld
mv /run/vmctl/odd /run/vmctl/.odd
touch /run/vmctl/odd
systemctl start vmctld
check "One that cannot be can be destroyed" vmctl destroy odd
check "... and leaves nothing behind" eval "is_gone odd && ! kill -0 $pid"
