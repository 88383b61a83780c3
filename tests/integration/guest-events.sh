#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 600
#
# What guests do by themselves, and what becomes of it: power off, reboot, panic, a watchdog that expires, a disk
# that is full, a QEMU that dies. And the kinds of machines and firmware that they boot on.

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

# The guest can only tell the frequency of its clock while the machine is not busy, and a microvm has no other clock.
khz=$(awk '/^cpu MHz/ { print int($4 * 1000); exit }' /proc/cpuinfo)

# In a file system of its own, which a guest can fill
mkdir -p /var/lib/vmctl/vms
mount -t tmpfs -o size=5M,mode=0711 tmpfs /var/lib/vmctl/vms

vmctl list
listen
define off --network user --start
define micro --machine microvm --append "console=ttyS0 quiet tsc_early_khz=$khz" --start
define panicky --start
define full --image "$guest/base.qcow2" --start
define dog --start
# A guest with a watchdog, which SeaBIOS still finds.
vmctl qmp dog device_add '{"driver": "i6300esb", "bus": "port0"}' > /dev/null

check "A guest comes up" booted off
check_output '*"return": \[\]*' "One without a network has no device for it" vmctl qmp panicky query-rx-filter
namespace_is_empty() {
        nsenter --target "$(prop "$1" PID)" --net ip -brief link | tee /dev/stderr | grep -v "^lo " | grep -q . && return 1
        ! cmp <(readlink "/proc/$(prop "$1" PID)/ns/net") <(readlink /proc/self/ns/net)
}
check "... and nothing but loopback in a namespace of its own" namespace_is_empty panicky
check "One with a network is in the host's" cmp <(readlink "/proc/$(prop off PID)/ns/net") <(readlink /proc/self/ns/net)

#
# Reboot, power off
#

check "A guest that reboots" tell_last off reboot
check "... is heard" await 60 "$(event_of off reset '"guest":\{"type":"b","data":true\}')"
check "... and counted" await 60 "$(changed_to off Resets '[1-9]')"
check "... and comes up again" booted off 2
check_output running "... in the same run" prop off State
check "A guest that powers itself off" tell_last off poweroff
check "... stops its VM" await 60 "$(changed_to off State stopped)"
check_output guest-shutdown "... for that reason" prop off ShutdownReason
check_output "" "... which is no failure" prop off FailureReason
check "... and is told" heard "$(event_of off shutdown '"guest":\{"type":"b","data":true\}')"

#
# Panic, watchdog, QEMU's death
#

check "A guest is there to panic" booted panicky
check "It panics" tell_last panicky panic
check "... so its VM has failed" await 60 "$(changed_to panicky FailureReason guest-panic)"
check_output failed "... as its state says" prop panicky State
check "... and the event" heard "$(event_of panicky guest-panicked)"
check_output "*panicked*" "... and vmctl status" vmctl status panicky
uuid=$(prop panicky UUID)
check_output "*guest told by its panic device*vmctl log panicky --console*" "... and the journal explains it" \
        eval "journalctl --quiet --sync; journalctl --quiet --catalog VM_UUID=$uuid MESSAGE_ID=e9332689bf2f4fa0adbded43a7273795"
check_output "VM 'panicky' was created for user 0
VM 'panicky' was started for user 0" "... which has what was done, too" \
        journalctl --quiet --output=cat VM_NAME=panicky VM_OWNER=0 MESSAGE_ID=9e2c7da3b337439fb55e82c3c0c23719
check "It starts again" vmctl start panicky
check_output "running " "... and is no failure then" echo "$(prop panicky State) $(prop panicky FailureReason)"
check "QEMU is killed" kill -SEGV "$(prop panicky PID)"
check "... which is a failure" await 60 "$(changed_to panicky FailureReason signal)"
check_output "*signal 11*" "... told with the signal" prop panicky FailureMessage

check "A guest with a watchdog" booted dog
check "... feeds it no more" tell dog "watchdog 1" "^ok watchdog"
check "... so it expires" await 60 "$(event_of dog watchdog '"action":\{"type":"s","data":"reset"\}')"
check_output "*watchdog expired*" "... which is a warning" prop dog Warnings
check "... and a reset" await 60 "$(changed_to dog Resets '[1-9]')"

#
# A full disk
#

check "A guest with a disk" booted full
check "... writes more than the host has" tell_last full "write 0 8388608 85"
check "... which pauses it" await 60 "$(changed_to full State suspended)"
check_output io-error "... as QEMU says" prop full QMPStatus
check "... with an event" heard "$(event_of full io-error '"reason":\{"type":"s","data":"nospace"')"
check_output "*disk is full*" "... and a warning" prop full Warnings
check_output "[1-9]*" "... and a count" prop full IOErrors
mount -o remount,size=64M /var/lib/vmctl/vms
resume_and_hear() {
        local output pid

        exec {output}< <(exec timeout 60 vmctl log full --follow)
        pid=$!
        vmctl resume full && grep -q -m 1 '^ok write' <&"$output"
        set -- $?
        exec {output}<&-
        kill "$pid"
        return "$1"
}
check "With room made it resumes, and the write succeeds" resume_and_hear
check_output running "... so it runs" prop full State
check "... and the data are there" tell full "sum 0 8388608" \
        "^$(head -c 8388608 /dev/zero | tr '\0' U | sha256sum | cut -d' ' -f1)"

#
# Machines, firmware
#

check "A microvm comes up" booted micro
check "... and stops by ACPI" vmctl stop micro --timeout 120
check_output guest-shutdown "... by itself" prop micro ShutdownReason
check_output microvm "... being one" prop micro Machine

vmctl destroy off micro dog panicky full
image_vm() {
        vmctl create "$1" --image "$guest/boot.qcow2" --no-cloud-init --accel tcg --network none --start "${@:2}"
}
check "A VM from a disk image with its own kernel" image_vm bios --memory 256M
check "... and one under UEFI" image_vm uefi --memory 512M --firmware uefi
check "The image boots under SeaBIOS" booted bios
check "... and stops" vmctl stop bios
check_output guest-shutdown "... by itself" prop bios ShutdownReason
check "It boots under OVMF" booted uefi
check "... with variables of its own" test -s /var/lib/vmctl/vms/uefi/vars.fd
check "... and stops" vmctl stop uefi
check_output guest-shutdown "... by itself" prop uefi ShutdownReason
check "... and boots again from what the variables say" eval "vmctl start uefi && booted uefi 2"
