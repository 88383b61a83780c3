#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 240
#
# What users, files, the host and QEMU itself can do wrong: each gives an error that says so or a failed VM with a
# reason, in time, leaves nothing behind, and does no harm to a VM that runs meanwhile.

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

# Stands in for QEMU where a VM is named fakeSOMETHING, with the same descriptors; it has to lie below /usr for the
# sandbox to show it.
fake=/usr/lib/vmctl-test/fake-qemu
mkdir -p "${fake%/*}"
cat > $fake << 'EOP'
#!/usr/bin/python3
import json, os, re, signal, socket, sys, time

line = " ".join(sys.argv[1:])
name = re.search(r"guest=fake([a-z]+)", line)
if not name:
        os.execv("/usr/bin/qemu-system-x86_64", sys.argv)
monitor = socket.socket(fileno=int(re.search(r"id=monitor,fd=(\d+)", line).group(1)))
greeting = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}}
event = {"event": "RESET", "data": {"guest": True, "reason": "guest-reset"},
         "timestamp": {"seconds": 1, "microseconds": 0}}


def text(o):
        return json.dumps(o).encode() + b"\r\n"


def answer(commands):
        """Does as QEMU does, so many commands long."""
        monitor.sendall(text(greeting))
        for request in monitor.makefile():
                request = json.loads(request)
                result = {"status": "running", "running": True} if request["execute"] == "query-status" else {}
                monitor.sendall(text({"return": result, "id": request.get("id")}))
                commands -= 1
                if commands == 0:
                        return


def wait():
        while True:
                time.sleep(3600)


def lastwords():
        print("cannot set up guest memory: the moon is too close", file=sys.stderr)
        sys.exit(1)


def silent():
        wait()


def closed():
        monitor.close()
        wait()


def garbage():
        monitor.sendall(os.urandom(1000) + b"\n")
        wait()


def http():
        monitor.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
        wait()


def endless():
        try:
                for _ in range(100):
                        monitor.sendall(b'"' + b"x" * 1048576)
        except OSError:
                pass
        wait()


def nested():
        monitor.sendall(b"[" * 100000 + b"]" * 100000 + b"\r\n")
        wait()


def nogreeting():
        monitor.sendall(text({"return": {}}))
        wait()


def mute():
        answer(1)
        wait()


def flood():
        answer(2)
        while True:
                monitor.sendall(text(event) * 100)


def lategarbage():
        answer(2)
        monitor.recv(1)
        monitor.sendall(b"\0\xff{{{\n")
        wait()


def lateclose():
        answer(2)
        monitor.recv(1)
        monitor.close()
        wait()


def stubborn():
        for number in range(1, 32):
                if number not in (signal.SIGKILL, signal.SIGSTOP):
                        signal.signal(number, signal.SIG_IGN)
        answer(10**9)
        wait()


def crash():
        answer(1)
        os.kill(os.getpid(), signal.SIGABRT)


globals()[name.group(1)]()
EOP
chmod 0755 $fake

# configure [LINE...]: the service with these settings
configure() {
        printf '%s\n' "[Daemon]" "$@" > /etc/vmctl/vmctld.conf
        systemctl reset-failed vmctld 2> /dev/null
        systemctl restart vmctld
}
configure "Qemu=$fake"

manager() {
        busctl --timeout=60 call org.vmctl1 /org/vmctl1 org.vmctl1.Manager "$@"
}

# What there is of VMs on the host
inventory() {
        find /var/lib/vmctl/vms /run/vmctl -mindepth 1 -maxdepth 1 | sort
        systemctl list-units --all --plain --no-legend 'vmctl-*.scope' | awk '{ print $1 }' | sort
        pgrep --full --list-name 'vmctl-shim|vmctl-prepare|guest=' | sort
        ss --listening --tcp --numeric --no-header "sport >= 10022 and sport <= 10122" | awk '{ print $4 }'
}

refused=0
# refuses PATTERN DESCRIPTION COMMAND...: like check_error; and it left nothing.
refuses() {
        check_error "$@"
        refused=$((refused + 1))
}
nothing_left() {
        diff "$scratch/before" <(inventory)
}

