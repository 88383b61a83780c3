#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 300
#
# What a host makes of VMs when it boots, and when it goes down. Outside of hosts this script boots three, one after
# the other on the same disk, in each of which it runs again. VMS in the environment are those that run, of web, db and
# made: the last alone where several guests at once are too much.

if [ -d /run/vmctl-host ]; then
        # shellcheck source=tests/integration/lib.sh
        . "$(dirname "$0")/lib.sh"
        # shellcheck source=tests/vm.sh
        . "$tests/vm.sh"
else
        # shellcheck source=tests/lib.sh
        . "$(dirname "$0")/../lib.sh"
fi

vms=${VMS:-web db made}

block() {
        printf 'vm "%s" {\n' "$1"
        printf '    %s\n' "kernel \"$guest/vmlinuz\"" "initrd \"$guest/initrd\"" 'append "console=ttyS0 quiet no_timer_check"' \
                'memory 128' 'display "none"' "accel \"${ACCEL:-tcg}\"" 'network "none"' "${@:2}"
        echo '}'
}

# Files that nobody has looked at yet, and a VM that was made by command
prepare() {
        mkdir -p /etc/vmctl
        {
                [[ $vms != *web* ]] || block web autostart 'depends-on "db"'
                block db
                block manual
        } > /etc/vmctl/site.kdl
        echo 'vm "broken" {' > /etc/vmctl/broken.kdl
        define made
        define left
        check "A VM is enabled, and started" vmctl enable --now made
        check "... and comes up" booted made
        systemctl reboot
}

# The first boot with them
boot() {
        local runs=1

        systemctl is-system-running --wait > /dev/null # logins are let in before the boot is over
        check_output "*GUEST POWERDOWN*" "The guest that ran was shut down before the reboot" vmctl log made
        for name in $vms; do
                [ "$name" != made ] || runs=2
                check "$name is active after the boot" systemctl is-active "vm@$name"
                check_output running "... and runs" prop "$name" State
                check "... and comes up" booted "$name" $runs
        done
        check_output prepared "What was neither enabled nor needed does not run" prop left State
        check_error "*" "... nor is it there" systemctl is-active --quiet vm@manual
        systemctl poweroff
}

look_back() {
        for name in $vms; do
                check_output "*GUEST POWERDOWN*" "The guest of $name was shut down with the host" vmctl log "$name"
                check "... and runs again" state "$name" running
        done
        check "Disable" vmctl disable --now made
}

case ${1-} in
prepare | boot | look_back)
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

# What runs in a host that goes down is ended, too: its last check is looked for.
goes_down() {
        host "$1" | tee "$scratch/said"
        ! grep "^not ok" "$scratch/said" && grep --quiet "^ok $2 " "$scratch/said"
}

check "A host where VMs are defined is rebooted" goes_down prepare 2
check "It starts them when it boots, and is shut down" goes_down boot 12
check "The guests were shut down before, and are started again" host look_back
