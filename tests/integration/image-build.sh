#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 240
#
# Images that a plain user makes of a tar boot: with a kernel of their own that is handed to QEMU, and by themselves.

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

files=$(mktemp -d /var/tmp/image-build.XXXXXX)
chown alice "$files"

# A root file system whose init tells what became of an owner, a mode, a device, a link and a content.
make_root() {
        local root=$scratch/root

        mkdir -p "$root"/{bin,boot,dev,etc,proc,sbin}
        cp /bin/busybox "$root/bin/"
        cp "$guest/vmlinuz" "$root/boot/vmlinuz-1.0"
        cp "$guest/root-initrd" "$root/boot/initrd.img-1.0"
        echo "hello from the image" > "$root/etc/text"
        chown 1234:5678 "$root/etc/text"
        chmod 4751 "$root/etc/text"
        ln "$root/etc/text" "$root/etc/again"
        mknod "$root/etc/device" c 1 5
        cat > "$root/sbin/init" <<-'END'
		#!/bin/busybox sh
		busybox mount -t devtmpfs devtmpfs /dev
		exec > /dev/console 2>&1
		busybox touch /etc/written
		echo "IMAGE $(busybox stat -c %u:%g:%a:%h /etc/text) $(busybox stat -c %t:%T /etc/device) $(busybox cat /etc/again)"
		busybox poweroff -f
	END
        chmod 0755 "$root/sbin/init"
        ln -s busybox "$root/bin/sh"
        tar -C "$root" --xattrs -czf "$files/root.tar.gz" .
        chmod 0644 "$files/root.tar.gz"
}

# build_as_alice NAME OPTION...: her own image, of files that are not hers
build_as_alice() {
        local name=$1

        shift
        # shellcheck disable=SC2016  # her shell expands it
        as alice bash -c 'cd "$1" && name=$2 && shift 2 && /usr/lib/vmctl/vmctl-build --output 3 --kernel-output 4 \
                --initrd-output 5 "$@" root.tar.gz 3<> "$name.raw" 4<> "$name.kernel" 5<> "$name.initrd"' - \
                "$files" "$name" "$@" | tee "$scratch/answer"
        jq --exit-status --slurp '.[-1].result' "$scratch/answer" > /dev/null
}

# says NAME: what its init told
says() {
        wait_for_line 60 "IMAGE .*" vmctl log "$1" --console --follow | sed 's/.*IMAGE/IMAGE/' | tr -d '\r'
}

expected="IMAGE 1234:5678:4751:2 1:5 hello from the image"
common=(--no-cloud-init --memory 256M --display none --network none --accel tcg --image-format raw --start)

check "the root file system is packed" make_root
check "a plain user makes an image of a tar" build_as_alice direct
check "the kernel is the one in it" cmp "$files/direct.kernel" "$guest/vmlinuz"
check "... and so is the initial RAM disk" cmp "$files/direct.initrd" "$guest/root-initrd"
check "the file system is clean" /sbin/e2fsck -fn "$files/direct.raw"
check "a VM is made of all three" vmctl create direct --image "$files/direct.raw" --kernel "$files/direct.kernel" \
        --initrd "$files/direct.initrd" --append "console=ttyS0 quiet" "${common[@]}"
check_output "$expected" "it boots, and all is as in the tar" says direct

check "a plain user makes an image that boots by itself" build_as_alice disk --bootable --append "console=ttyS0 quiet"
for firmware in bios uefi; do
        check "a VM is made of it with $firmware" vmctl create $firmware --image "$files/disk.raw" \
                --firmware $firmware "${common[@]}"
        check_output "$expected" "it boots, and all is as in the tar" says $firmware
done
