#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Cgroup version 2 alone, on a machine whose kernel also has hierarchies of version 1: each process is in their
# roots, too, and only version 2 says what it belongs to.

host_options=(--cgroup2)
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

check_output cgroup2fs "the host has version 2 alone" stat --file-system --format=%T /sys/fs/cgroup
check "a VM is made" define web
check "it starts" vmctl start web
check "its guest comes up" booted web
check "QEMU and its shim are in its scope" runs_once web
check "systemd counts them" systemctl --quiet is-active vmctl-web.scope
check "a restarted service finds it again" eval 'systemctl restart vmctld && state web running'
check "it is destroyed" vmctl destroy web
check "nothing is left" is_gone web