check "A VM that is to go on undisturbed" define bystander --network user --start
check "... is up" booted bystander
bystander=$(prop bystander PID)
first_uid=$(prop bystander UID)
inventory > "$scratch/before"

# Keys, numbers and words
refuses "*There is no option 'colour'*" "An unknown key" manager CreateVM 'sa{sv}' x 1 colour s blue
for bad in "vcpus 0" "vcpus 256" "vcpus 4294967295" "memory 0" "memory 1" "memory 1E" "disk 17P" "network bridge" \
        "hostname -x" "hostname a..b" "ssh-user root:x" "machine pc-i440fx-2.9" "machine q35,accel=kvm" "firmware coreboot" \
        "accel hax" "cpu host;" "display sdl" "cpu-quota 0.5x" "memory-max 1" "tasks-max 1" \
        "cpu-weight 10001" "image-format vmdk"; do
        read -r key value <<< "$bad"
        refuses "vmctl: *" "$key $value" define x "--$key" "$value" --image "$guest/base.qcow2"
done
refuses "*needs something to boot*" "Nothing to boot from" vmctl create x
refuses "*neither an image nor a kernel*" "... asked of the service" manager CreateVM 'sa{sv}' x 0
refuses "*exclude each other*" "UEFI and a kernel" define x --firmware uefi
refuses "*out of range*" "Absurd memory" manager CreateVM 'sa{sv}' x 1 memory t 18446744073709551615
refuses "*out of range*" "Absurd disk" manager CreateVM 'sa{sv}' x 1 disk t 18446744073709551615
refuses "*out of range*" "Absurd vcpus" manager CreateVM 'sa{sv}' x 1 vcpus u 4294967295

for name in "" . .. .x -x a/b ../x "a b" "a'b" "ü" $'a\nb' "$(printf 'x%.0s' {1..65})" "a%s" "a;b" "a@b" "a,b" "a=b"; do
        refuses "*is not a valid VM name*" "The name $(printf '%.20q' "$name")" manager CreateVM 'sa{sv}' -- "$name" 0
done

# Files
files=$scratch/files
mkdir "$files"
: > "$files/empty"
echo "not an image" > "$files/text"
head --bytes=100 "$guest/base.qcow2" > "$files/cut-header"
qemu-img create -q -f qcow2 "$files/full" 16M
qemu-io -f qcow2 -c "write -P 1 0 8M" "$files/full" > /dev/null
head --bytes=1M "$files/full" > "$files/cut"
qemu-img create -q -f qcow2 -b "$guest/base.qcow2" -F qcow2 "$files/backing"
qemu-img create -q -f qcow2 -o data_file="$files/data" "$files/data-file" 16M
qemu-img create -q -f vmdk "$files/vmdk" 16M
mkfifo "$files/fifo"
mkdir "$files/folder"
python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$files/socket"
image() {
        timeout 60 vmctl create x --no-cloud-init --image "$files/$1" "${@:2}"
}
refuses "*No such file*" "A missing image" image missing
refuses "*empty*" "An empty one" image empty
refuses "*no disk image*" "A text file" image text
refuses "*ends within its qcow2 header*" "A qcow2 header that is cut off" image cut-header
refuses "*cut off*" "A qcow2 file that is" image cut
refuses "*difference to another file*stand alone*" "A qcow2 file with a backing file" image backing
refuses "*data in another file*stand alone*" "... with a data file" image data-file
refuses "*qcow2*" "... stated to be raw" image full --image-format raw
refuses "*qcow2*" "A raw file stated to be qcow2" vmctl create x --image "$guest/base.raw" --image-format qcow2
refuses "*VMDK*only qcow2 and raw*" "Another format" image vmdk
refuses "*folder*" "A folder" image folder
refuses "*not a regular file*" "A FIFO" image fifo
refuses "*socket*" "A socket" image socket
refuses "*not a regular file*" "A device" vmctl create x --image /dev/zero
refuses "*no x86 Linux kernel*" "A kernel that is none" vmctl create x --kernel "$files/text"
refuses "*no x86 Linux kernel*" "... or empty" vmctl create x --kernel "$files/empty"
refuses "*folder*" "... or a folder" vmctl create x --kernel "$files/folder"
refuses "*not a regular file*" "An initrd that is a FIFO" timeout 60 vmctl create x --kernel "$guest/vmlinuz" --initrd "$files/fifo"
refuses "*cannot hold the image*" "A disk smaller than its image" image full --disk 8M
cp "$guest/base.raw" "$files/base.raw"
check "An image" image base.raw --image-format raw
rm "$files/base.raw"
refuses "*base.raw*No such file*Hint: *" "... that is gone at the start" vmctl start x
cp "$guest/base.raw" "$files/base.raw"
refuses "*not the one that the VM was created from*base.raw*Hint: *" "... or is another one" vmctl start x
vmctl destroy x

