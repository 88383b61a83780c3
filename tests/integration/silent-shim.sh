#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 300
#
# A shim that is stopped, as a QEMU that a guest has taken over could see to, and one that is killed, while the VM
# starts, runs and stops: nobody waits for it, and what becomes of QEMU is told.

# Words for eval are expanded there.
# shellcheck disable=SC2016

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

shim_of() {
        jq -r '."shim-pid"' "/run/vmctl/$1/run.json"
}

stop_shim() {
        kill -STOP "$(shim_of "$1")"
}

# Its end is noticed before anything else is asked for.
kill_shim() {
        local shim

        shim=$(shim_of "$1") && kill -KILL "$shim" && timeout 60 tail --pid="$shim" --follow /dev/null
}

no_scope() {
        ! systemctl --quiet is-active "vmctl-$1.scope"
}

define v
vmctl list > /dev/null
listen

#
# Running
#

check "A guest is up" eval 'vmctl start v && booted v'
check "Its shim is stopped" stop_shim v
check_output "*Console: The console of VM 'v' does not answer: *" "Its status is told, with this" promptly timeout 60 vmctl status v
check_error "*The console of VM 'v' does not answer: its shim (PID *) was stopped*Hint: *" "Its log is an error" \
        timeout 60 vmctl log v --console
check_error "*The console of VM 'v' does not answer: *" "... also where it is followed" timeout 60 vmctl log v --console --follow
check_error "*The console of VM 'v' does not answer: *" "... and so is its console" timeout 60 vmctl console v
check_output running "It runs" prop v State
check "Its QEMU is killed" kill -KILL "$(prop v PID)"
check "... so the VM has failed" await 60 "$(changed_to v State failed)"
check_output "signal *how is not known*did not answer*" "... for what is known" echo "$(prop v FailureReason) $(prop v FailureMessage)"
check "... and its scope is gone" wait_until 60 no_scope v
check_output "*does not answer: what is left of vmctl-v.scope is killed*" "... which the journal tells" \
        eval 'journalctl --quiet --output cat VM_NAME=v'
check "It starts anew, and has a console" eval 'vmctl start v && booted v 2'

forget_signals
check "Its shim is stopped" stop_shim v
check "The guest powers off" vmctl qmp v system_powerdown
check "... so the VM is stopped" await 60 "$(changed_to v State stopped)"
check_output "guest-shutdown " "... as QEMU has said" echo "$(prop v ShutdownReason) $(prop v FailureReason)"

check "It starts" vmctl start v
check "... and is booted" booted v 3
forget_signals
check "Its shim is killed" kill_shim v
check_output running "It runs" prop v State
check_output "*Warning: The VM's shim was killed, so its console is cut off*GUEST READY*" "Its status is told, with this" \
        promptly timeout 60 vmctl status v
check_error "*VM 'v' has lost its console: its shim was killed*" "It has no console" timeout 60 vmctl console v
check_output "*GUEST READY*" "... but what was printed" timeout 60 vmctl log v --console
check "Its QEMU is killed" kill -KILL "$(prop v PID)"
check "... so the VM has failed" await 60 "$(changed_to v State failed)"

#
# After a restart of the service
#

check "It starts" vmctl start v
check_output "" "... without a word of what was before" eval 'prop v Warnings | jq -r ".[]" | grep shim || :'
check "Its shim is stopped" stop_shim v
check "... while there is no service" systemctl stop vmctld
check "... and its QEMU killed" kill -KILL "$(prop_of_file v qemu-pid)"
forget_signals
check "The service comes back" systemctl start vmctld
check "... and ends what is left" wait_until 60 state v failed
check "It starts anew" vmctl start v

#
# Stopping
#

for how in stop kill; do
        check "The VM's shim gets its signal" ${how}_shim v
        check "The VM is stopped all the same" within_ms 60000 vmctl stop v --timeout 3
        check_output stopped "... as its state says" prop v State
        check "... with its scope" wait_until 60 no_scope v
        check "It starts anew" vmctl start v
        check "The shim gets its signal again" ${how}_shim v
        check "The VM is killed all the same" within_ms 60000 vmctl kill v
        check_output stopped "... as its state says" prop v State
        check "It starts anew" vmctl start v
done
vmctl kill v

#
# Starting
#

# A shim that says what it is and waits, as one that is stopped between two steps
shim=/usr/lib/vmctl/vmctl-shim
mv $shim $shim.real
printf '#!/bin/sh\necho $$ > %s\nexec sleep 600\n' "$scratch/pid" > $shim
chmod +x $shim
mkfifo "$scratch/pid"
for signal in STOP KILL; do
        vmctl start v > "$scratch/started" 2>&1 &
        starting=$!
        read -r pid < "$scratch/pid"
        check_output starting "A VM is about to start" prop v State
        check "Its shim gets a SIG$signal" kill -$signal "$pid"
        [ $signal = KILL ] || check "It can be killed" within_ms 60000 vmctl kill v
        check_status 1 "The start fails" wait $starting
        check "... and nothing is left" wait_until 60 eval 'no_scope v && state v prepared stopped failed'
done
mv $shim.real $shim
check "It starts with one that answers" vmctl start v
check "... and is up" booted v 1
