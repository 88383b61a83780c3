#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A real Debian cloud image from create to ssh, as the Quick Start has it: cloud-init, sshd, the generated key, a disk
# that grows, ACPI. The image is built outside, where there is a network.
# timeout: 2400
# What the guest's shell is to expand stands in single quotes.
# shellcheck disable=SC2016

build=$(realpath "${BUILD:-$(dirname "$0")/../../build/bookworm}")
image=$build/image/debian-12.qcow2
[ -d /run/vmctl-host ] || "$(dirname "$0")/../root" --bind "$build" -- "$(dirname "$0")/../image/build" \
        "$build/image" "$build/src/build/vmctl-build" || exit

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

key=$scratch/id
guest_ssh() {
        vmctl ssh web --timeout 900 -- "$@"
}

# finished NAME: the guest's console says that cloud-init has done all
finished() {
        wait_for_line 900 "Cloud-init v.* finished" vmctl log "$1" --console --follow
}

check "a VM is made and started with no more than an image" \
        vmctl create --name web --image "$image" --vcpus 2 --memory 1024 --disk 6 --start
# cloud-init restarts sshd once, which may cut off a login that comes at that moment.
check_output "web" "the first login needs nothing but the name" eval 'guest_ssh hostname || guest_ssh hostname'
check "cloud-init finishes" finished web
check "... and finds nothing wrong" guest_ssh cloud-init status --wait
check_output "vm" "the user is vm" guest_ssh id -un
check_output "0" "... who may become root without a password" guest_ssh sudo id -u
check_output "/bin/bash" "... and has bash" guest_ssh "getent passwd vm | cut -d: -f7"
check_status 42 "the command's exit status is handed on" guest_ssh exit 42
check_output "a  b" "arguments and standard input pass through" bash -c "printf 'a  b\n' | vmctl ssh web --timeout 900 -- cat"
check_output "6" "the root file system has grown with the disk" \
        guest_ssh "df --block-size=1G --output=size / | tail -1 | tr -d ' '"
check "root cannot log in" \
        bash -c '! ssh -q -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -p "$2" \
                -i "$1" root@127.0.0.1 id -u' - \
        "$(busctl --json=short get-property org.vmctl1 /org/vmctl1/vm/web org.vmctl1.VM SSHPrivateKey | jq -r .data)" \
        "$(busctl --json=short get-property org.vmctl1 /org/vmctl1/vm/web org.vmctl1.VM SSHPort | jq -r .data)"
check "the guest's host key was pinned" grep -q ssh-ed25519 /var/lib/vmctl/vms/web/known_hosts

# The user's own configuration: this host's root has none yet.
check "ssh is told of the VMs" vmctl ssh-config --install
check_output "vm yes" "plain ssh reaches one" ssh -o BatchMode=yes vm/web 'echo "$(id -un) yes"'
mkdir -p "$scratch/tree/sub"
head --bytes=3M /dev/urandom > "$scratch/tree/sub/data"
echo 'echo script' > "$scratch/tree/run"
chmod 0755 "$scratch/tree/run"
ln -s sub/data "$scratch/tree/link"
check "and so does scp" scp -q -o BatchMode=yes "$scratch/tree/sub/data" web.vm:by-scp
check "and sftp" sftp -q -o BatchMode=yes web.vm:by-scp "$scratch/by-sftp"
check "... with the same bytes" cmp "$scratch/tree/sub/data" "$scratch/by-sftp"
check "cp copies a folder to the guest" vmctl cp --timeout 900 -rp "$scratch/tree" web:copied
check_output "script" "... with modes" guest_ssh ./copied/run
check "... and back" vmctl cp --timeout 900 -rp web:copied "$scratch"
check "... with all that is in it" diff --no-dereference --recursive "$scratch/tree" "$scratch/copied"
check_output "$(stat --format='%a %Y' "$scratch/tree/run")" "... and times" stat --format='%a %Y' "$scratch/copied/run"
check_output "piped" "cp is a part of pipes" \
        bash -c 'echo piped | vmctl cp --timeout 900 - web:/tmp/stream && vmctl cp --timeout 900 web:/tmp/stream -'
check_error "*denies its user access*" "cp may do what the user may" vmctl cp --timeout 900 "$scratch/tree/run" web:/etc/run

ssh-keygen -q -t ed25519 -N "" -f "$scratch/other"
sed "s#\(ssh-ed25519\) [^ ]*#$(cut -d' ' -f1,2 "$scratch/other.pub")#" /var/lib/vmctl/vms/web/known_hosts > "$scratch/forged"
cp /var/lib/vmctl/vms/web/known_hosts "$scratch/pinned"
cat "$scratch/forged" > /var/lib/vmctl/vms/web/known_hosts
check_status 255 "a guest with another host key is refused" guest_ssh true
check_error "*host key*" "... by cp, too" vmctl cp --timeout 900 web:by-scp "$scratch/refused"
check_status 255 "... and by plain ssh" ssh -o BatchMode=yes web.vm true
cat "$scratch/pinned" > /var/lib/vmctl/vms/web/known_hosts

check "the guest shuts down when the power button is pressed" vmctl stop web --timeout 300
check_output '"guest-shutdown"' "... by itself" \
        bash -c 'busctl --json=short get-property org.vmctl1 /org/vmctl1/vm/web org.vmctl1.VM ShutdownReason | jq -c .data'
check_error "*VM 'web': it is stopped*Hint: *" "nothing is copied to a VM that does not run" \
        vmctl cp "$scratch/tree/run" web:
check "it is destroyed with all that belongs to it" vmctl destroy web
check_output "web.vm" "ssh knows it no longer" bash -c 'ssh -G web.vm | sed -n "s/^hostname //p"'
check "... and leaves no file" bash -c '! ls -d /var/lib/vmctl/vms/web /run/vmctl/web'

# The same image by UEFI, with a key of the user's own and another user.
ssh-keygen -q -t ed25519 -N "" -f "$key"
check "an image boots by UEFI, with a key and a user of one's own" \
        vmctl create --name efi --image "$image" --vcpus 2 --memory 1024 --firmware uefi --ssh-key "$key.pub" \
        --ssh-user tester --hostname fancy.example --start
check "cloud-init finishes" finished efi
check_output "tester fancy" "the key and the user work" \
        vmctl ssh efi --key "$key" --timeout 900 -- 'echo "$(id -un) $(hostname -s)"'
check "the guest was booted by UEFI" vmctl ssh efi --key "$key" --timeout 900 -- test -d /sys/firmware/efi
check "a VM with a key of one's own has no other" bash -c '! ls /var/lib/vmctl/vms/efi/id_ed25519_generated'
check "it is destroyed while it runs" vmctl destroy efi
