#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 180
#
# A bus that is lost: the service comes back on the new one, and knows of its VMs.

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

is_attached() {
        [ "$(prop "$1" Attached)" = true ]
}

# The bus takes everybody who listens with it. Nobody asks for the service before it is back by itself.
bus_again() {
        local started

        started=$(($(journalctl --output cat _PID=1 | grep --count "^Started vmctld.service") + 1))
        "$@" && [ "$(grep --count --max-count=$started "^Started vmctld.service" \
                < <(exec timeout 60 journalctl --output cat --no-tail --follow _PID=1))" -eq $started ] || return
        hearer=
        listen
}

define slow --start
booted slow > /dev/null
pid=$(prop slow PID)
check "The bus is restarted" bus_again systemctl restart dbus
check_output "running $pid" "... and VMs run on" eval "echo \$(prop slow State) \$(prop slow PID)"
check "... whose monitor is attached" wait_until 60 is_attached slow
check "The bus is killed" bus_again systemctl kill --signal KILL dbus
check "... and VMs can be commanded" vmctl suspend slow
check "... in both ways" vmctl resume slow
check "The service said why it ended" eval "journalctl --unit vmctld --output cat | grep 'The bus or systemd is lost'"
forget_signals
check "It hears of PID 1" systemctl stop vmctl-slow.scope
check_output guest-shutdown "... which stops a guest gracefully" prop slow ShutdownReason

mine() {
        as alice vmctl --user "$@"
}
my_pid() {
        mine --json list | jq '.[] | select(.Name == "own").PID'
}
mine create own --kernel "$guest/vmlinuz" --initrd "$guest/initrd" --no-cloud-init --memory 128M --display none \
        --network none --accel tcg --start
pid=$(my_pid)
service=$(as alice systemctl --user show --property MainPID --value vmctld)
as alice systemctl --user restart dbus
check "A user's bus is restarted, and the service with it" timeout 60 tail --pid="$service" --follow /dev/null
check_output "$pid" "... and the user's VM runs on" my_pid
check "... and can be started and stopped" eval "mine kill own && mine start own && mine destroy own"
