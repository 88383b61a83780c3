#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Cgroup version 2 alone, also on a machine whose kernel has hierarchies of version 1: each process is in their
# roots, too, and only version 2 says what it belongs to. There it has no controllers, so limits are tested where it does.
# There is one guest, which takes long to come up in tests/machine.

host_options=(--cgroup2)
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

limits=
! grep --quiet --word-regexp memory /sys/fs/cgroup/cgroup.controllers || limits=yes

# kernel_has FILE: what stands in that file of the VM's scope
kernel_has() {
        cat "$(scope_dir web)/$1"
}

# throttled: how often the kernel has held its CPUs back
throttled() {
        kernel_has cpu.stat | sed -n 's/^nr_throttled //p'
}

eat_too_much() {
        tell_last web "eat 230"
        await 300 "$(changed_to web FailureReason oom)"
}

check_output cgroup2fs "the host has version 2 alone" stat --file-system --format=%T /sys/fs/cgroup
check "a VM is made" define web ${limits:+--memory 320M --memory-max 240M --tasks-max 77 --cpu-weight 50}
check "it starts" vmctl start web
check "its guest comes up" booted web
check "QEMU and its shim are in its scope" runs_once web
check "systemd counts them" systemctl --quiet is-active vmctl-web.scope

if [ -n "$limits" ]; then
        check_output $((240 * 1024 * 1024)) "the kernel has its limit of memory" kernel_has memory.max
        check_output 77 "... that of threads" kernel_has pids.max
        check_output 50 "... the CPU weight" kernel_has cpu.weight
        check_output "max *" "... and no CPU quota" kernel_has cpu.max
        check_output 0 "nothing has held it back" throttled
        check "a quota can be set" vmctl set web cpu-quota=50%
        check_output "50000 100000" "... which the kernel has" kernel_has cpu.max
        check "its guest wants all of a CPU" tell web "burn 1" "^burn: 1 busy" 300
        check "... and is held back" grows web throttled
        check "a quota can be taken back" vmctl set web cpu-quota=default
fi

pid=$(prop web PID)
check "a restarted service finds it again" eval 'systemctl restart vmctld && state web running'
listen
check "... and one that was killed" crash_service
check_output "running $pid" "... with the same QEMU" eval "echo \$(prop web State) \$(prop web PID)"

if [ -n "$limits" ]; then
        check "a guest eats more than its VM may have" eat_too_much
        check_output failed "... which fails" prop web State
else
        check "its guest is shut down" vmctl stop web
        check_output guest-shutdown "... by the power button" prop web ShutdownReason
fi
check "it is destroyed" vmctl destroy web
check "nothing is left" is_gone web
