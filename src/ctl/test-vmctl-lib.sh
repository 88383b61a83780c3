# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# For tests of vmctl with a service that has no VMs behind it (test-service.c), on a bus of its own. Sourced with the
# arguments VMCTL TEST-SERVICE TESTS-FOLDER.

# shellcheck source=tests/lib.sh
. "$3/lib.sh"

vmctl=$(realpath "$1")
service=$(realpath "$2")

exec {bus}< <(exec dbus-daemon --session --nofork --print-address --address="unix:path=$scratch/bus")
bus_pid=$!
read -r -t 10 -u "$bus" DBUS_SESSION_BUS_ADDRESS || exit
export DBUS_SESSION_BUS_ADDRESS

next_call() {
        local line

        read -r -t 10 -u "$calls" line
        printf '%s\n' "$line"
}

# start_service ARGUMENT...: what it is called with can then be read from $calls, a line for each call.
start_service() {
        exec {calls}< <(exec env FAKE_FOLDER="$scratch" "$service" "$@")
        service_pid=$!
        [ "$(next_call)" = ready ]
}

end() {
        kill "$service_pid" "$bus_pid"
        finish
}
trap end EXIT

# check_calls EXPECTED DESCRIPTION: these are the calls that the service got since it was last asked.
check_calls() {
        local line lines=

        while read -r -t 0.05 -u "$calls" line; do
                lines+=${lines:+$'\n'}$line
        done
        # shellcheck disable=SC2053
        if [[ $lines == $1 ]]; then
                pass "$2"
        else
                fail "$2" "$lines"
        fi
}

v() {
        timeout 20 "$vmctl" --user "$@"
}

# on_terminal ARGUMENT...: what vmctl prints on a terminal of 60 columns.
on_terminal() {
        local command

        printf -v command '%q ' timeout --foreground 20 "$vmctl" --user "$@"
        TERM=xterm script --quiet --return --command "stty columns 60; $command" /dev/null < /dev/null
}

# with_input TEXT ARGUMENT...
with_input() {
        local text=$1

        shift
        printf '%s' "$text" | v "$@"
}

# v_errors STATUS ARGUMENT...: standard error of vmctl, which ends with STATUS.
v_errors() {
        local expected=$1 status=0

        shift
        { v "$@" > /dev/null; } 2>&1 || status=$?
        [ $status -eq "$expected" ] || echo "status $status"
}
