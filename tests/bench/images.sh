# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The section of images, for `run`: its functions are exported, since `measure turns` has a shell run each.

# What the service or the worker does takes turns with what a user would type instead. Both end when the image is on
# disk, and the times of both are those of a shell that starts it.
bench_disk=/var/lib/vmctl-bench   # of the machine; `run` binds it
bench_memory=/dev/shm/vmctl-bench
bench_store=/var/lib/vmctl/images

# What `run` has set
: "${build:?}" "${measure:?}" "${runs:?}" "${image_runs:?}" "${image_mib:?}"

# Of which little is data, in pieces that shrink to a half.
make_sparse_image() {
        python3 -c '
import random, sys
rng = random.Random(1)
size = int(sys.argv[2]) << 20
with open(sys.argv[1], "wb") as f:
    for i in range(0, size, 64 << 20):
        f.seek(i)
        f.write(b"".join(rng.randbytes(512) + bytes([rng.randrange(8)]) * 512 for _ in range(5 << 10)))
    f.truncate(size)
    f.seek(510)
    f.write(b"\x55\xaa")' "$1" "$image_mib" # what says that it is a disk
}

# start_file_server FOLDER: sets url. One that costs little itself.
start_file_server() {
        local ready port

        exec {ready}< <(exec python3 -u -c '
import http.server, os, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass
    def copyfile(self, source, to):
        to.flush()
        offset = 0
        while n := os.sendfile(self.connection.fileno(), source.fileno(), offset, 1 << 30):
            offset += n
os.chdir(sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port)
server.serve_forever()' "$1")
        read -r port <&"$ready"
        url=http://127.0.0.1:$port/image.raw.zst
}

# A file system with reflinks on the machine's disk. The service finds it when the next call starts it.
mount_store() {
        local i

        systemctl stop vmctld
        mknod /dev/loop-control c 10 237 2> /dev/null || :
        for i in {0..15}; do
                mknod "/dev/loop$i" b 7 "$i" 2> /dev/null || :
        done
        truncate --size=6G "$bench_disk/store" &&
                mkfs.xfs -q -m reflink=1 "$bench_disk/store" &&
                mount -o loop "$bench_disk/store" "$bench_store"
}

clear_target() {
        rm -f "$target"/{output,received}
}

pull_by_worker() {
        "$build/src/worker/vmctl-pull" --output 3 --received 4 3<> "$target/output" 4<> "$target/received" \
                <<< "{\"url\": \"$url\", \"max-size\": 2147483648}" > /dev/null
        sync "$target/output"
}

pull_by_pipeline() {
        curl --silent --fail "$url" | zstd --decompress --sparse --quiet --force -o "$target/output"
        sync "$target/output"
}

clear_store() {
        clear_target
        ! vmctl image inspect measured > /dev/null 2>&1 || vmctl image remove measured > /dev/null
}

pull_by_service() {
        vmctl image pull --quiet "$url" --name measured > /dev/null
}

import_by_service() {
        vmctl image import --quiet "$source" --name measured > /dev/null
}

copy_by_reflink() {
        cp --reflink=always "$source" "$target/output"
        sync "$target/output"
}

copy_sparse() {
        cp --reflink=never --sparse=always "$source" "$target/output"
        sync "$target/output"
}

export -f clear_target clear_store pull_by_worker pull_by_pipeline pull_by_service import_by_service copy_by_reflink \
        copy_sparse
export build url target source

# Of what a worker has left, and a pipeline.
check_output() {
        local step

        for step in "$@"; do
                clear_target
                $step
                cmp "$target/output" $bench_memory/image.raw
        done
        clear_target
}

measure_worker() {
        target=$2
        check_output pull_by_worker pull_by_pipeline
        "$measure" turns "Pull, worker, $1" "$image_runs" clear_target pull_by_worker pull_by_pipeline
}

measure_service() {
        target=$2
        "$measure" turns "Pull, service, $1" "$image_runs" clear_store pull_by_service pull_by_pipeline
        source=$bench_memory/image.raw
        "$measure" turns "Import, copy, $1" "$image_runs" clear_store import_by_service copy_sparse
        clear_store
}

measure_reflink() {
        target=$bench_store source=$bench_store/image.raw
        cp --sparse=always $bench_memory/image.raw "$source"
        sync "$source"
        "$measure" turns "Import, reflink" "$image_runs" clear_store import_by_service copy_by_reflink
        clear_store
        rm "$source"
}

section_images() {
        mkdir $bench_memory
        make_sparse_image $bench_memory/image.raw
        zstd --quiet -3 $bench_memory/image.raw -o $bench_memory/image.raw.zst
        start_file_server $bench_memory
        printf 'An image of %d MiB, %d MiB of it data, %d MiB compressed:\n\n' "$image_mib" \
                "$(du --block-size=1M $bench_memory/image.raw | cut -f 1)" \
                $(($(stat --format=%s $bench_memory/image.raw.zst) >> 20))
        "$measure" heading
        measure_worker memory $bench_memory
        measure_worker disk $bench_disk
        measure_service memory $bench_memory

        pull_by_service
        "$measure" create-image $bench_memory/image.raw measured "$url" "$runs"
        clear_store

        if mount_store; then
                measure_service disk $bench_store
                measure_reflink
                systemctl stop vmctld
                umount $bench_store
        else
                echo "No loop device or no XFS: the service's disk and reflinks are not measured." >&2
        fi
}
