#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 600
#
# What a restarted service finds: VMs as they were, what happened to them meanwhile, monitors that are taken, and files
# that it cannot read. Crashes in the middle of something are in crash.sh.

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

# Everything about all VMs but what changes by itself, and when exactly one that never ran was done
all() {
        vmctl --json status "${names[@]}" | jq 'del(.. | .CPUUsageNSec?, .MemoryCurrent?, .MemoryPeak?) |
                del(.. | select(.State? == "prepared") | .StateChangedAt)'
}

is_as_before() {
        diff "$scratch/before" <(all)
}

# later NAME COMMAND: a guest runs it in a second.
later() {
        tell "$1" "sh (sleep 1; $2) > /dev/null 2>&1 &" "^ok sh" > /dev/null
}
readonly power_off="echo o > /proc/sysrq-trigger" panic="echo c > /proc/sysrq-trigger"

# has_ended PID: waits for a process of anybody's.
has_ended() {
        timeout 90 tail --pid="$1" --follow /dev/null
}

vmctl list > /dev/null
listen
names=(run paused still failed)
define run --network user --start
define paused --start
define still
define failed --start
define taken --start
define down --start
define crash --start
kill -SEGV "$(prop failed PID)"
check "A VM has failed" await 60 "$(changed_to failed FailureReason signal)"
check "Guests come up" eval "booted run && booted paused && booted down && booted crash"
vmctl reset run
check "One has been reset" booted run 2
vmctl suspend paused
vmctl set run cpu-weight=50

#
# The same as before
#

all > "$scratch/before"
check_output 5 "The monitors of running VMs are in the descriptor store" \
        systemctl show --property NFileDescriptorStore --value vmctld
forget_signals
check_output 100ms "PID 1 starts a service that was killed again, at once" systemctl show --property RestartUSec --value vmctld
check "... which is back then" crash_service
check "... with all VMs as they were, when their monitors have answered" wait_until 60 is_as_before
check "... which it can command" vmctl resume paused
check "... and hear" await 60 "$(changed_to paused State running)"
vmctl suspend paused
all > "$scratch/before"
check "It can be restarted" systemctl restart vmctld
check "... with all VMs as they were, when their monitors have answered" wait_until 60 is_as_before
check "It can be stopped and started" systemctl stop vmctld
check_output inactive "... (and is)" eval "systemctl is-active vmctld || :"
check "... with all VMs as they were, when their monitors have answered" wait_until 60 is_as_before
check "... which it can command" vmctl resume paused
check "... whose PIDs are theirs" runs_once run
check_output 5 "... whose monitors are in the store again" systemctl show --property NFileDescriptorStore --value vmctld

#
# What happened meanwhile, with the connection to QEMU out of the store
#

# A crashed service that takes three seconds to come back
mkdir -p /run/systemd/system/vmctld.service.d
printf '[Service]\nRestartSec=3s\n' > /run/systemd/system/vmctld.service.d/slow.conf
systemctl daemon-reload

away() {
        local pid

        for pid; do
                has_ended "$pid" || return
        done
        await 60 "$service_is_back"
}

pids=("$(prop down PID)" "$(prop crash PID)" "$(prop paused PID)")
later down "$power_off"
later crash "$panic"
forget_signals
kill -9 "$(systemctl show --property MainPID --value vmctld)"
kill -SEGV "$(prop_of_file paused qemu-pid)"
check "Guests end while the service is gone" away "${pids[@]}"
check_output "stopped guest-shutdown" "That one has shut down is seen" eval "echo \$(prop down State) \$(prop down ShutdownReason)"
check_output "failed guest-panic" "... that one has panicked" eval "echo \$(prop crash State) \$(prop crash FailureReason)"
check_output "failed signal" "... that one's QEMU has crashed" eval "echo \$(prop paused State) \$(prop paused FailureReason)"
check_output "*signal 11*" "... and how" prop paused FailureMessage
check_output running "... and that one runs" prop run State
check_output "" "Nobody is found where nobody is" prop still FailureReason
check "They can be started again" vmctl start down crash paused
check "... and come up" eval "booted down 2 && booted crash 2 && booted paused 2"