# Keys
ssh-keygen -q -t ed25519 -N '' -f "$files/key"
key() {
        vmctl create x --image "$guest/base.qcow2" --ssh-key "$files/$1"
}
refuses "*private key*" "A private key in place of the public one" key key
refuses "*does not begin with a type of key*" "A text in its place" key text
refuses "*key is empty*" "An empty key" key empty
echo "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA cut" > "$files/cut-key"
refuses "*damaged*" "A key that is cut off" key cut-key
head --bytes=2M /dev/zero > "$files/big"
refuses "*too large*" "A key without end" key big
refuses "*not a regular file*" "User data without end" vmctl create x --image "$guest/base.qcow2" --cloud-init /dev/zero
check "All $refused left nothing behind" nothing_left

# QEMUs that go wrong. The slow ones wait for their deadlines together.
fakes=(lastwords silent closed garbage http endless nested nogreeting mute crash)
for kind in "${fakes[@]}"; do
        define "fake$kind" || fail "define fake$kind"
done
inventory > "$scratch/defined"
declare -A starter=()
for kind in "${fakes[@]}"; do
        vmctl start "fake$kind" 2> "$scratch/said-$kind" &
        starter[$kind]=$!
done
check "While they start, the service answers" promptly manager ListVMs
check "... and serves others" promptly eval "vmctl suspend bystander && vmctl resume bystander"
# failed_as KIND REASON PATTERN: its start failed, and left a VM that says why
failed_as() {
        local status=0

        wait "${starter[$1]}" || status=$?
        check "fake$1: the start fails" test $status -ne 0
        check_output "$3" "... and says why" cat "$scratch/said-$1"
        check_output "failed $2" "... so does the VM" echo "$(prop "fake$1" State) $(prop "fake$1" FailureReason)"
        check_output "?*" "... in a sentence" prop "fake$1" FailureMessage
        check_output 0 "... with no process" prop "fake$1" PID
}
failed_as lastwords exit-code "*the moon is too close*"
failed_as crash signal "*signal 6*"
failed_as garbage qmp "*Not valid JSON*"
failed_as http qmp "*Not valid JSON*"
failed_as nested qmp "*nested too deeply*"
failed_as nogreeting qmp "*ahead of the greeting*"
failed_as endless qmp "*more than 4194304 bytes*"
failed_as closed qmp "*closed its monitor while it started*"
failed_as silent timeout "*did not answer within 20 s*"
failed_as mute timeout "*did not answer within 20 s*"
check "The service has answered in time all the while" promptly manager ListVMs
settled() {
        diff "$scratch/defined" <(inventory | grep --invert-match '^/run/vmctl/fake')
}
check "Nothing of their runs is left" eval "settled || wait_until 60 settled"
check_output "running $bystander" "The bystander runs on" echo "$(prop bystander State) $(prop bystander PID)"

# QEMUs that run and then go wrong
for kind in flood lategarbage lateclose stubborn; do
        define "fake$kind" || fail "define fake$kind"
done
check "A QEMU that floods with events starts" vmctl start fakeflood
check "... and the service answers" promptly manager ListVMs
check "... others, too" promptly eval "vmctl suspend bystander && vmctl resume bystander"
check "... and ends it" promptly vmctl kill fakeflood
# The next command that QEMU gets makes it go wrong.
for kind in lategarbage lateclose; do
        check "fake$kind: starts" vmctl start "fake$kind"
        check_error "*connection to QEMU's monitor has ended*" "... and fails a command" \
                timeout 30 vmctl suspend "fake$kind"
        check_output false "... is shown as not attached" prop "fake$kind" Attached
        check "... and ends at a kill" promptly vmctl kill "fake$kind"
