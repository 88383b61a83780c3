# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# For tests that run in a throwaway host. The test script's second line sources this file, which starts the
# script again in a host of its own, as root, with the build installed. Before that line it may set
#     host_options=(--bind DIR ...)
# and say "# timeout: SECONDS" in a comment. What it can use is here and in ../lib.sh.

tests=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")

export BUILD=${BUILD:-$tests/../build/bookworm}

if [ ! -d /run/vmctl-host ]; then
        "$tests/root" --bind "$BUILD" -- "$tests/guest/build" "$BUILD/guest" || exit
        exec "$tests/host" --build "$BUILD" --bus "${HOST_BUS:-daemon}" ${host_options+"${host_options[@]}"} -- \
                "$(realpath "$0")" "$@"
fi

# shellcheck source=tests/lib.sh
. "$tests/lib.sh"

# as USER COMMAND...: runs COMMAND as USER.
as() {
        "$tests/as" "$@"
}

# as_active USER COMMAND...: the same in a session on seat0, as somebody who sits in front of the machine has
# it.
as_active() {
        "$tests/as" --session "$@"
}

# What wait_until listens to: the service's signals, its coming and going, the ends of PID 1's jobs; and
# which bus
bus=(--system)
matches=(
        --match "type=signal,path_namespace=/org/vmctl1"
        --match "type=method_call,interface=org.vmctl1.Manager,member=ListVMs" # attend's, after a restart
        --match "type=signal,member=NameOwnerChanged,arg0namespace=org.vmctl1"
        --match "type=signal,path=/org/freedesktop/systemd1,member=JobRemoved"
)

# The service tells its signals to those who have called it. attend sees to it that somebody is there to hear them all;
# hearer is its name on the bus.
hearer=
attend() {
        [ -z "$hearer" ] || return 0
        systemctl start vmctld
        : > "$scratch/attending" # there before the first look into it
        vmctl monitor > "$scratch/attending" 2>&1 &
        attending=$!
        disown "$attending"
        grep --quiet "service running" < <(exec timeout 60 tail --follow --lines=+1 "$scratch/attending")
        hearer=$(busctl --no-legend --unique list | awk -v pid="$attending" '$2 == pid { print $1 }')
}

# wait_until SECONDS COMMAND...: waits until COMMAND succeeds, which is looked at whenever one of these
# comes.
wait_until() {
        local deadline=$((SECONDS + $1)) monitor pid status=1

        shift
        attend
        exec {monitor}< <(exec "$tests/integration/bus-monitor.py" "${bus[@]}" "${matches[@]}" --json=short monitor)
        pid=$!

        # The first line says that it listens.
        while [ $SECONDS -lt $deadline ] && read -r -t $((deadline - SECONDS)) -u "$monitor"; do
                if "$@" > /dev/null 2>&1; then
                        status=0
                        break
                fi
        done

        exec {monitor}<&-
        kill "$pid" 2> /dev/null
        wait "$pid"
        return $status
}

# wait_for_line SECONDS REGEX COMMAND...: waits until COMMAND prints a line that matches the extended
# expression REGEX, which is printed; then ends COMMAND.
wait_for_line() {
        local seconds=$1 regex=$2 output pid status

        shift 2
        exec {output}< <(exec timeout "$seconds" "$@" 2>&1)
        pid=$!
        grep --max-count=1 --extended-regexp -e "$regex" <&"$output"
        status=$?
        exec {output}<&-
        kill "$pid" 2> /dev/null
        wait "$pid"
        return $status
}

# bus_stat CONNECTION KEY...: a number that the bus has of a connection, by the first of these names that it knows.
bus_stat() {
        PYTHONPATH=$tests/integration python3 -c '
import sys, bus
numbers = bus.statistics(sys.argv[1])
print(next(numbers[key] for key in sys.argv[2:] if key in numbers))
' "$@"
}

# at_most NUMBER COMMAND...: COMMAND prints a number that is not greater.
at_most() {
        local number

        number=$("${@:2}") && echo "$number, at most $1" && [ "$number" -le "$1" ]
}