#
# ... and without it
#

pids=("$(prop down PID)" "$(prop crash PID)")
later down "$power_off"
systemctl stop vmctld
kill -ABRT "$(prop_of_file crash qemu-pid)"
check "A guest ends while the service is stopped" has_ended "${pids[0]}"
check "... and a QEMU" has_ended "${pids[1]}"
check_output stopped "That one has shut down is seen" prop down State
check_output "failed signal" "... that one's QEMU has crashed" eval "echo \$(prop crash State) \$(prop crash FailureReason)"
check "They can be started again" promptly vmctl start down crash
check "It is seen once more" systemctl restart vmctld

#
# Scopes that PID 1 stops
#

check "A guest is up" booted down 3
check "A scope that is stopped" systemctl stop vmctl-down.scope
check_output "*GUEST POWERDOWN*" "... shuts its guest down, also after restarts of the service" vmctl log down --tail 3
check_output "stopped guest-shutdown" "... and the VM is stopped" eval "echo \$(prop down State) \$(prop down ShutdownReason)"

#
# Calls that are under way when the service ends
#

hold_helper vmctl-prepare
hold_helper vmctl-shim
stopped=("$(prop paused PID)" "$(pgrep --full polkitd)")
kill -STOP "${stopped[@]}"
PYTHONPATH="$tests/integration" timeout 100 python3 - "$tests" "$guest" > "$scratch/answers" << 'EOF'
import os, pwd, signal, sys
import bus

VM, MANAGER, QUERY = "org.vmctl1.VM", "org.vmctl1.Manager", '{"execute": "query-status"}'
root, bob = bus.Connection(), bus.User(sys.argv[1], "bob", pwd.getpwnam("bob").pw_uid).connect()
options = {"network": ("s", "none"), "display": ("s", "none"), "cloud-init": ("b", False), "accel": ("s", "tcg"),
           "kernel": ("h", os.open(sys.argv[2] + "/vmlinuz", os.O_RDONLY))}
create = "/org/vmctl1", MANAGER, "CreateVM", "sa{sv}"
calls = [(root, "/org/vmctl1/vm/still", VM, "Start", "a{sv}", {}), (root, *create, "late", options),
         (root, "/org/vmctl1/vm/paused", VM, "Reset"), (root, "/org/vmctl1/vm/paused", VM, "Qmp", "s", QUERY),
         (root, "/org/vmctl1/vm/run", VM, "Stop", "t", 60000000), (bob, *create, "bobs", options)]
serials = [(who, what[2], who.send("org.vmctl1", *what)) for who, *what in calls]
for who in root, bob:  # the service works in order, and has the others then
    who.call("org.vmctl1", "/org/vmctl1", MANAGER, "GetVersion")
pid = root.call("org.freedesktop.DBus", "/", "org.freedesktop.DBus", "GetConnectionUnixProcessID", "s", "org.vmctl1")
os.kill(pid.body[0], signal.SIGTERM)
for who, member, serial in serials:
    print(member, who.wait(serial).error)
EOF
check_output "$(printf '%s org.vmctl1.Error.ServiceEnding\n' Start CreateVM Reset Qmp)
Stop None
CreateVM org.vmctl1.Error.ServiceEnding" "Who waits for an answer when the service ends is told" cat "$scratch/answers"
kill -CONT "${stopped[@]}"
release_helper vmctl-prepare
release_helper vmctl-shim
check "... a start is undone then" wait_until 60 state still stopped
check "... and a new VM is not there" is_gone late
check "... but a stop goes on" wait_until 60 state run stopped

#
# A monitor that somebody else has
#

systemctl stop vmctld
pid=$(prop_of_file taken qemu-pid)
coproc OCCUPANT {
        exec python3 -c 'import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect("/run/vmctl/taken/qmp.sock")
print(s.recv(3).decode(), flush=True)
sys.stdin.read()'
}
read -r -t 60 -u "${OCCUPANT[0]}"
systemctl start vmctld
check_output "running false $pid" "A VM whose monitor is taken is shown as it was" \
        eval "echo \$(prop taken State) \$(prop taken Attached) \$(prop taken PID)"
