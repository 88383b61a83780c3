#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 120
#
# Files that a VM uses in place are opened with the rights that its owner has when it starts. And KVM is looked at when
# a VM starts.

# Words for eval are expanded there.
# shellcheck disable=SC2016

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

folder=/srv/images
groupadd lab
usermod --append --groups lab,vmctl alice
mkdir -m 0750 $folder
chgrp lab $folder
cp "$guest/base.qcow2" "$guest/vmlinuz" "$guest/initrd" $folder
chmod 0644 $folder/*
chmod 0640 $folder/vmlinuz
chgrp lab $folder/vmlinuz

starts() {
        as alice vmctl start v && as alice vmctl kill v
}

refused="*The VM's owner may not read the file $folder/*: Permission denied*Hint: Give the VM's owner the right to read it*"

guest=$folder check "Somebody's VM is made of files that their group may read" as alice bash -c \
        "$(declare -f define); define v --image $folder/base.qcow2"
check "It starts" starts
chmod 0600 $folder/base.qcow2
check_error "$refused" "Not when only root may read one" as alice vmctl start v
check_error "*org.vmctl1.Error.ImageUnreadable: *" "... which has a name" gdbus call --system --dest org.vmctl1 \
        --object-path /org/vmctl1/vm/v --method org.vmctl1.VM.Start "@a{sv} {}"
chown alice $folder/base.qcow2
check "... but when it is theirs" starts
chown root $folder/base.qcow2
chmod 0644 $folder/base.qcow2
check "... or anybody's" starts

gpasswd --delete alice lab > /dev/null
check_error "$refused" "Not when they are in the group no more" as alice vmctl start v
check_error "$refused" "... whoever asks" vmctl start v
gpasswd --add alice lab > /dev/null
check "... but when they are again" starts

chmod 0700 $folder
check_error "$refused" "Not when they may not get into the folder" as alice vmctl start v
check "... though a VM of root's does" eval 'guest=$folder define r --image $folder/base.qcow2 --start'
chmod 0750 $folder
check "... until they may" starts

check "An image of the store is the service's" as alice vmctl image import --name stored $folder/base.qcow2
check "... whatever is asked of the file" eval 'chmod 0600 $folder/base.qcow2 && as alice vmctl create s --image stored --no-cloud-init \
        --memory 128M --display none --network none --accel tcg --start'

#
# KVM
#

if [ -e /dev/kvm ]; then
        there=$(vmctl capabilities)
        mv /dev/kvm /dev/none
        check_output "*/dev/kvm cannot be opened: No such file or directory*" "Without /dev/kvm there is no KVM" vmctl capabilities
        mv /dev/none /dev/kvm
        check_output "$there" "... and when it is back, all is as before" vmctl capabilities
        rights=$(stat --format="%a %u:%g" /dev/kvm)
        chmod 0600 /dev/kvm
        check_output "*/dev/kvm is for root alone*" "One that udev has not given to its group yet is none" vmctl capabilities
        chown 0:0 /dev/kvm
        chmod 0660 /dev/kvm
        check_output "*/dev/kvm is for root alone*" "... nor is one of root's own group" vmctl capabilities
        chown "${rights#* }" /dev/kvm
        chmod "${rights% *}" /dev/kvm
        check_output "$there" "... and when it is given, all is as before" vmctl capabilities
fi
