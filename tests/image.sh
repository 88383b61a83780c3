# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# For test scripts about the store of images, in a host: a server of files, calls with descriptors, and what the service
# and the disk say. Sourced behind integration/lib.sh.

# What the libraries that were sourced before have set
: "${tests:?}" "${scratch:?}" "${BUILD:?}"

store=/var/lib/vmctl/images
image_call=$BUILD/tests/integration/image-call
www=$scratch/www
gate=$scratch/gate
chmod 0755 "$scratch"

# make_disk FILE CONTENT SIZE: a raw disk whose first CONTENT bytes nothing makes smaller, and that a header says is a disk
make_disk() {
        { head --bytes=510 /dev/zero && printf '\x55\xaa' && head --bytes="$2" /dev/urandom; } > "$1"
        truncate --size="$3" "$1"
}

# serve: starts integration/http-server.py, with $url for its address
serve() {
        local port

        mkdir "$www"
        : > "$scratch/requests"
        exec {serving}< <(exec python3 "$tests/integration/http-server.py" "$www" "$scratch/requests" "$gate")
        read -r -t 20 -u "$serving" port
        # shellcheck disable=SC2034
        url=http://127.0.0.1:$port
}

# requests: what the server was asked for since the last time
requests() {
        cat "$scratch/requests"
        : > "$scratch/requests"
}

close_gate() {
        mkfifo "$gate"
}

open_gate() {
        local opened

        # Whoever has the FIFO open reads its end, and whoever comes later finds none.
        exec {opened}<> "$gate"
        rm "$gate"
        exec {opened}>&-
}

# follow NAME [as USER] VERB ARGUMENT...: image-call in the background; its output is $scratch/NAME.
follow() {
        local name=$1 who=()

        shift
        [ "$1" != as ] || { who=(as "$2"); shift 2; }
        : > "$scratch/$name"
        "${who[@]}" "$image_call" "$@" > "$scratch/$name" 2>&1 &
}

# reaches NAME REGEX: waits until it prints such a line.
reaches() {
        timeout 30 grep --quiet --extended-regexp -e "$2" < <(exec timeout 30 tail --follow --lines=+1 "$scratch/$1") ||
                { cat "$scratch/$1"; return 1; }
}

# ends NAME...: waits for their ends, and tells how each ended.
ends() {
        local name

        for name; do
                reaches "$name" "^(done$|(refused|failed|canceled|timeout|lost) )" && tail --lines=1 "$scratch/$name"
        done
}

job_of() {
        sed -n 's/^job //p' "$scratch/$1"
}

cancel() {
        busctl call org.vmctl1 "$(job_of "$1")" org.vmctl1.Job Cancel
}

# call_manager METHOD [SIGNATURE ARGUMENT...]: its reply's data as JSON
call_manager() {
        busctl --timeout=60 --json=short call org.vmctl1 /org/vmctl1 org.vmctl1.Manager "$@" | jq --compact-output .data
}

# images: the names of all, in one line
images() {
        call_manager ListImages | jq --raw-output '.[0] | map(.[0]) | join(" ")'
}

# image_prop NAME PROPERTY
image_prop() {
        local name=${1//-/_2d}

        busctl --json=short get-property org.vmctl1 "/org/vmctl1/image/$name" org.vmctl1.Image "$2" | jq --raw-output .data
}

# image_method NAME METHOD [SIGNATURE ARGUMENT...]
image_method() {
        busctl --timeout=60 call org.vmctl1 "/org/vmctl1/image/${1//-/_2d}" org.vmctl1.Image "${@:2}"
}

disk_of() {
        echo "$store/$(image_prop "$1" UUID)/disk"
}

# has_content NAME FILE
has_content() {
        cmp "$(disk_of "$1")" "$2"
}

# kept: how many downloads wait for the rest
kept() {
        settled && find $store/.partial -mindepth 1 -maxdepth 1 | wc -l
}

# store_is_clean [KEPT]: no half image is left, as soon as the service has removed it, and of so many URLs something.
store_is_clean() {
        settled && find $store && [ -z "$(find $store -mindepth 1 -maxdepth 1 -name '.*' ! -name .partial)" ] &&
                [ "$(kept)" -eq "${1-0}" ]
}

# settled: all children of the service and its launcher have ended, as systemd counts their processes.
settled() {
        local unit pid dir

        for unit in vmctld vmctl-launch; do
                dir=/sys/fs/cgroup
                [ ! -d $dir/systemd ] || dir+=/systemd
                dir+=$(systemctl show --property ControlGroup --value $unit)
                while read -r pid; do
                        [ "$pid" = "$(systemctl show --property MainPID --value $unit)" ] ||
                                timeout 20 tail --pid="$pid" --sleep-interval=0.1 -f /dev/null || return
                done < "$dir/cgroup.procs"
        done
}

# workers: the processes of the service's workers
workers() {
        pgrep --parent "$(systemctl show --property MainPID --value vmctl-launch)" --full "/usr/lib/vmctl/vmctl-(pull|image)"
}
