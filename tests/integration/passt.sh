#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 300
#
# passt, which carries the network of VMs where it works: what gets through it and what does not, what a QEMU that a
# guest has taken over finds in its network namespace, and what is left when one of the three processes dies. Behind
# QEMU's own user-mode network, for comparison, the guest reaches the host's loopback.

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

# ... and to the ends of scopes
matches+=(--match "type=signal,path=/org/freedesktop/systemd1,member=UnitRemoved")

configure() {
        printf '[Network]\nUserBackend=%s\n' "$1" > /etc/vmctl/vmctld.conf
        systemctl restart vmctld
}

capability() {
        vmctl --json capabilities | jq --raw-output ".\"$1\" | if type == \"array\" then .[] else . end"
}

# The test's own services: TCP on the loopback addresses and on one that other machines could reach, UDP and DNS on the
# loopback. Each notes who comes.
address=192.0.2.10
hits=$scratch/hits
ip link add outside type veth peer name beyond && ip link set beyond up && ip link set outside up
ip address add $address/24 dev outside && ip route add default via 192.0.2.1 dev outside
echo "nameserver 127.0.0.53" > /etc/resolv.conf
: > "$hits"
python3 - $address > "$hits" <<'END' &
import socket, sys, threading

def note(text):
        print(text, flush=True)

def tcp(family, address, name):
        s = socket.create_server((address, 7777), family=family)
        while True:
                c, _ = s.accept()
                note("tcp " + name)
                c.sendall(b"SECRET " + name.encode() + b"\n")
                c.close()

def udp():
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("127.0.0.1", 7778))
        while True:
                s.recvfrom(2000)
                note("udp loopback")

