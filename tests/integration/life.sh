#!/bin/bash
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 240
#
# The life of a VM over vmctl and busctl: each method, each state, and the signals that tell of them; what happens
# when methods meet each other half-way.

# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

manager() {
        busctl call org.vmctl1 /org/vmctl1 org.vmctl1.Manager "$@"
}

# stop_job NAME TIMEOUT_USEC: the job's path
stop_job() {
        busctl --json=short call org.vmctl1 "/org/vmctl1/vm/$1" org.vmctl1.VM Stop t "$2" | jq -r '.data[0]'
}

cancel() {
        busctl call org.vmctl1 "$1" org.vmctl1.Job Cancel
}

removed_job() {
        printf '"member":"JobRemoved","payload":\{"type":"uoos","data":\[[0-9]+,"%s","/org/vmctl1/vm/%s","%s"\]' "$@"
}

manager GetVersion > /dev/null # the service runs, so that its start is not what takes time
listen

# Two guests boot while the first checks run on one that need not be up.
define quiet --network user --start
define deaf --network user --start
define a --network user

check "Create says VMNew" heard '"member":"VMNew","payload":\{"type":"so","data":\["a","/org/vmctl1/vm/a"\]'
check "... and InterfacesAdded with the properties" heard \
        '"InterfacesAdded".*"/org/vmctl1/vm/a",\{.*"org.vmctl1.VM":\{.*"Name":\{"type":"s","data":"a"\}'
check "... while it is being made" heard '"InterfacesAdded".*"/org/vmctl1/vm/a",.*"State":\{"type":"s","data":"preparing"\}'
check_output "prepared" "... which is told, too" states_of a
check_output prepared "A new VM is prepared" prop a State
check_output 0 "... and has no QEMU" prop a PID

forget_signals
check "Start" vmctl start a
check_output "starting running" "Start is told state by state" states_of a
check "... with PID, run state and time" heard "$(changed_to a PID '[1-9][0-9]*')"
check "... each" heard "$(changed_to a QMPStatus running)"
pid=$(prop a PID)
check "The VM is one QEMU" runs_once a
check "Start of a running VM is fine" method a Start 'a{sv}' 0
check_output "$pid" "... and starts nothing" prop a PID
check_error "*option*nonsense*" "Start takes no unknown option" method a Start 'a{sv}' 1 nonsense s x

forget_signals
check "Suspend" vmctl suspend a
check_output suspended "... makes suspended" prop a State
check_output "suspended" "... with a signal before the reply" states_of a
check "... and an event" heard "$(event_of a stop)"
check "Suspend again is fine" method a Suspend
check_output '*"status": "paused"*' "QEMU really is paused" vmctl qmp a query-status
check "Resume" vmctl resume a
check_output running "... makes running" prop a State
check "Resume again is fine" method a Resume
check_output '*"return": {}*' "Qmp hands a command on" vmctl qmp a system_reset
check_output '*CommandNotFound*' "... and its error" method a Qmp s '{"execute":"no-such-command"}'
check_error "*" "... but no garbage" method a Qmp s '{"execute":'
check "Reset" vmctl reset a
check "... is counted" await 60 "$(changed_to a Resets '[2-9]')"
check "... and told, who asked for it, too" heard "$(event_of a reset '"guest":\{"type":"b","data":false\}')"

forget_signals
check "Kill is quick" promptly vmctl kill a
check_output stopped "... makes stopped" prop a State
check_output "stopping stopped" "... state by state" states_of a
check_output "" "... without a failure" prop a FailureReason
check "Kill of a stopped VM is fine" method a Kill
check "Stop of a stopped VM is fine" vmctl stop a
for verb in Suspend Resume Reset; do
        check_error "*does not run*" "$verb of a stopped VM is an error" method a $verb
done
check_error "*stopped*" "Qmp of a stopped VM is an error" method a Qmp s '{"execute":"query-status"}'
check_error "*console*" "OpenConsole of a stopped VM is an error" method a OpenConsole

# Two Starts at once, and things that come while it starts
start_twice() {
        local first

        method a Start 'a{sv}' 0 & first=$!
        method a Start 'a{sv}' 0 && wait $first
}
forget_signals
check "A second Start while it starts waits for the first" start_twice
check_output "starting running" "... and there was one start" states_of a
check "... and one QEMU" runs_once a
vmctl kill a

# interrupt METHOD [ARGUMENT...]: while it starts
interrupt() {
        local start status=0 done=stopped

        [ "$1" = Stop ] || done=killed
        forget_signals
        method a Start 'a{sv}' 0 2> "$scratch/start-error" & start=$!
        await 60 "$(changed_to a State starting)" > /dev/null && method a "$@" || return
        wait $start || status=$?
        await 60 "$(changed_to a State 'stopped|prepared')" || return
        # The start may have been over when the method came.
        [ $status -eq 0 ] || grep -q "was $done while it started" "$scratch/start-error" ||
                { cat "$scratch/start-error"; return 1; }
}
for i in 1 2 3; do
        check "Kill while it starts, $i" interrupt Kill
        check "Stop while it starts, $i" interrupt Stop t 1000000
done
check_output "" "These are no failures" prop a FailureReason
check "It starts after that" vmctl start a

