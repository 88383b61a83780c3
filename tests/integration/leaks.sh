#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 240
#
# Hundreds of lives: whatever the service does, it has as many descriptors afterwards as before, no child, and no more
# memory.

# Words for eval are expanded there.
# shellcheck disable=SC2016

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"
# shellcheck source=tests/image.sh
. "$tests/image.sh"

readonly growth_max=1024 # KB; what the allocator keeps differs by some hundred

children() {
        cat /proc/{"$service","$launcher"}/task/*/children
}

# A child ends by itself; it is reaped in the same moment.
settle() {
        local pid

        for pid in $(children); do
                timeout 60 tail --pid="$pid" --follow /dev/null || return
        done
}

descriptors() {
        local service_has=("/proc/$service/fd"/*) launcher_has=("/proc/$launcher/fd"/*)

        echo "${#service_has[@]} ${#launcher_has[@]}"
}

resident() {
        awk '/^VmRSS/ { sum += $2 } END { print sum }' /proc/{"$service","$launcher"}/status
}

# leaves_nothing ROUNDS DESCRIPTION COMMAND: the first rounds may still fill what is kept for good.
leaves_nothing() {
        local fds memory i

        for ((i = 0; i < 5; i++)); do eval "$3" > /dev/null || { fail "$2: round $i"; return; }; done
        settle
        fds=$(descriptors) memory=$(resident)
        for ((i = 0; i < $1; i++)); do eval "$3" > /dev/null || { fail "$2: round $i"; return; }; done
        check "$1 times: $2" settle
        check_output "" "... leaves no child" children
        check_output "$fds" "... no descriptor" descriptors
        check "... and no memory" test "$(($(resident) - memory))" -lt $growth_max
}

define v
define ended
vmctl start ended
vmctl kill ended
service=$(systemctl show --property MainPID --value vmctld)
launcher=$(systemctl show --property MainPID --value vmctl-launch)

leaves_nothing 60 "A VM is started and killed" 'vmctl start v && vmctl kill v'
leaves_nothing 100 "The log of a stopped VM is read" 'vmctl log ended --console'
leaves_nothing 60 "... and its status" 'vmctl status ended'

# As much as fits into the pipe is read; the rest waits, and so does the job.
mkfifo "$scratch/feed"
exec {feed}<> "$scratch/feed"
leaves_nothing 30 "An import is called off" '
        follow job import held "$scratch/feed" format=raw && reaches job "^importing" && cancel job && ends job'
exec {feed}>&-
leaves_nothing 20 "A VM is created and destroyed" 'define w && vmctl destroy w'

check_output "running" "The service that did all this is still the same" systemctl show --property SubState --value vmctld
check_output "$service $launcher" "... process, and its launcher" eval \
        'echo $(systemctl show --property MainPID --value vmctld vmctl-launch)'
