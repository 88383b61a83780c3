#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 120
#
# Files that a VM uses in place and that somebody writes to between two starts: an image is a reason for a warning, a
# kernel for none.

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

folder=/var/lib/images
mkdir $folder
cp "$guest/base.qcow2" "$guest/vmlinuz" $folder
image=$folder/base.qcow2
sentence="The image '$image' has changed since the VM was created: the VM's overlay may not fit its base any more"

starts_in_silence() {
        vmctl start "$1" 2> "$scratch/said" && cat "$scratch/said" && ! grep "changed" "$scratch/said" &&
                [ "$(prop "$1" Warnings | jq 'map(select(contains("changed"))) | length')" = 0 ]
}

define v --image $image --kernel $folder/vmlinuz
define w --image $image
touch --date 1960-01-01 $folder/vmlinuz
check "A file may be older than all time" define old --kernel $folder/vmlinuz --image $image
vmctl destroy old
check "A VM whose files are as they were starts without a word" starts_in_silence v
vmctl kill v
touch $folder/vmlinuz
check "... also with a kernel that was written to" starts_in_silence v
vmctl kill v

touch $image
check_output "*Warning: $sentence*" "One whose image was starts with a warning" eval "vmctl start v 2>&1"
check_output running "... and runs" prop v State
check_output "*Warning: $sentence*" "... which status shows" vmctl status v
check "... and the journal has" eval "journalctl --quiet --output cat VM_NAME=v | grep --fixed-strings --line-regexp \"$sentence\""
systemctl restart vmctld
check_output "*$sentence*" "... also after a restart of the service" prop v Warnings
vmctl kill v
check_output "*Warning: VM 'v': $sentence*Warning: VM 'w': $sentence*" "Of several VMs it says which" \
        eval "vmctl start v w 2>&1"
vmctl kill v w

cp $image $folder/new
mv $folder/new $image
check_error "*$image: another file*Hint: *" "Another file in its place is refused" vmctl start v
check_output "[[]*]" "... and nothing is said of what was before" eval "prop v Warnings | grep -v \"has changed\""