is_refused() {
        ! vmctl "$1" taken 2> "$scratch/said" && grep "somebody else is connected to its qmp.sock" "$scratch/said" &&
                grep "^Hint: " "$scratch/said"
}
check "... cannot be commanded, which is told soon" promptly is_refused suspend
check "... and at once, when it lasts" promptly is_refused reset
check_error "*somebody else is connected to its qmp.sock*" "... nor be asked" vmctl qmp taken query-status
exec {stopping}< <(exec busctl --timeout=60 call org.vmctl1 /org/vmctl1/vm/taken org.vmctl1.VM Stop t 0)
job=$(cut -d'"' -f2 <&"$stopping")
check "A Stop waits for the monitor" state taken stopping
check "... or until it is canceled" busctl call org.vmctl1 "$job" org.vmctl1.Job Cancel
check "... runs on" kill -0 "$pid"
check "... and Start is fine, for it runs" vmctl start taken
check_output "$pid" "... and starts nothing" pgrep --full "^/usr/bin/qemu.* guest=taken "
forget_signals
eval "exec ${OCCUPANT[1]}>&-"
check "It is attached when the monitor is free" await 60 "$(changed_to taken Attached true)"
check "... and can be commanded" vmctl suspend taken
check "... and was not told to shut down" eval '! grep --quiet POWERDOWN <(vmctl log taken)'

#
# Files that cannot be read
#

systemctl stop vmctld
cd /var/lib/vmctl/vms || exit
for name in garbage newer cut folder empty other; do
        cp -a still $name
        sed -i "s/\"still\"/\"$name\"/" $name/vm.json
done
head -c 300 /dev/urandom > garbage/vm.json
jq '.version = 99' still/vm.json > newer/vm.json
truncate --size 200 cut/vm.json
rm folder/vm.json empty/vm.json && mkdir folder/vm.json
cp still/vm.json other/vm.json
mkdir "lost+found" .hidden
check "The service starts in spite of broken files" systemctl start vmctld
broken() {
        busctl --json=short get-property org.vmctl1 /org/vmctl1 org.vmctl1.Manager BrokenVMs | jq -r '.data[]' | sort
}
for name in garbage newer cut folder empty other; do
        check "It reports $name" grep "^/var/lib/vmctl/vms/$name/vm.json: ." <(broken)
        check "... in the journal, too" eval "journalctl --quiet --output cat VM_NAME=$name | grep ."
        check_error "*" "... does not give its name away" define $name
        check "... and keeps the file" ls -d $name
done
check "... that one is of a later version" eval 'grep "^/var/lib/vmctl/vms/newer/vm.json: It has version 99" <(broken)'
check_output 6 "It reports nothing else" eval "broken | wc --lines"
check_output $'cut\nempty\nfolder\ngarbage\nnewer\nother' "vmctl lists them" vmctl list --quiet --state broken
check "... with the reasons" eval 'grep "Broken VM .cut.: /var/lib/vmctl/vms/cut/vm.json: ." <(vmctl list 2>&1)'
check_output "○ other - broken*It is that of 'still'*/var/lib/vmctl/vms/other/vm.json*" "... and shows one" vmctl status other
check_output "" "... to root alone" setpriv --reuid nobody --regid nogroup --clear-groups \
        vmctl --system list --quiet --state broken
check_output $'crash\ndown\nfailed\npaused\nrun\nstill\ntaken' "The other VMs are there" vmctl list --quiet
check "... and folders that are not VMs', too" ls -d "lost+found" .hidden

#
# ... and are removed
#

