# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# For test scripts that run VMs, in a host: the test guest, its console, properties, and the service's signals in
# the order in which they come. Sourced behind integration/lib.sh.

# What the libraries that were sourced before have set
: "${tests:?}" "${scratch:?}" "${bus:?}" "${matches:?}" "${hearer=}" "${BUILD:?}"

guest=$BUILD/guest
boot_timeout=${BOOT_TIMEOUT:-180} # seconds; a guest takes two to five, or fifty where much else runs

# define NAME [OPTION...]: a VM with the test guest. What OPTIONs say again counts.
define() {
        vmctl create "$1" --kernel "$guest/vmlinuz" --initrd "$guest/initrd" --append "console=ttyS0 quiet no_timer_check" \
                --no-cloud-init --memory 128M --display none --network none --accel "${ACCEL:-tcg}" "${@:2}"
}

# method NAME METHOD [SIGNATURE ARGUMENT...]: calls it as busctl does.
method() {
        busctl --timeout=60 call org.vmctl1 "/org/vmctl1/vm/$1" org.vmctl1.VM "${@:2}"
}

# prop NAME PROPERTY: its value alone
prop() {
        busctl --json=short get-property org.vmctl1 "/org/vmctl1/vm/$1" org.vmctl1.VM "$2" | jq -rc .data
}

# state NAME STATE...: whether it is in one of these
state() {
        local now expected

        now=$(prop "$1" State) || return
        for expected in "${@:2}"; do
                [ "$now" != "$expected" ] || return 0
        done
        echo "$1 is $now"
        return 1
}

# scope_dir NAME: the control group of its scope in systemd's own hierarchy
scope_dir() {
        local dir=/sys/fs/cgroup

        [ ! -d $dir/systemd ] || dir+=/systemd
        echo "$dir$(systemctl show --property ControlGroup --value "vmctl-$1.scope")"
}

# is_gone NAME: nothing of the VM is left
is_gone() {
        local name=$1

        ! busctl call org.vmctl1 /org/vmctl1 org.vmctl1.Manager GetVM s "$name" 2> /dev/null &&
                ! ls -d "/var/lib/vmctl/vms/$name" "/run/vmctl/$name" 2> /dev/null &&
                ! systemctl --quiet is-active "vmctl-$name.scope" &&
                ! pgrep --full "guest=$name\$|guest=$name "
}

# runs_once NAME: there is one QEMU for it, and in its scope nothing but that, its shim and, if it has one, its passt.
runs_once() {
        local processes=2

        [ "$(prop "$1" NetworkBackend)" != passt ] || processes=3
        [ "$(pgrep --full "^/usr/bin/qemu.* guest=$1 ")" = "$(prop "$1" PID)" ] &&
                [ "$(wc -l < "$(scope_dir "$1")/cgroup.procs")" -eq $processes ]
}

# prop_of_file NAME KEY: what the service has noted of a running VM, also while there is no service
prop_of_file() {
        jq -r ".\"$2\"" "/run/vmctl/$1/run.json"
}

# booted NAME [COUNT]: waits until the guest, in all of its runs, has come up COUNT times; prints what it said.
booted() {
        local output pid line left=${2:-1} status=1

        exec {output}< <(exec timeout "$boot_timeout" vmctl log "$1" --console --follow 2>&1)
        pid=$!
        while [ "$left" -gt 0 ] && read -r line <&"$output"; do
                [[ $line != *"GUEST READY"* ]] || left=$((left - 1))
        done
        [ "$left" -gt 0 ] || { status=0; echo "${line%$'\r'}"; }
        exec {output}<&-
        kill "$pid" 2> /dev/null
        wait "$pid"
        return $status
}

# tell NAME COMMAND REGEX [SECONDS]: gives the guest a command and waits for the line that answers it.
tell() {
        wait_for_line "${4:-60}" "$3" vmctl console "$1" --timeout "${4:-60}" <<< "$2"
}

# tell_last NAME COMMAND: a command after which the guest says no more. It has come when the one ahead of it is answered.
tell_last() {
        tell "$1" "echo heard"$'\n'"$2" "^heard"
}

# grows NAME COMMAND...: the number that COMMAND prints becomes greater within some of the guest's seconds.
grows() {
        local before

        before=$("${@:2}") || return
        for _ in {1..20}; do
                tell "$1" "sh sleep 1" "^ok sh" > /dev/null || return
                [ "$("${@:2}")" -le "$before" ] || return 0
        done
        echo "$before still"
        return 1
}

# Signals. listen begins to take them down, heard looks at those that have come up to now, and await also waits for
# those that are to come. All are lines of JSON, as busctl prints them.
heard_signals=$scratch/signals

