#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 240
#
# What a QEMU that a guest has taken over can reach. Two VMs run; processes with the identity of one's QEMU, in its
# namespaces and outside of them, try to get at the other, at the service and at the host.

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

# Files that only alice may read: she hands them over as descriptors.
own=/home/alice/private
install --directory --mode=0700 --owner=alice "$own"
for file in vmlinuz initrd base.raw boot.raw; do
        install --mode=0600 --owner=alice "$guest/$file" "$own/$file"
done
echo "alice's secret" > "$own/secret"
echo "a secret of all" > /home/readable
chmod 0644 /home/readable

own_vm() {
        as_active alice vmctl create "$1" --memory 128M --accel tcg --image-format raw --start "${@:2}"
}

check "A VM is made from files that only their owner may read" own_vm a --network none --no-cloud-init \
        --kernel "$own/vmlinuz" --initrd "$own/initrd" --append "console=ttyS0 quiet no_timer_check" --image "$own/base.raw"
check "... and another, with a seed and a key pair" own_vm b --image "$own/boot.raw"
check "... and one of root's" define c --image "$guest/base.qcow2" --start

a=$(prop a PID) b=$(prop b PID) uid=$(prop a UID)
check "A guest with such a kernel comes up" booted a
check "The other one, too" booted b

field() {
        sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status" | xargs
}

# What the kernel says about the processes: QEMU, its threads, and the shim that is its parent.
check_output "$uid $uid $uid $uid" "QEMU runs under the VM's UID" field "$a" Uid
check_output "$uid $uid $uid $uid" "... and GID" field "$a" Gid
check_output "" "... in no group" field "$a" Groups
check "... which is no user's" test -z "$(getent passwd "$uid")"
check "... and no other VM's" test "$uid" -ne "$(prop b UID)" -a "$(prop b UID)" -ne "$(prop c UID)"
for set in CapInh CapPrm CapEff CapBnd CapAmb; do
        check_output 0000000000000000 "QEMU has no capabilities ($set)" field "$a" $set
done
check_output 1 "... and can get none" field "$a" NoNewPrivs
check_output 2 "... and a system call filter" field "$a" Seccomp
threads_differ() {
        local task
        for task in /proc/"$a"/task/*; do
                diff <(grep -E '^(Uid|Gid|Groups|Cap.*|NoNewPrivs|Seccomp):' "/proc/$a/status") \
                        <(grep -E '^(Uid|Gid|Groups|Cap.*|NoNewPrivs|Seccomp):' "$task/status") || return 0
        done
        return 1
}
check_status 1 "... and so have all its threads" threads_differ
shim=$(field "$a" PPid)
check_output "$uid $uid $uid $uid" "The shim is the same user" field "$shim" Uid
check_output 0000000000000000 "... without capabilities" field "$shim" CapPrm

namespace() {
        readlink "/proc/$1/ns/$2"
}
for kind in mnt ipc; do
        check "QEMU has its own $kind namespace" \
                test "$(namespace "$a" $kind)" != "$(namespace 1 $kind)" -a \
                "$(namespace "$a" $kind)" != "$(namespace "$b" $kind)"
done
check "A VM without a network has its own network namespace" test "$(namespace "$a" net)" != "$(namespace 1 net)"
check_output "lo" "... with nothing in it" \
        nsenter --target "$a" --net sh -c 'sed "1,2d; s/:.*//; s/ //g" /proc/self/net/dev'

# Descriptors: streams, sockets, event counters, the randomness device, the display's memory, and its files alone.
other_descriptors() {
        find "/proc/$1/fd" -type l -printf '%l\n' |
                grep --invert-match --extended-regexp \
                        '^(pipe|socket|anon_inode):|^/dev/(null|urandom)$|^/memfd:displaysurface ' | sort -u
}
check_output "/home/alice/private/base.raw
/memfd:file (deleted)
/var/lib/vmctl/vms/a/overlay.qcow2" "QEMU has the files of its VM open and no others" other_descriptors "$a"
check_output "/home/alice/private/boot.raw
/var/lib/vmctl/vms/b/overlay.qcow2
/var/lib/vmctl/vms/b/seed.iso" "... with a seed, that too" other_descriptors "$b"
writable() {
        local fd

        for fd in /proc/"$a"/fd/*; do
                case $(readlink "$fd") in
                /home/* | /memfd:file*) echo "$(readlink "$fd") $(($(sed -n 's/^flags:\t/0/p' \
                        "/proc/$a/fdinfo/${fd##*/}") & 3))" ;;
                esac
        done | sort -u
}
check_output "/home/alice/private/base.raw 0
/memfd:file (deleted) 2" "... the image read-only" writable
kernel_fd=$(find "/proc/$a/fd" -lname '/memfd:file*' | head -n 1)
check_error "*" "... and the copy of the kernel sealed" sh -c "echo x >> $kernel_fd"

# In QEMU's place, inside: all of its namespaces and its identity
inside() {
        nsenter --target "$a" --mount --ipc --net --root --wd -- \
                setpriv --reuid "$uid" --regid "$uid" --clear-groups --bounding-set=-all --inh-caps=-all \
                --no-new-privs "$@"
}
# ... and where it could come to if it broke out of the mount namespace
outside() {
        setpriv --reuid "$uid" --regid "$uid" --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
}