check_error "*Failed to destroy VM 'cut'*" "Who may not manage the VMs of others removes none" as bob vmctl destroy cut
check "... so it is there" ls -d cut
check "Root does" vmctl destroy cut garbage
check_output $'empty\nfolder\nnewer\nother' "... and those are not listed any more" vmctl list --quiet --state broken
check "... nor on the disk" eval '! ls -d cut garbage 2> /dev/null'
check "... and their names are free" define cut
check "... for VMs that can be destroyed" vmctl destroy cut
check_error "*There is no such VM*" "What is not there is not removed" vmctl destroy cut
check "A folder in the place of the file is in nobody's way" vmctl destroy folder empty newer other
truncate --size 1M "$scratch/spoilt.raw"
check "There is an image" vmctl image import "$scratch/spoilt.raw" --name spoilt --format raw
image=$(busctl --json=short get-property org.vmctl1 /org/vmctl1/image/spoilt org.vmctl1.Image UUID | jq -r .data)
define doomed --start
doomed=$(prop doomed PID)
systemctl stop vmctld
sed -i 's/: / :  /' doomed/vm.json "/var/lib/vmctl/images/$image/image.json"
check "The service starts without these two" systemctl start vmctld
check_output doomed "... which the VM is of that runs" vmctl list --quiet --state broken
check "... and does" kill -0 "$doomed"
check "It is destroyed" vmctl destroy doomed
check "... with what runs" is_gone doomed
check_output "*spoilt *broken*" "The image is listed" eval 'vmctl image list 2> /dev/null'
check "... and removed" vmctl image remove spoilt
check "... from the disk" test ! -e "/var/lib/vmctl/images/$image"
check_output "a(ssss) 0" "Nothing is broken any more" \
        busctl get-property org.vmctl1 /org/vmctl1 org.vmctl1.Manager BrokenRecords

#
# Notes that cannot be read, of VMs that run
#

all_are_attached() {
        local name

        for name; do
                [ "$(prop "$name" Attached)" = true ] || return
        done
}

vmctl start run crash down paused
pids=("$(prop run PID)" "$(prop crash PID)" "$(prop down PID)" "$(prop paused PID)")
systemctl stop vmctld
echo '{"shim-pid": "none"' > /run/vmctl/run/run.json
rm /run/vmctl/crash/run.json
echo '{"shim-pid": 1, "qemu-pid": 1}' > /run/vmctl/down/run.json
kill -KILL "$(prop_of_file paused shim-pid)"
rm /run/vmctl/paused/run.json
socket=$(stat --format %i /run/vmctl/run/qmp.sock)
coproc OCCUPANT {
        exec python3 -c 'import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect("/run/vmctl/down/qmp.sock")
print(s.recv(3).decode(), flush=True)
sys.stdin.read()'
}
read -r -t 60 -u "${OCCUPANT[0]}"
forget_signals
check "The service starts without its notes on runs" systemctl start vmctld
n=0
for name in run crash down paused; do
        check_output "running ${pids[n]} tcg" "What runs is found, $name" \
                eval "echo \$(prop $name State) \$(prop $name PID) \$(prop $name Accelerator)"
        check_output "*notes on this run are lost*" "... with a warning" prop $name Warnings
        check "... is not started again" vmctl start $name
        check_output "${pids[n]}" "... for it runs" pgrep --full "^/usr/bin/qemu.* guest=$name "
        n=$((n + 1))
done
check_output "$socket" "Their sockets are left alone" stat --format %i /run/vmctl/run/qmp.sock
check_output false "One whose monitor is taken is shown so" prop down Attached
check "... and can be killed all the same" vmctl kill down
check_output stopped "... as its state says" prop down State
check "The others are attached" wait_until 60 all_are_attached run crash paused
check "... and can be commanded" vmctl suspend run
check_output suspended "... as their state says" prop run State
systemctl stop vmctld
rm -r /run/vmctl/crash
systemctl start vmctld
check_output "running false ${pids[1]}" "A VM without even its folder is shown as what it is" \
        eval "echo \$(prop crash State) \$(prop crash Attached) \$(prop crash PID)"
check "... can be destroyed" vmctl destroy crash
check "... and leaves nothing behind" is_gone crash
check "One without its shim can be killed" vmctl kill paused
check "... and started" vmctl start paused
check "... which is one then" runs_once paused
systemctl restart vmctld
check "The service has new notes" runs_once run
check_output suspended "... that say the same" prop run State
eval "exec ${OCCUPANT[1]}>&-"
