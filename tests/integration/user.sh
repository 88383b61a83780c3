#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 180
#
# A user's own instance of the service, without root and polkit: alice's, in her user manager. What it has in common
# with the system's instance on the same machine are the ports.

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

uid=$(id --user alice)
runtime=/run/user/$uid/vmctl
state=/home/alice/.local/share/vmctl
config=/home/alice/.config/vmctl

mine() {
        as alice vmctl --user "$@"
}

define_mine() {
        mine create "$1" --kernel "$guest/vmlinuz" --initrd "$guest/initrd" --append "console=ttyS0 quiet no_timer_check" \
                --no-cloud-init --memory 128M --display none --accel tcg "${@:2}"
}

my_prop() {
        as alice busctl --user --json=short get-property org.vmctl1 "/org/vmctl1/vm/$1" org.vmctl1.VM "$2" |
                jq -rc .data
}

my_systemctl() {
        as alice systemctl --user "$@"
}

# A new user has no folders yet.
check "The user has no folders of ours" test ! -e /home/alice/.local -a ! -e $config

# There is no polkit, and with no session alice would have to give a password to the system's instance.
systemctl mask --runtime --now polkit 2> /dev/null

check_status 3 "The user's instance does not run" my_systemctl is-active vmctld
check "A call starts it" mine list
# It is "activating" until QEMU has told what it can, and answers from before that.
check_output "activ*" "... as a service of the user's manager" my_systemctl show --property=ActiveState --value vmctld
service=$(my_systemctl show --property=MainPID --value vmctld)
check_output alice "... as the user" stat --format=%U "/proc/$service"
check_error "*" "The system's instance does not" systemctl is-active --quiet vmctld

check "Create, with a seed and a key pair" mine create own --image "$guest/boot.qcow2" --memory 128M --accel tcg
check_output "$uid" "The VM is the user's" my_prop own Owner
check_output "$uid" "... and so is its QEMU" my_prop own UID
check "Start" mine start own
pid=$(my_prop own PID)
check_output "*/user@$uid.service/vmctl.slice/vmctl-own.scope" "It runs in a scope of the user's manager" \
        my_systemctl show --property=ControlGroup --value vmctl-own.scope
check "... with QEMU in it" grep "/user@$uid.service/vmctl.slice/vmctl-own.scope$" "/proc/$pid/cgroup"
check_output "$state/vms/own" "Its folder is in the user's data" my_prop own Folder
check_output "$runtime/own/qmp.sock" "... and its sockets in the user's runtime folder" my_prop own QMPSocket
check "... both there" test -e $state/vms/own/vm.json -a -S "$runtime/own/qmp.sock"
check_output "" "... and all of it the user's" find $state "$runtime" ! -user alice
check_output "" "... with no rights for others" find "$runtime" $state/vms/* ! -type l -perm /077
check_output "* running" "It is in the list" mine list
check_output "" "Without --user the system's instance is asked, which does not know the VM" \
        as alice vmctl list --quiet
cap() {
        sed -n "s/^$1:\t//p" "/proc/$pid/status"
}
check_output 0000000000000000 "QEMU has no capabilities" cap CapEff
check_output 1 "... and cannot get any" cap NoNewPrivs
check_output 2 "... and is filtered" cap Seccomp
check "... and sees little of the user's files" test ! -e "/proc/$pid/root/home/alice/.bashrc"
check "The guest comes up" wait_for_line 60 "GUEST READY" "$tests/as" alice vmctl --user log own --console --follow
check "Its console can be used" wait_for_line 60 "hello there" \
        "$tests/as" alice vmctl --user console own --timeout 60 <<< "echo hello there"
check "Raw QMP needs no polkit, either" mine qmp own query-status
check "Limits can be changed" mine set own tasks-max=100
check_output 100 "... and are in force" my_systemctl show --property=TasksMax --value vmctl-own.scope

# The service may go and come.
my_systemctl kill --signal=KILL vmctld
check_output "$pid" "After a crash the service is back and has the VM" my_prop own PID
check "... in another process" test "$(my_systemctl show --property=MainPID --value vmctld)" -ne "$service"
check_output running "... running" my_prop own State
check_output true "... attached" my_prop own Attached
check "A stop of the service" my_systemctl stop vmctld
check "... leaves QEMU alone" test -d "/proc/$pid"
check_output "$pid" "... and the next call finds it again" my_prop own PID
check_output "true running" "... attached and running" echo "$(my_prop own Attached) $(my_prop own State)"

# Both instances know the ports from 10022 on, but not of each other.
port=$(my_prop own SSHPort)
systemctl start vmctld
check "A VM of the same name in the system's instance" define own --network user
check "... which would get the same port, gets another" test "$(prop own SSHPort)" -ne "$port"
check "... and runs beside it" vmctl start own
ports_in_use() {
        ss --listening --tcp --numeric --no-header "sport >= 10022 and sport <= 10122" | awk '{ print $4 }' | sort
}
check_output "$(printf '127.0.0.1:%s\n' "$port" "$(prop own SSHPort)" | sort)" \
        "Both ports are open, on the loopback alone" ports_in_use
check "The user's second VM" define_mine other --network user --start
check "... gets a third one" test "$(my_prop other SSHPort)" -ne "$port" -a \
        "$(my_prop other SSHPort)" -ne "$(prop own SSHPort)"

# Two VMs that were made while the other did not run may have the same one.
check "The user's VM" define_mine twin --network user
check "... and the system's twin" define twin --network user
port=$(my_prop twin SSHPort)
check_output "$port" "... were given the same port" prop twin SSHPort
check "The system's starts" vmctl start twin
check "... and the user's, too, on another port" mine start twin
check_output "running running" "Both run" echo "$(prop twin State) $(my_prop twin State)"
check "... on two ports" test "$(my_prop twin SSHPort)" -ne "$(prop twin SSHPort)"
check_output "*SSH port $port was taken*" "... of which one was warned" my_prop twin Warnings
check "The new port is kept" grep "\"ssh-port\":[[:space:]]*$(my_prop twin SSHPort)" $state/vms/twin/vm.json
mine destroy twin other
vmctl destroy twin own

# Configuration
install --directory --owner=alice $config
printf '[Daemon]\nSSHPortRange=10050-10050\n' > $config/vmctld.conf
my_systemctl restart vmctld
check "The user's own settings count" define_mine narrow --network user
check_output 10050 "... as for the ports" my_prop narrow SSHPort
check_error "*No SSH port from 10050 to 10050*" "... all of them" define_mine wide --network user
check "The VM from before goes on" mine resume own

check "Stop, by the power button" mine stop own
check_output "stopped guest-shutdown" "... which the guest heard" \
        echo "$(my_prop own State) $(my_prop own ShutdownReason)"
check "Destroy" mine destroy own narrow
check_output "" "... leaves nothing behind" find $state/vms "$runtime" -mindepth 1
check_status 1 "... nor a QEMU" pgrep --uid alice qemu