key=$(prop b SSHPrivateKey)
no_read() {
        local where=$1 path

        shift
        for path; do
                # The path must be one that is there, or nothing is shown.
                [ -e "$path" ] || { echo "$path does not exist"; return 1; }
                ! "$where" cat "$path" 2> /dev/null || { echo "$path was read"; return 1; }
                ! "$where" ls "$path/" 2> /dev/null || { echo "$path was listed"; return 1; }
        done
}
no_connect() {
        local socket

        for socket in "${@:2}"; do
                [ -S "$socket" ] || { echo "$socket is no socket"; return 1; }
                "$1" python3 -c 'import socket, sys
try:
        socket.socket(socket.AF_UNIX).connect(sys.argv[1])
        sys.exit(1)
except (PermissionError, FileNotFoundError):
        pass' "$socket" || { echo "$socket answers"; return 1; }
        done
}
no_write() {
        local path

        for path in "${@:2}"; do
                # shellcheck disable=SC2016
                ! "$1" sh -c ': > "$0/vmctl-test" || echo x >> "$0"' "$path" 2> /dev/null ||
                        { echo "$path was written"; return 1; }
        done
}

check "The trials work: what is there for all is read" inside cat /usr/bin/env
check "... also outside" outside cat /home/readable
for place in inside outside; do
        check "From $place, nothing of other VMs can be read" no_read $place \
                /var/lib/vmctl/vms/{a,b,c}/{vm.json,console.log,overlay.qcow2} \
                /var/lib/vmctl/vms/b/{seed.iso,known_hosts} "$key" \
                /run/vmctl/{a,b}/{run.json,qemu.log,exit.json}
        check "... nor folders listed" no_read $place /var/lib/vmctl /var/lib/vmctl/vms{,/a,/b} /run/vmctl{,/a,/b}
        check "... nor the host's and users' files" no_read $place \
                /etc/shadow /root "$own" "$own"/{secret,vmlinuz,base.raw,boot.raw} /etc/ssh/ssh_host_ed25519_key
        check "... nor sockets used" no_connect $place \
                /run/vmctl/{a,b}/{qmp,agent,console,log,vnc}.sock
        check "... nor anything written" no_write $place \
                / /usr /etc /var/lib/vmctl /var/lib/vmctl/vms/{a,b} /run/vmctl /run/vmctl/b /home/alice
        check_error "*not permitted*" "From $place, another VM's QEMU cannot be signalled" $place kill -0 "$b"
done
check "Inside, not even a public file of the host is there" test ! -e "/proc/$a/root/home"
check_output "bin dev etc lib lib64 proc sbin tmp usr " "... but only what QEMU needs" \
        inside sh -c 'ls / | tr "\n" " "'
writable_inside() {
        (inside find / -path /proc -prune -or -writable -not -type l -print 2> /dev/null || :) | sort | xargs
}
check_output "/dev/full /dev/null /dev/random /dev/urandom /dev/zero /tmp" \
        "... and nothing of it is writable but /tmp" writable_inside
check "... which is" inside sh -c 'echo x > /tmp/x && rm /tmp/x'
check_error "*" "... and small" inside dd if=/dev/zero of=/tmp/x bs=1M count=8
inside rm -f /tmp/x
check_error "*" "... and runs no program" inside sh -c 'cp /bin/true /tmp/true && /tmp/true'
inside rm -f /tmp/true
foreign_processes() {
        inside sh -c 'cat /proc/[0-9]*/status' 2> /dev/null | sed -n 's/^Uid:\t\([0-9]*\).*/\1/p' | sort -u
}
check_output "$uid" "In /proc there is nobody else" foreign_processes
check_error "*" "... and nothing of the kernel" inside cat /proc/cmdline
check_error "*" "A mount is refused" inside mount -t tmpfs x /tmp
check_error "*" "Devices cannot be made" inside mknod /tmp/sda b 8 0
bus_call() {
        "$1" busctl --timeout=5 "${@:2}"
}
check_error "*" "Inside, there is no bus" bus_call inside list
check_error "*" "... no network without one" inside timeout 5 bash -c 'exec 3<> /dev/tcp/127.0.0.1/10022'

# Nobody else than the owner gets at the keys.
check_output "660 vmctld" "The private key is the service's" stat --format='%a %U' "$key"
check_output "660 vmctld" "... and known_hosts" stat --format='%a %U' "$(prop b SSHKnownHosts)"
check "... to which the owner adds" as alice tee --append "$(prop b SSHKnownHosts)" < /dev/null
check_error "*Permission denied*" "... and nobody else" as bob tee --append "$(prop b SSHKnownHosts)" < /dev/null
check_error "*Permission denied*" "Not even the owner changes the key" as alice tee --append "$key" < /dev/null
check_output "600 vmctld" "The seed is nobody's" stat --format='%a %U' "$(prop b Seed)"
check_output "* OPENSSH PRIVATE KEY*" "The owner can read the key" as alice cat "$key"
check_error "*Permission denied*" "Somebody else cannot" as bob cat "$key"
as_bob() {
        as bob "$@"
}
check "... nor use sockets" no_connect as_bob /run/vmctl/b/{qmp,agent,console,log}.sock
check "... nor see the display" no_connect as_bob /run/vmctl/b/vnc.sock
check "The owner sees the display" as alice python3 -c 'import socket
s = socket.socket(socket.AF_UNIX); s.connect("/run/vmctl/b/vnc.sock"); assert s.recv(3) == b"RFB"'
as_alice() {
        as alice "$@"
}
check "... but has no raw QMP" no_connect as_alice /run/vmctl/b/qmp.sock

# All this did the guests no harm.
check "The guests go on" tell a "echo still here" "still here"
check "... both" tell b "echo still here" "still here"
check_output "$a" "... in the same QEMU" prop a PID
