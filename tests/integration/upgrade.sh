#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# From a vmctl whose service was root: its files were root's, and what an owner may open the owner's. VMs that run stay,
# and all is as usable as it was.

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

# what an owner may open
shared=(-name 'id_ed25519_generated*' -o -name known_hosts -o -name provision.log -o -name vnc.sock)

# As that service left them: no lists of access, and the owners that there were.
make_old() {
        python3 - /var/lib/vmctl /run/vmctl << 'END'
import os, stat, sys
for top in sys.argv[1:]:
    for folder, _, files in os.walk(top):
        os.chown(folder, 0, 0)
        for path in (os.path.join(folder, name) for name in files):
            mode = stat.S_IMODE(os.lstat(path).st_mode)
            if "system.posix_acl_access" in os.listxattr(path, follow_symlinks=False):
                os.removexattr(path, "system.posix_acl_access", follow_symlinks=False)
            os.chown(path, 0, 0, follow_symlinks=False)
            os.chmod(path, mode & 0o744)
END
        find /var/lib/vmctl/vms/hers /run/vmctl/hers \( "${shared[@]}" \) -exec chown alice {} +
}

# The owners of all, once each
owners() {
        find /var/lib/vmctl /run/vmctl -printf '%u:%g\n' | sort --unique
}

# can USER FILE RIGHT: by test(1)
can() {
        as "$1" test "-$3" "$2"
}

can_not() {
        ! can "$@"
}

vmctl_as() {
        as "$1" vmctl "${@:2}"
}

usermod --append --groups vmctl alice
truncate --size 1M "$scratch/disk"
printf '\x55\xaa' | dd of="$scratch/disk" bs=1 seek=510 conv=notrunc status=none
chmod 755 "$scratch"
chmod 644 "$scratch/disk"
check "There are VMs of two users" eval "define ours && vmctl start ours && define idle"
check "... and an image" vmctl_as alice image import "$scratch/disk" --name disk
check "... which a VM has" vmctl_as alice create hers --image disk --memory 128M --display vnc --network none --accel tcg
check "... that runs" vmctl_as alice start hers
ours=$(prop ours PID) hers=$(prop hers PID)
key=$(prop hers SSHPrivateKey) known=$(prop hers SSHKnownHosts) display=$(prop hers VNCSocket)

make_old
check_output "alice:root"$'\n'"root:root" "All is as a service that was root left it" owners
# A package does this first; and so does a boot.
systemd-tmpfiles --create vmctl.conf 2> /dev/null
systemctl daemon-reload
check "The new service starts" systemctl restart vmctld.service
check_output "vmctld:vmctld" "All is its user's" owners
check_output "$ours" "VMs run on" prop ours PID
check_output "$hers" "... of all users" prop hers PID
check "... and can be told what to do" eval "vmctl qmp ours query-status && vmctl qmp hers query-status"
check "The guest is heard" booted ours
check "... and hears" tell ours "echo there" "^there"
for file in "$key" "$known" "$display"; do
        check "The owner can read ${file##*/}" can alice "$file" r
        check "... and nobody else" can_not bob "$file" r
done
check "ssh can add to known_hosts" can alice "$known" w
check "... and nobody changes the key" can_not alice "$key" w
check "A viewer can connect" can alice "$display" w
check "What did not run starts" eval "vmctl start idle && vmctl kill idle"
check "What did is stopped and started" eval "vmctl kill ours && vmctl start ours"
check "... with its disk" eval "vmctl_as alice kill hers && vmctl_as alice start hers"
check "An image can be had" vmctl_as alice image export disk "/tmp/disk.out"
check "... and is what it was" cmp "$scratch/disk" /tmp/disk.out
check "Another VM can be made of it" vmctl_as alice create more --image disk --memory 128M --display none --network none
check "All can go" vmctl destroy ours hers more
check "... also the image" vmctl_as alice image remove disk

#
# Settings, which the service does not read as root any more
#

configure() {
        printf '%s\n' "[Daemon]" "$@" > /etc/vmctl/vmctld.conf
}

configure "UIDRange=200000-200099"
systemctl restart vmctld.service
check "Of another range" define late
check_output 200000 "... VMs are" prop late UID
check_error "*user ID 187904*UIDRange=*" "Who is of an earlier one does not start" vmctl start idle
configure "UIDRange=200000-200099 1879048192-1879113727"
systemctl restart vmctld.service
check "... before that is named, too" vmctl start idle
check "New ones are of the first range" define latest
check_output 200001 "... alone" prop latest UID
check "All of them go" vmctl destroy late latest idle
chmod 600 /etc/vmctl/vmctld.conf
check_error "*" "What cannot be read is not passed over" systemctl restart vmctld.service
check "... but said" eval "journalctl --unit vmctld | grep 'Cannot read /etc/vmctl/vmctld.conf, which'"
