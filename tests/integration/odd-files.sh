#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Something else in the place of files of the service's own, which it does not wait for: FIFOs, devices, sockets.

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"
# shellcheck source=tests/image.sh
. "$tests/image.sh"

folder=/var/lib/vmctl/vms/web

# put KIND FILE: FILE is kept beside, until put_back.
put() {
        mv "$2" "$2.kept"
        case $1 in
        FIFO) mkfifo "$2" ;;
        device) mknod "$2" c 1 5 ;;
        socket) python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$2" ;;
        esac
        chown vmctld: "$2"
}

put_back() {
        rm "$1" && mv "$1.kept" "$1"
}

vmctl create web --image "$guest/base.qcow2" --network none --display none --accel tcg --memory 128M
vmctl start web
vmctl kill web
make_disk "$scratch/disk.raw" 65536 1M
vmctl image import "$scratch/disk.raw" --name stored --format raw > /dev/null 2>&1
service=$(systemctl show --property MainPID --value vmctld)

for kind in FIFO device socket; do
        for file in seed.iso overlay.qcow2 console.log console.log.1; do
                put $kind $folder/$file
                check_error "*Cannot open '$file' of VM 'web': it is no regular file*" "A $kind in the place of $file" \
                        timeout 60 vmctl start web
                check "... keeps nobody waiting" timeout 60 vmctl list
                put_back $folder/$file
        done
        put $kind $folder/console.log
        check_error "*Cannot read the console log of VM 'web'*" "A $kind is no console log" timeout 60 vmctl log web
        put_back $folder/console.log
        disk=$(echo "$store"/*/disk)
        put $kind "$disk"
        check_error "*" "... nor an image" timeout 60 vmctl image export stored "$scratch/exported"
        check "... and keeps nobody waiting" timeout 60 vmctl list
        put_back "$disk"
done
check "With all in its place the VM starts" vmctl start web
check "... and the image is there" vmctl image export stored "$scratch/exported.raw"
check_output "$service" "The service is that of the beginning" systemctl show --property MainPID --value vmctld