listen() {
        attend
        exec {signals}< <(exec "$tests/integration/bus-monitor.py" "${bus[@]}" --json=short monitor \
                --match "type=signal,path_namespace=/org/vmctl1,destination='$hearer'" \
                --match "type=signal,interface=org.vmctl1.Test" \
                "${matches[@]:4}")
        read -r -t 60 -u "$signals"
        : > "$heard_signals"
}

forget_signals() {
        heard xxx
        : > "$heard_signals"
}

# next_signal SECONDS: the next one, in $line. Monitors of dbus-broker also show what is for others than our hearer.
next_signal() {
        while read -r -t "$1" line <&"$signals"; do
                [[ $line == *'"destination":"'* && $line != *"\"destination\":\"$hearer\""* ]] || return 0
        done
        return 1
}

# A signal of our own comes behind all that was sent before it.
heard() {
        local line marker="marker-$RANDOM$RANDOM"

        busctl "${bus[@]}" emit /org/vmctl1/test org.vmctl1.Test Marker s "$marker"
        while next_signal 60 && [[ $line != *"$marker"* ]]; do
                echo "$line" >> "$heard_signals"
        done
        grep --extended-regexp -e "$1" "$heard_signals"
}

# await SECONDS REGEX
await() {
        local deadline=$((SECONDS + $1)) line

        grep --extended-regexp --max-count=1 -e "$2" "$heard_signals" && return
        while [ $SECONDS -lt $deadline ] && next_signal $((deadline - SECONDS)); do
                echo "$line" >> "$heard_signals"
                [[ ! $line =~ $2 ]] || { echo "$line"; return 0; }
        done
        echo "There was no signal like $2 within $1 s"
        return 1
}

# A VM's signals as expressions: a change of its properties to VALUE, and an event with its details
changed_to() {
        printf '"path":"/org/vmctl1/vm/%s",.*"PropertiesChanged".*"%s":\{"type":"[a-z]+","data":"?%s"?\}' "$@"
}

event_of() {
        printf '"path":"/org/vmctl1/vm/%s",.*"member":"Event",.*"data":\["%s",.*%s' "$1" "$2" "${3-}"
}

# states_of NAME: all that State was said to be, in one line
states_of() {
        heard "$(changed_to "$1" State '[a-z]+')" | sed -E 's/.*"State":\{"type":"s","data":"([a-z]+)".*/\1/' | xargs
}

# crash_service: kills the service and waits until it is back, which systemd sees to. Needs listen.
service_is_back='"NameOwnerChanged","payload":\{"type":"sss","data":\["org.vmctl1","",":'

crash_service() {
        forget_signals
        kill -9 "$(systemctl show --property MainPID --value vmctld)" && await 60 "$service_is_back"
}

# hold_helper HELPER: from now on that program of the service waits before it does anything, until release_helper.
hold_helper() {
        local helper=/usr/lib/vmctl/$1

        mkfifo "/run/$1.gate"
        printf '#!/bin/sh\nread -r _ < /run/%s.gate\nexec %s.real "$@"\n' "$1" "$helper" > "$scratch/gate"
        chmod +x "$scratch/gate"
        rm -f "$helper.real" # the same file, where it was held before
        mv "$helper" "$helper.real" && mv "$scratch/gate" "$helper"
}

release_helper() {
        local gate

        # Who was held goes on as .real.
        ln "/usr/lib/vmctl/$1.real" "/usr/lib/vmctl/$1.new" && mv "/usr/lib/vmctl/$1.new" "/usr/lib/vmctl/$1"
        # Whoever has the FIFO open reads its end, and whoever comes later finds none.
        exec {gate}<> "/run/$1.gate"
        rm "/run/$1.gate"
        exec {gate}>&-
}

# within_ms MILLISECONDS COMMAND...: succeeds if COMMAND does in that time.
within_ms() {
        local start=${EPOCHREALTIME/[.,]/} status=0 took

        "${@:2}" || status=$?
        took=$(((${EPOCHREALTIME/[.,]/} - start) / 1000))
        [ $took -le "$1" ] || { echo "took $took ms"; return 1; }
        return $status
}

# What hangs is given up by the service, the bus or polkit after ten seconds at the earliest. What has nothing to wait
# for takes milliseconds, or seconds where much else runs, but little of the service's own work.
readonly soon=9000 # milliseconds
readonly little_work=1500 # milliseconds of CPU time

# work_of PID: the milliseconds of CPU time that it has taken
work_of() {
        awk '{ print ($14 + $15) * 10 }' "/proc/$1/stat"
}

# promptly COMMAND...: succeeds if COMMAND does soon, and the service has not done much before it answered.
promptly() {
        local service before work status=0

        service=$(systemctl show --property MainPID --value vmctld)
        before=$(work_of "$service") || return
        within_ms $soon "$@" || status=$?
        work=$(($(work_of "$service") - before))
        [ $work -le $little_work ] || { echo "the service worked for $work ms"; return 1; }
        return $status
}