# The power button
check "The guests are up" eval 'booted quiet && booted deaf'
ports=$(vmctl --json list | jq -r '.[] | .SSHPort // .ssh_port' | sort -u | wc -l)
check_output 3 "No two VMs share a port" echo "$ports"
serve_ssh() {
        tell quiet net "^net: eth0" && tell quiet "listen 22" "^listen: port"
}
ssh_banner() {
        timeout 60 cat < "/dev/tcp/127.0.0.1/$(prop "$1" SSHPort)"
}
check "The guest has a network" serve_ssh
check_output "SSH-2.0-vmctltest*" "Its port 22 is the VM's ssh port" ssh_banner quiet
check "A guest that ignores the power button" tell deaf ignore-power "^ok ignore-power"

forget_signals
job=$(stop_job deaf 60000000)
check "Stop says JobNew" heard "\"member\":\"JobNew\",.*\"$job\",\"/org/vmctl1/vm/deaf\""
check_output stopping "... and makes stopping" prop deaf State
check "The guest got the button" await 60 "$(event_of deaf powerdown)"
check_error "*cannot be started while it is stopping*" "Start while it stops is an error" vmctl start deaf
check "Cancel leaves the guest alone" cancel "$job"
check_output running "... so it runs" prop deaf State
check "... and the job ends as canceled" heard "$(removed_job "$job" deaf canceled)"
check_error "*" "... and is gone" cancel "$job"

forget_signals
job=$(stop_job deaf 60000000)
check_output "$job" "A second Stop joins the first" stop_job deaf 700000
check "SIGTERM follows the timeout, the shorter one" await 30 "$(removed_job "$job" deaf "done")"
check_output stopped "... which makes stopped" prop deaf State
check_output "*did not shut down in time*" "... with a warning" prop deaf Warnings
check_output "host-signal" "... and QEMU's reason" prop deaf ShutdownReason
check "It is started once more" vmctl start deaf
check_output "Warning: *did not shut down in time*" "vmctl stop says that it was by force" eval \
        'vmctl stop deaf --timeout 1 2>&1'

forget_signals
vmctl suspend quiet
check "A suspended guest that honours the button stops" vmctl stop quiet --timeout 120
check_output guest-shutdown "... by itself" prop quiet ShutdownReason
check_output stopped "... so it is stopped" prop quiet State
check "... as an event told" heard "$(event_of quiet shutdown '"reason":\{"type":"s","data":"guest-shutdown"')"
check_output "*GUEST POWERDOWN*" "... and the console shows" vmctl log quiet
check "It can be started again" vmctl start quiet
check_output "" "... and nothing of the last run is said then" prop quiet ShutdownReason

# Destroy
uid=$(prop quiet UID) port=$(prop quiet SSHPort)
forget_signals
check "Destroy of a running VM" vmctl destroy quiet
check "... says VMRemoved" heard '"member":"VMRemoved","payload":\{"type":"so","data":\["quiet","/org/vmctl1/vm/quiet"\]'
check "... and InterfacesRemoved" heard '"InterfacesRemoved".*"/org/vmctl1/vm/quiet"'
check "... and leaves nothing" is_gone quiet
check_status 1 "... no process of its user" pgrep --uid "$uid" --runstates D,R,S,T --list-full
next_gets_another_than() {
        define next && [ "$(prop next UID)" != "$1" ] && vmctl destroy next
}
check "... and its user is nobody's for now" next_gets_another_than "$uid"
check "... and the port is free" eval "! true < /dev/tcp/127.0.0.1/$port"
check_output "" "... and no folder that is to be deleted" find /var/lib/vmctl/vms -name '.*'
check_error "*no such VM*" "... nor an object" vmctl start quiet

# A name can be used again at once, whatever state the VM was in.
recycle() {
        vmctl destroy a && define a && vmctl start a
}
for i in 1 2 3 4 5; do
        check "Destroy, create and start under the same name, $i" recycle
done

destroy_while_starting() {
        method a Start 'a{sv}' 0 2> /dev/null &
        await 60 "$(changed_to a State starting)" > /dev/null
        method a Destroy && is_gone a
}
for i in 1 2 3; do
        vmctl kill a
        forget_signals
        check "Destroy while it starts, $i" destroy_while_starting
        define a
done

# The later one may find the VM gone.
two_destroys() {
        local first done=0

        method a Destroy & first=$!
        method a Destroy && done=1
        wait $first && done=1
        [ $done -eq 1 ] && is_gone a
}
vmctl start a
check "Two Destroys at once" two_destroys

# create_held: makes a VM up to where its files are to be prepared
create_held() {
        define a 2> "$scratch/create-error" &
        await 60 '"member":"VMNew".*"a"'
}
fails_with() {
        ! wait $! && grep "$1" "$scratch/create-error"
}

forget_signals
hold_helper vmctl-prepare
create_held > /dev/null
check_output preparing "A VM that is being made is preparing" prop a State
check_error "*preparing*" "... and cannot be started" method a Start 'a{sv}' 0
check_error "*preparing*" "... or killed" method a Kill
check_error "*already*" "... or made once more" define a
check "Destroy takes it back" method a Destroy
check "... its maker is told" fails_with "destroyed while it was made"
check "... and nothing is left" is_gone a
check_output "" "... of its files, either" find /var/lib/vmctl/vms -name '*a'
release_helper vmctl-prepare

check_output "" "The service found nothing wrong" journalctl -u vmctld --priority err --quiet --no-pager --output cat
