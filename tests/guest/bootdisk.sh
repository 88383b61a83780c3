# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Disk images that boot by themselves under BIOS and under UEFI, made as plain files: no mounts, no loop
# devices. They start with a GPT of a BIOS boot partition, which holds GRUB's core image, and an EFI system
# partition, which holds the same GRUB as an EFI program. To be sourced.

readonly BOOTDISK_SECTOR=512
readonly BOOTDISK_BIOS_START=2048
readonly BOOTDISK_BIOS_SECTORS=2046
readonly BOOTDISK_ESP_START=4096

# bootdisk_partition IMAGE ESP_SECTORS: a sparse file with the two partitions; then one more MiB, for the GPT's
# copy of itself.
bootdisk_partition() {
        local image=$1 esp_sectors=$2

        rm -f "$image"
        truncate -s $(((BOOTDISK_ESP_START + esp_sectors + 2048) * BOOTDISK_SECTOR)) "$image"
        sfdisk -q "$image" <<-END
		label: gpt
		label-id: 5f8c2a10-7d3e-4b7a-9b0e-6d1f0c3a2e01
		start=$BOOTDISK_BIOS_START, size=$BOOTDISK_BIOS_SECTORS, type=21686148-6449-6E6F-744E-656564454649, uuid=5f8c2a10-7d3e-4b7a-9b0e-6d1f0c3a2e02
		start=$BOOTDISK_ESP_START, size=$esp_sectors, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=5f8c2a10-7d3e-4b7a-9b0e-6d1f0c3a2e03
	END
}

# bootdisk_mtools IMAGE COMMAND...: an mtools command on the EFI system partition.
bootdisk_mtools() {
        local image=$1 command=$2

        shift 2
        MTOOLS_SKIP_CHECK=1 "$command" -i "$image@@$((BOOTDISK_ESP_START * BOOTDISK_SECTOR))" "$@"
}

# Writes a number as so many little-endian bytes at a place in the image.
bootdisk_poke() {
        local image=$1 place=$2 bytes=$3 number=$4 text='' i

        for ((i = 0; i < bytes; i++)); do
                printf -v text '%s\\x%02x' "$text" $((number >> 8 * i & 255))
        done
        # shellcheck disable=SC2059  # the format is the escapes made above
        printf "$text" | dd of="$image" bs=1 seek="$place" conv=notrunc status=none
}

# bootdisk_grub IMAGE ESP_SECTORS LABEL CONFIG LIB MODULE...: formats the EFI system partition and puts GRUB,
# of what LIB (such as /usr/lib/grub) has, with this built-in configuration in both places. What
# grub-bios-setup does for a BIOS is three writes: boot.img into the first sector, ahead of the partition
# table, with the place of the core image (offset 0x5c); the core image into its partition; and in the core
# image's first sector, where the rest of it is (0x1f4).
bootdisk_grub() {
        local image=$1 esp_sectors=$2 label=$3 config=$4 lib=$5 start=$BOOTDISK_BIOS_START work

        shift 5
        work=$(mktemp -d)
        grub-mkimage -d "$lib/i386-pc" -O i386-pc -p /boot/grub -c "$config" \
                -o "$work/core.img" biosdisk "$@"
        grub-mkimage -d "$lib/x86_64-efi" -O x86_64-efi -p /boot/grub -c "$config" \
                -o "$work/BOOTX64.EFI" "$@"

        if (($(stat -c %s "$work/core.img") > BOOTDISK_BIOS_SECTORS * BOOTDISK_SECTOR)); then
                echo "GRUB's core image is too large for the BIOS boot partition" >&2
                rm -rf "$work"
                return 1
        fi
        dd if="$lib/i386-pc/boot.img" of="$image" bs=1 count=440 conv=notrunc status=none
        bootdisk_poke "$image" $((0x5c)) 8 "$start"
        dd if="$work/core.img" of="$image" bs=$BOOTDISK_SECTOR seek="$start" conv=notrunc status=none
        bootdisk_poke "$image" $((start * BOOTDISK_SECTOR + 0x1f4)) 8 $((start + 1))

        bootdisk_mtools "$image" mformat -T "$esp_sectors" -h 255 -s 63 -N 5f8c2a10 -v "$label" ::
        # mformat puts a partition table into the boot sector, and tools then find partitions in the partition.
        dd if=/dev/zero of="$image" bs=1 seek=$((BOOTDISK_ESP_START * BOOTDISK_SECTOR + 0x1be)) count=64 \
                conv=notrunc status=none
        bootdisk_mtools "$image" mmd ::/EFI ::/EFI/BOOT
        bootdisk_mtools "$image" mcopy "$work/BOOTX64.EFI" ::/EFI/BOOT/BOOTX64.EFI
        rm -rf "$work"
}