done
check "A QEMU that ignores all signals starts" vmctl start fakestubborn
check "... and ends at a kill" promptly vmctl kill fakestubborn
for name in $(vmctl list --quiet); do
        [ "$name" = bystander ] || vmctl destroy "$name"
done
check "Destroyed, they leave nothing behind" eval "nothing_left || wait_until 60 nothing_left"
define next
check "... but no UID is anybody's again" [ "$(prop next UID)" -gt $((first_uid + 1)) ]
vmctl destroy next

# The host
configure "Qemu=/nonexistent/qemu"
check_error "*nonexistent/qemu*Hint: Install QEMU*" "Without QEMU no VM is made" define x
check_error "*QemuMissing*" "... which has a name" gdbus call --system --dest org.vmctl1 --object-path /org/vmctl1 \
        --method org.vmctl1.Manager.GetCapabilities
check_output "running $bystander true" "... but one that runs is kept" \
        echo "$(prop bystander State) $(prop bystander PID) $(prop bystander Attached)"
configure "Qemu=/bin/true"
check_error "*/bin/true*cannot be used*" "What is no QEMU is not used" define x
configure "Qemu=/etc/passwd"
check_error "*/etc/passwd*" "... nor what is no program" define x
gate_file=/run/vmctl-gate # the service has a /tmp of its own
mkfifo --mode=0666 $gate_file
printf '#!/bin/sh\nread -r _ < %s\nexec /usr/bin/qemu-system-x86_64 "$@"\n' $gate_file > $fake
configure "Qemu=$fake" &
exec {gate}> $gate_file # as soon as it waits there
check_output activating "While QEMU has not answered yet, nothing that comes after the service is started" eval \
        'vmctl list > /dev/null && ! systemctl is-active vmctld'
echo >&"$gate"
check "... and when it has, it is" eval 'wait && systemctl is-active vmctld'
exec {gate}>&-
rm $gate_file
configure "UIDRange=$first_uid-$first_uid" "SSHPortRange=0-99999999" "Colour=blue" "no setting"
check_error "*user ID*Hint: *UIDRange*" "All UIDs in use" define x
check "Nonsense in the settings is told" eval \
        'journalctl --unit=vmctld --no-pager | grep "SSHPortRange=0-99999999 is not valid" &&
        journalctl --unit=vmctld --no-pager | grep "unknown setting .Daemon. Colour="'
port=$(prop bystander SSHPort)
configure "SSHPortRange=$port-$port"
check_error "*No SSH port*Hint: *" "All ports in use" define x --network user
check "... which others need not have" define x
vmctl destroy x
configure
exec {taker}< <(exec python3 -c 'import signal, socket
s = socket.create_server(("127.0.0.1", 10030))
print("listens", flush=True)
signal.pause()')
taker_pid=$!
read -r -u "$taker"
configure "SSHPortRange=10030-10030"
check_error "*No SSH port*" "A port that another program has is not used" define x --network user
kill $taker_pid
check "All this left nothing behind" nothing_left

# Space. The service sees the small disk when it is restarted.
vmctl kill bystander
systemctl stop vmctld
mount -t tmpfs -o size=300k,mode=0711 small /var/lib/vmctl
configure
check_error "*space*Hint: *" "A disk that is full" define x --image "$guest/base.qcow2"
full() {
        find /var/lib/vmctl/vms -mindepth 1
}
check_output "" "... keeps nothing of a VM that does not fit" full
head --bytes=300k /dev/zero > /var/lib/vmctl/filler 2> /dev/null
check_error "*space*" "... nor can it hold even a definition" define x
check_output "" "... and keeps nothing of that" full
rm /var/lib/vmctl/filler
check "With space there is a VM again" define x
vmctl destroy x
systemctl stop vmctld
umount /var/lib/vmctl
configure
check "On the old disk the bystander is back" vmctl start bystander
check "Destroy" vmctl destroy bystander
check "... leaves nothing behind" is_gone bystander
