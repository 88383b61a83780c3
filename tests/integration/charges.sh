#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 400
#
# Whatever a user's calls were charged for is given back: after hundreds of all kinds, of which many fail, are called
# off, or whose clients leave in the middle, no account holds anything.

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

usermod --append --groups vmctl bob

# usage UID: what is charged to them, as "NAME USED"
usage() {
        busctl --json=short call org.vmctl1 /org/vmctl1 org.vmctl1.Manager GetUsage |
                jq --raw-output --argjson uid "$1" '.data[0][] | select(.[0] == $uid) | "\(.[1]) \(.[2])"'
}

holds_nothing() {
        local held

        held=$(usage "$bob") || return
        [ -z "$held" ] || { echo "$held"; return 1; }
}

# No signal tells of it: what was sent to clients is given back when the bus says that they have left.
comes_to_hold_nothing() {
        local deadline=$((SECONDS + 60))

        until holds_nothing > "$scratch/held"; do
                [ $SECONDS -lt $deadline ] || { cat "$scratch/held"; return 1; }
        done
}

bob=$(id --user bob)
define roots
check_output "VMsPerUser 1" "A VM is charged to its owner" eval 'usage 0 | grep VMs'
check_output "CallsPerUser 1" "Somebody's own call is seen by them" eval \
        'as bob busctl --json=short call org.vmctl1 /org/vmctl1 org.vmctl1.Manager GetUsage | jq -r ".data[0][] | select(.[1] == \"CallsPerUser\") | \"\(.[1]) \(.[2])\""'
service=$(systemctl show --property MainPID --value vmctld)
rounds() {
        as bob python3 "$tests/integration/charges.py" 100 "$guest/vmlinuz" "$guest/initrd" > "$scratch/answers"
}
were_done() {
        local member

        for member; do
                grep "^[0-9]* $member done" "$scratch/answers" || { cat "$scratch/answers"; return 1; }
        done
}
check "Somebody makes calls of all kinds" rounds
check "... of which some were done" were_done CreateVM Destroy Start Stop Kill Suspend UpdateSpec SetLimits WaitReady \
        OpenConsoleLog ImportImage PullImage InspectImage Export Remove Cancel
check "Nothing of them is charged any more" comes_to_hold_nothing
check_output "" "No job is left" eval "busctl --json=short call org.vmctl1 /org/vmctl1 org.vmctl1.Manager ListJobs | jq -r '.data[0][]'"
check_output "$service" "The service that did all this is still the same" systemctl show --property MainPID --value vmctld
