#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 240
#
# The scope of a VM: where it is, what it is made with, and that the kernel enforces it. And changes of a VM's
# definition, of which limits are a part.

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

mib=$((1024 * 1024))

# unit NAME PROPERTY: of its scope, as systemd has it
unit() {
        systemctl show --property "$2" --value "vmctl-$1.scope"
}

# cgroup_file NAME CONTROLLER FILE-OF-V1 FILE-OF-V2: what the kernel has
cgroup_file() {
        local path file=$4 dir=/sys/fs/cgroup

        path=$(unit "$1" ControlGroup)
        [ ! -d "$dir/$2" ] || { dir+=/$2; file=$3; }
        cat "$dir$path/$file"
}

vmctl list > /dev/null
listen
define plain --start
define small --memory 512M --memory-max 360M --start
define limited --cpu-quota 20% --cpu-weight 50 --io-weight 60 --memory-max 600M --memory-high 500M --tasks-max 77
vmctl start limited

#
# The scope
#

check_output vmctl.slice "The scope is in the slice" unit plain Slice
check_output 18 "... which PID 1 stops by SIGCONT, so without hurting QEMU" unit plain KillSignal
check_output "40s" "... asked to stop before it is killed" unit plain TimeoutStopUSec
check_output strict "... with only the devices that are named" unit plain DevicePolicy
check_output "*/dev/urandom rw*" "... as the source of randomness" unit plain DeviceAllow
check_output "inactive-or-failed" "... collected when it is over" unit plain CollectMode
check_output "*vmctl.target*" "... and stopped before the target" unit plain After
check_output "*vmctld.service*" "... which is stopped before the service" systemctl show --property After vmctl.target
check "... in which QEMU is" grep -qx "$(prop plain PID)" "$(scope_dir plain)/cgroup.procs"

# QEMU's limit: RAM, a sixteenth of it, 256 MiB, and for TCG 320 MiB
check_output $(((128 + 8 + 256 + 320) * mib)) "By default memory is bounded by what QEMU needs" unit plain MemoryMax
check_output 129 "... and threads by what it may start" unit plain TasksMax
check_output infinity "... but CPU time is not" unit plain CPUQuotaPerSecUSec

check_output 200ms "A CPU quota is the scope's" unit limited CPUQuotaPerSecUSec
check_output 50 "... and so is the CPU weight" unit limited CPUWeight
check_output 60 "... the I/O weight" unit limited IOWeight
check_output $((600 * mib)) "... the bound of memory" unit limited MemoryMax
check_output $((500 * mib)) "... the one from which on it is slow" unit limited MemoryHigh
check_output 77 "... that of threads" unit limited TasksMax
check_output 77 "... which the kernel has" cgroup_file limited pids pids.max pids.max
check_output $((600 * mib)) "... as it has that of memory" cgroup_file limited memory memory.limit_in_bytes memory.max

# A device that is there and not named
device_is_closed() {
        # What the kernel says to a process in the scope, which all other ways to refuse do not concern.
        (echo "$BASHPID" > "$(scope_dir plain)/cgroup.procs"
        for dir in /sys/fs/cgroup/devices "/sys/fs/cgroup"; do
                [ ! -e "$dir$(unit plain ControlGroup)/cgroup.procs" ] ||
                        echo "$BASHPID" > "$dir$(unit plain ControlGroup)/cgroup.procs"
        done
        exec 2>&1
        : < /dev/urandom && : < /dev/full && ! : < /dev/fuse)
}
check_output "*/dev/fuse: Operation not permitted" "A device that was not named is closed" device_is_closed

#
# CPU time
#

# quota_of NAME: the kernel's, in percent of one CPU
quota_of() {
        local quota period

        quota=$(cgroup_file "$1" cpu cpu.cfs_quota_us cpu.max)
        [[ $quota == *" "* ]] || quota+=" $(cgroup_file "$1" cpu cpu.cfs_period_us cpu.max)"
        read -r quota period <<< "$quota"
        echo $((quota * 100 / period))
}

# The share of one CPU, in percent, that a VM gets until its guest has said so many seconds. How much it is at least is
# for what else runs on the machine to say.
cpu_share() {
        local start=${EPOCHREALTIME/[.,]/} used

        used=$(prop "$1" CPUUsageNSec)
        tell "$1" "sh sleep $2" "^ok sh" 60 > /dev/null || return
        used=$(($(prop "$1" CPUUsageNSec) - used))
        echo $((used / 10 / (${EPOCHREALTIME/[.,]/} - start)))
}

