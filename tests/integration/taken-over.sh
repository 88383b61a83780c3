#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the launcher does for a vmctld that was taken over: VMs and images, nothing else; and what becomes of both when
# one of them ends.

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

main_pid() {
        systemctl show --property MainPID --value "$1.service"
}
rights() {
        local status

        status=/proc/$(main_pid vmctld)/status
        stat --format=%U "$status" && sed -n 's/^Cap\(Bnd\|Eff\):\t//p' "$status"
}

listen
vmctl list
check_output $'vmctld\n0000000000000000\n0000000000000000' "The service is a user without capabilities" rights
check_error "*Permission denied*" "... who may not look into what is root's" \
        setpriv --reuid=vmctld --regid=vmctld --init-groups cat /etc/shadow

#
# One ends, the other goes on
#

check "VMs are started" eval "define one && vmctl start one && define two && vmctl start two"
qemu=$(prop one PID)
kill -9 "$(main_pid vmctl-launch)"
check_output "$qemu" "A launcher that is killed takes no VM with it" prop one PID
check "There is another one for the next VM" eval "define three && vmctl start three"
check "... and for the end of those that were there" vmctl kill one
check "... of which nothing is left" vmctl destroy one
check "The service is killed, and comes back" crash_service
check "A service that is killed finds its launcher again" vmctl kill three
check "... and its VMs" state two running
systemctl stop vmctl-launch.service
check "One that was stopped comes when it is wanted" vmctl start three
check "No VM was lost" state two running
define four
launcher=$(main_pid vmctl-launch)
kill -STOP "$launcher"
check_error "*@(scope|launch)*" "A launcher that is stopped starts nothing" vmctl start four
kill -CONT "$launcher"
check "... until it goes on" vmctl resume two
check "... with what it is asked then" eval "vmctl kill two && vmctl start two"
check_output "" "... and leaves nothing of what it was asked before" \
        systemctl list-units --plain --no-legend --all vmctl-four.scope
check "... which can be done now" eval "vmctl start four && vmctl kill four"
check "VMs are ended" eval "vmctl kill two && vmctl kill three"

for limit in vmctld:25 vmctl-launch:50; do
        check "${limit%:*} is exposed by ${limit#*:} tenths at most" \
                systemd-analyze security --no-pager --threshold="${limit#*:}" "${limit%:*}.service"
done

#
# The service as an enemy
#

systemctl stop vmctld.service
check "A taken-over service gets nothing else" python3 "$tests/integration/taken-over.py" "$guest"
check "The launcher has lived through it" systemctl is-active --quiet vmctl-launch.service
# PID 1 may have seen by now that nothing is left in it.
stop_scope() {
        systemctl stop "$1" || [ "$(systemctl show --property LoadState --value "$1")" = not-found ]
}
check "The scope of a VM that nobody knows can be stopped" stop_scope vmctl-taken-over.scope
check_output "" "No scope is left" systemctl list-units --plain --no-legend --all 'vmctl-*.scope'
check "The service goes on with it" vmctl list
