#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 180
#
# A host that shuts down shuts its guests down first. Outside of hosts this script boots two, one after the other on
# the same disk, in each of which it runs again.

if [ -d /run/vmctl-host ]; then
        # shellcheck source=tests/integration/lib.sh
        . "$(dirname "$0")/lib.sh"
        # shellcheck source=tests/vm.sh
        . "$tests/vm.sh"
else
        # shellcheck source=tests/lib.sh
        . "$(dirname "$0")/../lib.sh"
fi

# Guests that run when the host is told to power off: one that honours the button, one that is suspended, and one whose
# service was restarted before.
prepare() {
        listen
        define plain --start
        define paused --start
        check "Guests come up" eval "booted plain && booted paused"
        vmctl suspend paused
        check "The service is restarted" systemctl restart vmctld
        systemctl poweroff
}

look_back() {
        for name in plain paused; do
                check_output "*GUEST POWERDOWN*" "The guest of $name was shut down with the host" vmctl log $name
                check_output stopped "... and its VM is stopped" prop $name State
        done
        check "Guests start again" vmctl start plain paused
}

case ${1-} in
prepare | look_back)
        "$1"
        exit
        ;;
esac

tests=$(realpath "$(dirname "$0")/..")
build=${BUILD:-$tests/../build/bookworm}
"$tests/root" --bind "$build" -- "$tests/guest/build" "$build/guest" || exit

host() {
        "$tests/host" --build "$build" --state "$scratch/state" -- "$0" "$@"
}

# What runs in a host that goes down is ended, too.
shut_down() {
        host prepare | tee "$scratch/prepared"
        grep --quiet "^ok 2 " "$scratch/prepared"
}

check "A host with guests is shut down" shut_down
check "The guests were shut down before" host look_back