def dns():
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("127.0.0.53", 53))
        while True:
                q, peer = s.recvfrom(2000)
                end = q.index(b"\0", 12) + 5
                a = q[end - 4:end - 2] == b"\0\1"
                s.sendto(q[:2] + b"\x81\x80\0\1" + (b"\0\1" if a else b"\0\0") + b"\0\0\0\0" + q[12:end] +
                        (b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\x63" if a else b""), peer)

for function, arguments in ((tcp, (socket.AF_INET, "127.0.0.1", "loopback")), (tcp, (socket.AF_INET6, "::1", "loopback")),
                (tcp, (socket.AF_INET, sys.argv[1], "outside")), (udp, ()), (dns, ())):
        threading.Thread(target=function, args=arguments).start()
a = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
a.bind("\0vmctl-test")
a.listen()
note("ready")
END
servers=$!
grep --quiet ready < <(exec timeout 60 tail --follow --lines=+1 "$hits")
trap 'kill $servers; finish' EXIT

no_hit() {
        ! grep loopback "$hits"
}

banner() {
        timeout 60 cat < "/dev/tcp/127.0.0.1/$1"
}

# fetch NAME ADDRESS [SECONDS]: what the guest gets from port 7777 there, for which it waits so long
fetch() {
        tell "$1" "sh nc -w ${3:-5} $2 7777" "^SECRET|^error sh"
}

default=$(capability default-network-backend)
if [ "$default" != passt ]; then
        check_output "*passt cannot be used: *" "Where passt does not work, it is said why" capability warnings
        check "A VM's network is QEMU's own then" define b --network user --start
        check_output slirp "... as the VM says" prop b NetworkBackend
        check "... and runs" booted b
        configure passt
        check_output slirp "It stays so while it runs" prop b NetworkBackend
        check "The VM is stopped" vmctl kill b
        check_error "*UserBackend=passt*cannot be used*" "Where only passt is wanted, it does not start" vmctl start b
        check_output "" "... and has none" prop b NetworkBackend
        exit
fi

listen
check_output "slirp
passt" "The host has both" capability network-backends
check "A VM is made" define a --network user --forward 18080:80 --start
check_output passt "Its network is passt's" prop a NetworkBackend
check_output "*Network:*user (passt), *" "... as status says" vmctl status a
check "It is one QEMU, one shim and one passt" runs_once a
check "The guest is booted" booted a

qemu=$(prop a PID) uid=$(prop a UID)
passt_of() {
        sed 's|.*|/proc/&/comm|' "$(scope_dir "$1")/cgroup.procs" | xargs grep --files-with-matches '^passt' | cut -d/ -f3
}
field() {
        sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status" | xargs
}
namespace() {
        readlink "/proc/$1/ns/$2"
}
passt=$(passt_of a)
check_output "$uid $uid $uid $uid" "passt runs under the VM's UID" field "$passt" Uid
check_output "" "... in no group" field "$passt" Groups
check_output 1 "... and gains no privileges" field "$passt" NoNewPrivs
check_output 2 "... behind a system call filter" field "$passt" Seccomp
check_output "" "... in an empty root" ls -A "/proc/$passt/root"
check "... in the host's network" test "$(namespace "$passt" net)" = "$(namespace 1 net)"

#
# What a QEMU that a guest has taken over finds
#

inside() {
        nsenter --target "$qemu" --mount --ipc --net --root --wd -- \
                setpriv --reuid "$uid" --regid "$uid" --clear-groups --bounding-set=-all --inh-caps=-all \
                --no-new-privs "$@"
}
outside() {
        setpriv --reuid "$uid" --regid "$uid" --clear-groups --no-new-privs "$@"
}
abstract='import socket; socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).connect("\0vmctl-test")'
check "QEMU has a network namespace of its own" test "$(namespace "$qemu" net)" != "$(namespace 1 net)"
check_output lo "... with nothing in it" nsenter --target "$qemu" --net sh -c 'sed "1,2d; s/:.*//; s/ //g" /proc/self/net/dev'
check_output "1" "The host has an abstract socket" grep --count @vmctl-test /proc/net/unix
check_error "*" "... of which QEMU's namespace has none" nsenter --target "$qemu" --net grep @ /proc/self/net/unix
check "... which the VM's user could use outside of it" outside python3 -c "$abstract"
check_error "*ConnectionRefused*" "... but not inside" inside python3 -c "$abstract"
check_error "*unreachable*" "... nor the host's loopback" inside bash -c 'exec 3<> /dev/tcp/127.0.0.1/7777'
check_error "*" "... nor the resolver's folder" inside ls /etc/resolv.conf

#
# What the guest reaches, and what reaches it
#

check "The guest gets an address" tell a net "^net: eth0 10.0.2.15"
check "... and listens" tell a "listen 22" "^listen: port"
check_output "SSH-2.0-vmctltest*" "Its port 22 is the VM's ssh port" banner "$(prop a SSHPort)"
check "It listens on another port" tell a "listen 80" "^listen: port"
check_output "SSH-2.0-vmctltest*" "... which is forwarded" banner 18080
check_output "127.0.0.1:18080" "... to the host's loopback alone" \
        eval "ss --no-header --tcp --listening --numeric 'sport = :18080' | awk '{ print \$4 }'"
check_output "SECRET outside*" "The guest reaches what others reach of the host" fetch a $address 30
check_output "error sh*" "... but not its loopback, by the gateway" fetch a 10.0.2.2
check_output "*192.0.2.99*" "Names are resolved by the host's resolver on the loopback" \
        tell a "sh nslookup name.test" "192.0.2.99"
tell a "sh ip addr flush dev lo; ip link set lo down; for f in all eth0; do \
        echo 1 > /proc/sys/net/ipv4/conf/\$f/route_localnet; done; ip route add 127.0.0.0/8 via 10.0.2.2" "^ok sh" > /dev/null
check_output "error sh*" "... nor by its own address, as a hostile guest would try" fetch a 127.0.0.1
check "... or with datagrams" tell a "sh tftp -g -r x 10.0.2.2 7778 & tftp -g -r x 127.0.0.1 7778 & sleep 3; kill %1 %2" "sh"
check "There it was not seen" no_hit

#
# Deaths
#

forget_signals
check "The service is killed" crash_service
check_output passt "... and knows the network again" prop a NetworkBackend
check_output "$passt" "... which is the same passt" passt_of a
check_output "SSH-2.0-vmctltest*" "... and carries on" banner 18080
check "All of the VM is there once" runs_once a

check "passt is killed" kill -KILL "$passt"
check "The VM has a warning" wait_until 60 eval 'prop a Warnings | grep passt'
check_output running "... and runs" prop a State
check_output "*Warning: passt, which carried the VM's network, has ended*" "... as status says" vmctl status a
check "... and the journal" eval 'journalctl -u vmctld --no-pager --output cat | grep "carried the VM.s network"'
check "The guest goes on" tell a "echo still here" "still here"
check_error "*" "... without a network" banner 18080
check_output "*passt ended (signal 9)*" "QEMU's log says how it ended" cat /run/vmctl/a/qemu.log
check "The VM is stopped" vmctl kill a
check "... and started" vmctl start a
check_output "[]" "... without the warning" prop a Warnings
check "... and has a passt" runs_once a

systemctl stop vmctld
kill -KILL "$(passt_of a)"
check "The service comes back, when passt was killed" systemctl start vmctld
check "... which is a warning, too" wait_until 60 eval 'prop a Warnings | grep passt'

nothing_left() {
        wait_until 60 eval "! systemctl --quiet is-active vmctl-$1.scope" &&
                ! pgrep --uid "$(prop "$1" UID)" --runstates D,R,S,T --list-full
}
check "QEMU is killed" kill -KILL "$(prop a PID)"
check "... so the VM has failed" wait_until 60 state a failed
check "... and nothing of it is left" nothing_left a

check "It starts" vmctl start a
check "... and is booted" booted a 2
tell a net "^net: eth0" > /dev/null
tell a "listen 80" "^listen: port" > /dev/null
shim=$(prop_of_file a shim-pid)
check "The shim is killed" kill -KILL "$shim"
check_output "SSH-2.0-vmctltest*" "The VM has its network" banner 18080
kill -STOP "$(passt_of a)"
check "It is stopped, with a passt that does nothing" vmctl kill a
check "... and nothing of it is left" nothing_left a

for how in stop kill; do
        check "It starts" vmctl start a
        check "... and ends by $how" vmctl $how a
        check "... and nothing of it is left" nothing_left a
        check_error "*" "... and its port is free" banner 18080
done

exec {taken}< <(exec python3 -c 'import socket, time
s = socket.create_server(("127.0.0.1", 18080)); print("ready", flush=True); time.sleep(1000)')
taker=$!
read -r -u "$taken"
check_error "*passt ended (status 1): *18080*" "It does not start while another program has its port, which is said" \
        vmctl start a
kill $taker
check "... and nothing of it is left" nothing_left a

#
# Without passt
#

check "It starts" vmctl start a
check "QEMU's own network is asked for" configure slirp
check_output passt "That changes nothing for a VM that runs" prop a NetworkBackend
check_output slirp "... but is told" capability default-network-backend
check "Another VM is started" define b --network user --start
check_output slirp "... and has it" prop b NetworkBackend
check "... and is booted" booted b
check "... and gets an address" tell b net "^net: eth0"
check_output "SECRET loopback*" "This guest reaches the host's loopback" fetch b 10.0.2.2
check "QEMU is in the host's network" test "$(namespace "$(prop b PID)" net)" = "$(namespace 1 net)"
vmctl kill b

configure passt
mv /usr/bin/passt /usr/bin/passt.away
check_error "*UserBackend=passt*/usr/bin/passt*" "Where only passt is wanted, and gone, a VM does not start" vmctl start b
configure auto
check "Where it need not be passt, it does" vmctl start b
check_output slirp "... with QEMU's own network" prop b NetworkBackend
check_output "*passt cannot be used: '/usr/bin/passt': No such file*" "... and it is said why" capability warnings
vmctl kill b
mv /usr/bin/passt.away /usr/bin/passt
check "passt comes back" vmctl start b
check_output passt "... and is used without a restart" prop b NetworkBackend

#
# A user's own instance
#

mine() {
        as alice vmctl --user "$@"
}
check "A user has a VM" mine create own --kernel "$guest/vmlinuz" --initrd "$guest/initrd" --no-cloud-init \
        --append "console=ttyS0 quiet" --memory 128M --display none --accel tcg --network user --start
check_output "*user (passt)*" "... with the same network" mine status own
own=$(mine --json status own | jq .PID)
check "... and a namespace of its own" test "$(namespace "$own" net)" != "$(namespace 1 net)"
check "... which ends" mine kill own
check_error "*" "... with all processes" eval 'pgrep --uid alice passt'
