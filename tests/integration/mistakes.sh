#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What an administrator does to the service's files and units: each leaves a message that says what to do, and doing
# that helps.

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

state=/var/lib/vmctl
usermod --append --groups vmctl alice

# make_as USER NAME: a VM that is never started
make_as() {
        as "$1" vmctl create "$2" --kernel "$BUILD/guest/vmlinuz" --network none
}

# meanwhile COMMAND...: does it while the service does not run.
meanwhile() {
        systemctl stop vmctld && "$@"
}

logged() {
        journalctl --sync && journalctl --quiet --unit vmctld --output cat --grep "$1"
}

check "there is a VM" make_as alice web

# What was restored or edited by root
check "a VM's file becomes root's" meanwhile chown root:root $state/vms/web/vm.json
check_output "*Permission denied
Hint: *chown -R vmctld:vmctld $state*systemctl restart vmctld*" "list tells how to give it back" \
        eval 'vmctl list 2>&1 > /dev/null'
check_output "*broken*Hint: *chown -R vmctld:vmctld $state*" "so does status" vmctl status web
check "which is done" eval "chown -R vmctld:vmctld $state && systemctl restart vmctld"
check_output "*web *prepared*" "and helps" vmctl list

check "all becomes root's" meanwhile chown -R root:root $state
check_output "*web *prepared*" "PID 1 gives it back" vmctl list

check "a folder below it becomes root's, as where a file system is mounted" meanwhile chown -R root:root $state/vms
check_output "*web *prepared*" "PID 1 gives that back, too" vmctl list

check "all becomes root's, and a boot follows" meanwhile chown -R root:root $state
check "... which sees to the service's folders" systemd-tmpfiles --create vmctl.conf
check_output "*web *prepared*" "PID 1 gives all back nevertheless" vmctl list

# A file in /etc/vmctl that the service may not read
echo 'vm "declared" { kernel "/srv/kernel"; }' > /etc/vmctl/declared.kdl
chmod 0600 /etc/vmctl/declared.kdl
check "with an unreadable file the service starts" systemctl restart vmctld
check "it says so, and that names are anybody's" logged "'/etc/vmctl/declared.kdl' is not readable"
chmod 0644 /etc/vmctl/declared.kdl
check_error "*'declared' is the name of a VM of the machine*" "a readable one keeps its names for root" make_as alice declared
rm /etc/vmctl/declared.kdl

# Units that are stopped or masked
check "the launcher is stopped" systemctl stop vmctl-launch.service
check "and is there when it is needed" make_as alice more
check "the service is masked" systemctl mask --now vmctld
check_error "*Hint: 'systemctl status vmctld' tells why it does not start." "there is a hint where to look" vmctl list
check "it is unmasked" systemctl unmask vmctld
check "the launcher's socket is masked" systemctl mask --now vmctl-launch.socket
check_error "*vmctl-launch.socket is masked*Hint: *systemctl status vmctld*" "the error names it" vmctl list
check "it is unmasked" systemctl unmask vmctl-launch.socket
check_output "*web *prepared*" "and the service is there again" vmctl list
check "the launcher alone is masked" systemctl mask --now vmctl-launch.service
check_error "*vmctl-launch*Hint: *systemctl status vmctl-launch.socket*" "what needs it says so" make_as alice third
check "it is unmasked" systemctl unmask vmctl-launch.service
check_error "*vmctl-launch cannot be reached*Hint: *systemctl restart vmctld*" "its socket has failed" make_as alice third
check "that is mended as the hint says" systemctl restart vmctld
check "all works again" make_as alice third
