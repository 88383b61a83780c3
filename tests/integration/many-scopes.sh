#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 300
#
# What a thousand VMs cost of the bus's limits, which are 512 matches and 128 calls a connection: their scopes, around
# processes that do nothing, watched as vmctld does it.

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

readonly n=1000

exec {output}< <(exec "${BUILD:-$tests/../build}/tests/integration/many-scopes" $n 2>&1)
program=$!
said() {
        timeout 200 sed "/^$1/q" <&"$output" | tee "$scratch/said" && grep -q "^$1" "$scratch/said"
}

check "A thousand scopes are made at once" said "all run"
check_output "all run, 2 matches" "... and watched by one match, beside that of PID 1's name" cat "$scratch/said"
# In one transaction, as a host that shuts down does it
systemctl stop --no-block vmctl.slice
check "PID 1 stops them, of which each is told" said "all are asked to stop"
check "... and that it is gone" said "all are gone"
check_output "*all are gone, 2 matches" "... and then there is one match again" cat "$scratch/said"
check "The program ends" tail --pid="$program" --follow /dev/null
check_output "" "Nothing is left" systemctl list-units --plain --no-legend --all 'vmctl-many-*.scope'
