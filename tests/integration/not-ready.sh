#!/bin/bash
# shellcheck source=tests/integration/lib.sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A guest that never gets ready: the error says how far it came, and the VM stays.
. "$(dirname "$0")/lib.sh"

# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

cat > "$scratch/VMFile.kdl" << EOK
vm "silent" {
    image "$guest/boot.qcow2"
    memory 256
    display "none"
    accel "tcg"
    cloud-init { }
    ssh { user "vm"; }
}
EOK
check "A VM is started" vmctl up --file "$scratch/VMFile.kdl"
check "Its guest is up" booted silent
come_up() {
        vmctl up --file "$scratch/VMFile.kdl" --wait --timeout 20 &> "$scratch/told"
}
check_status 124 "A guest without sshd is not waited for in vain" come_up
check "... the error names the stage" grep --quiet "has come to 'waiting for sshd'" "$scratch/told"
check "... and has the console's last lines" grep --quiet "^ *GUEST READY" "$scratch/told"
check_output running "The VM stays up" prop silent State
check_output 0 "No job is left" eval "busctl --json=short call org.vmctl1 /org/vmctl1 org.vmctl1.Manager ListJobs | jq '.data[0] | length'"
