#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 300
#
# What users of one host can do to each other, and to root, by what the service does for all of them at once.

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"
# shellcheck source=tests/image.sh
. "$tests/image.sh"

useradd --create-home --shell /bin/bash mallory
usermod --append --groups vmctl mallory
usermod --append --groups vmctl bob
serve

define roots
make_disk "$www/disk.raw" 65536 1M
digest=$(sha256sum "$www/disk.raw" | cut --delimiter=" " --fields=1)

#
# Pulls of one URL
#

close_gate
follow first as mallory pull "$url/gate/disk.raw" name=mallorys
check "Somebody pulls a URL" reaches first "^[a-z]+ [0-9]"
follow bobs as bob pull "$url/gate/disk.raw" name=bobs
follow wrong as mallory pull "$url/gate/disk.raw" name=wrong "sha256=${digest//[0-9]/0}"
check "... and somebody else, too" eval 'reaches bobs "^job" && reaches wrong "^job"'
check_error "*Access denied*" "Who was first cannot call the other's off" \
        as mallory busctl call org.vmctl1 "$(job_of bobs)" org.vmctl1.Job Cancel
check "... but their own" as mallory busctl call org.vmctl1 "$(job_of first)" org.vmctl1.Job Cancel
open_gate
check_output "done" "The other one gets the image" ends bobs
check_output false "... in private" image_prop bobs Shared
check "... as it should be" has_content bobs "$www/disk.raw"
check_error "*password*" "... which the first does not see" \
        as mallory busctl get-property org.vmctl1 /org/vmctl1/image/bobs org.vmctl1.Image URL
check_output "failed org.vmctl1.Error.DigestMismatch:*" "A digest that is wrong harms its own pull alone" ends wrong

close_gate
follow shared pull "$url/gate/disk.raw" name=roots-image
check "Root pulls for everybody" reaches shared "^[a-z]+ [0-9]"
check_error "refused org.vmctl1.Error.ImageExists:*" "... and at the same time, by the same name, for root alone" \
        "$image_call" pull "$url/gate/disk.raw" name=roots-image shared?=no
open_gate
check_output "done" "Only the first is done" ends shared

#
# Records that cannot be read
#

systemctl stop vmctld
mkdir /var/lib/vmctl/vms/lost
echo '{}' > /var/lib/vmctl/vms/lost/vm.json
systemctl start vmctld
manager_as() {
        local user=$1

        as "$user" busctl --json=short "${@:2}"
}
check_output '*"data":[[]]*' "What cannot be read is for root to see" \
        manager_as mallory get-property org.vmctl1 /org/vmctl1 org.vmctl1.Manager BrokenRecords
check_error "*Access denied*" "... and to remove" \
        manager_as mallory call org.vmctl1 /org/vmctl1 org.vmctl1.Manager RemoveBrokenRecord ss vm lost
for name in ../lost lost/ lost/vm.json . .. "" roots; do
        check_error "*There is no VM*" "Root cannot remove '$name' as such" \
                busctl call org.vmctl1 /org/vmctl1 org.vmctl1.Manager RemoveBrokenRecord ss vm "$name"
done
check "The VM of that name is still there" vmctl status roots

#
# The journal
#

# entries REGEX: how many of the service's match
entries() {
        journalctl --sync
        journalctl --unit vmctld --output cat | grep --count --extended-regexp -e "$1" || : # it fails when there is none
}

check_error "refused org.vmctl1.Error.InvalidName: *" "A name of two lines is refused" \
        as mallory "$image_call" import $'x\nVM \'roots\' was destroyed for user 0' "$www/disk.raw"
check_output 0 "... and not in the journal" entries "roots' was destroyed"
check_error "refused org.vmctl1.Error.ImageExists: *" "So is one that is taken" \
        as mallory "$image_call" import bobs "$www/disk.raw"
check_output 0 "No refused call fails by lack of memory there" entries "out of memory"

check "Somebody has an image" as mallory "$image_call" pull "$url/plain/disk.raw" name=mallorys
check_output "*"$'\n'"3000 done" "... and pulls it 3,000 times more" \
        as mallory python3 "$tests/integration/attack.py" pulls 3000 "$url/plain/disk.raw" < /dev/null
check "That takes a part of the journal that leaves room for others" at_most 1100 entries "user $(id --user mallory)"
check_output "[12]" "... where it says that something is missing" entries "User $(id --user mallory) .* left out"
check "Somebody else does something" as bob "$image_call" import bobs-too "$www/disk.raw"
check "... and so does root" vmctl destroy roots
check_output 2 "Both are in the journal" entries "'(bobs-too|roots)' was (imported|destroyed)"