# periods_held_back NAME: in how many periods the kernel has stopped it, since its quota was used up
periods_held_back() {
        cgroup_file "$1" cpu cpu.stat cpu.stat | awk '$1 == "nr_throttled" { print $2 }'
}

check "Guests come up" eval "booted plain && booted small"
check "Even one with a fifth of a CPU" booted limited
check "It burns what it gets" tell limited "burn 1" "^burn: 1 busy"
check_output 20 "... which is a fifth of one CPU, as the kernel has it" quota_of limited
check "... and no more" at_most 23 cpu_share limited 2
check "... since it is held back" grows limited periods_held_back limited
check "A limit of a running VM can be changed" vmctl set limited cpu-quota=60% tasks-max=99
check_output 600ms "... which the scope has at once" unit limited CPUQuotaPerSecUSec
check_output 99 "... and the kernel" cgroup_file limited pids pids.max pids.max
check "... and the spec says, with a signal" heard '"/org/vmctl1/vm/limited".*"Spec":.*"cpu-quota":\{"type":"u","data":60\}'
check_output '*"cpu-quota":60,*' "... and is on disk" jq -c . /var/lib/vmctl/vms/limited/vm.json
check_output 60 "... and for CPU time, too" quota_of limited
check "It gets no more than that" at_most 66 cpu_share limited 2
check "A limit can be taken back" vmctl set limited cpu-quota=default
check_output infinity "... so that there is none" unit limited CPUQuotaPerSecUSec
check_error "*memory-high*memory-max*" "Limits that exclude each other are refused" \
        vmctl set limited memory-high=700M
check_output $((500 * mib)) "... and change nothing" unit limited MemoryHigh
check_error "*" "What is no limit cannot be set" method limited SetLimits 'a{sv}' 1 vcpus u 2
vmctl kill limited

#
# Memory
#

service=$(systemctl show --property MainPID --value vmctld)
others=$(prop plain PID)
eat_too_much() {
        tell_last small "eat 330"
        await 60 "$(changed_to small FailureReason oom)"
}
check "A guest eats more than its VM may have" eat_too_much
check_output failed "... which fails" prop small State
check_output "*memory-max*" "... with a sentence" prop small FailureMessage
check_output "$others" "The other VM runs on" prop plain PID
check_output "$service" "... and the service, too" systemctl show --property MainPID --value vmctld
check "The guest of the other one answers" tell plain "echo still here" "^still here"
check "With more memory it starts again" vmctl set small memory-max=default
check "... and comes up" eval "vmctl start small && booted small 2"
check "... and eats what it could not" tell small "eat 330" "^eat: 330 MiB held"

#
# Definitions
#

check_error "*only its limits*" "The definition of a running VM stays" vmctl update small --vcpus 2
check_error "*" "... with busctl, too" method small UpdateSpec 'a{sv}' 1 vcpus u 2
vmctl kill small
vmctl create disk --kernel "$guest/vmlinuz" --initrd "$guest/initrd" --append "console=ttyS0 quiet no_timer_check" --no-cloud-init \
        --image "$guest/base.qcow2" --accel tcg --memory 128M
check "The definition of a VM that does not run can be changed" \
        vmctl update disk --vcpus 2 --memory 192M --disk 128M --network none
check_output '2 201326592 134217728 none' "... which the spec says" \
        eval "vmctl --json status disk | jq -r '.Spec | \"\\(.vcpus) \\(.memory) \\(.disk) \\(.network)\"'"
check_error "*smaller*" "A disk cannot shrink" vmctl update disk --disk 32M
check_error "*vcpus*" "There is no VM without CPUs" vmctl update disk --vcpus 0
check_error "*machine*" "A VM keeps its machine" method disk UpdateSpec 'a{sv}' 1 machine s microvm
check "It starts with the new definition" vmctl start disk
check_output "*vcpus=2 memory=15?*disks=vda:134217728:rw macs=" "... as the guest sees" booted disk
check_error "*smaller*" "... and what has grown does not shrink" eval "vmctl kill disk; vmctl update disk --disk 65M"
check "... but can grow once more" vmctl update disk --disk 160M
check "... and stays as large" eval 'vmctl start disk && vmctl kill disk && vmctl start disk && booted disk 2 | grep vda:167772160:'
