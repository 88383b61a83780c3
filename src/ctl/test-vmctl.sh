#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Usage: test-vmctl.sh VMCTL TEST-SERVICE TESTS-FOLDER
#
# Runs vmctl against a service without VMs (test-service.c), on a bus of its own: what it sends, what it prints, how
# it ends.

# What eval gets is expanded by it.
# shellcheck disable=SC2016

# shellcheck source=src/ctl/test-vmctl-lib.sh
. "$(dirname "$0")/test-vmctl-lib.sh" "$@"

export FAKE_BROKEN=lost
start_service web=running:10022 db=stopped:10023 a-name-that-is-too-long-for-sixty-columns=suspended broken=stopped \
        guarded=stopped reborn=stopped:1 stuck=running forgotten=running unheard=running deaf=running:1 \
        doomed=running:1 asleep=running:1 booting=running:guest || exit

#
# Looking
#

check_output "NAME * BACKEND  VCPUS   MEM  NETWORK    PID    SSH  STATE
web  * qemu         2  2048  user     12345  10022  running
db  * qemu         2  2048  user         -  10023  stopped
*" "list prints the handbook's columns, and the state" v list
check_output $'db\nbroken\nguarded\nreborn' "list takes states, and prints names alone" v list -q --state failed,stopped
check_output "*
lost  * -  *broken" "list shows what cannot be read" eval 'v list 2> /dev/null'
check_output "vmctl: Broken VM 'lost': /vms/vm.json: It is *damaged
Hint: *vmctl destroy*" "... and tells why" v_errors 0 list
check_output lost "... which has a state of its own" v list -q --state broken
check "... and no other" eval '! grep lost <(v list --state running 2>&1)'
check_output '\["vm","lost","broken","/vms/vm.json"]' "... and is in JSON" eval 'v --json list |
        jq --compact-output ".[-1] | [.Kind, .Name, .State, .Path]"'
check_output "*no state 'runing'*" "a state that doesn't exist is no empty list" v_errors 2 list --state runing
check_output '"web" "/org/vmctl1/vm/web" "running" 2147483648 10022' "list prints JSON" eval \
        'v --json list | jq --raw-output --compact-output ".[0] |
                [.Name, .Object, .State, .Spec.memory, .SSHPort | tojson] | join(\" \")"'
check_output "*a-name-…  qemu*13 VMs, 8 running.*" "list cuts a name that the terminal has no room for" \
        on_terminal list
check_output $'*\e\[32mrunning\e\[0m*' "list colours states on a terminal" on_terminal list
check_output $'*  running\r\n*' "NO_COLOR is respected" env NO_COLOR=1 bash -c \
        "vmctl='$vmctl'; $(declare -f on_terminal); on_terminal list"

check_output "*VMs: 13 (8 running, 1 suspended, 4 stopped)*QEMU: 7.2.22*q35, new VMs get pc-q35-7.2*" \
        "status without a name is an overview" v status
check_output 13 "the overview has JSON" eval 'v --json status | jq "[.States[]] | add"'
check_output '\["tcg"]' "capabilities have JSON" eval 'v --json capabilities | jq --compact-output .accelerators'
check_calls "" "looking changes nothing"
check_output "● web - running
*RAM: 2048 MB*
*SSH: ubuntu@127.0.0.1 port 10022*
*CPU: - (quota: 50%)*
  first line
  second line" "status shows a VM, and its last words without colours in a pipe" v status web
check_calls 'OpenConsoleLog web {"tail":5}' "it asked for five lines"
check_output "running 50" "status has JSON, named as on the bus" eval \
        'v status web --json | jq --raw-output "\"\(.State) \(.Spec.\"cpu-quota\")\""'
check_output $'○ db*\n\n● web*' "status takes several names" v status -n0 db web
check_output $'○ lost - broken\n *Failure: It is *damaged\n *File: /vms/vm.json\n *Hint: *vmctl destroy*' "status shows what cannot be read" v status lost
check_output lost "... in JSON, too" eval 'v --json status lost | jq --raw-output .Name'
check_output "*Broken: /vms/vm.json: It is *damaged
 */images/image.json: It is damaged" "the overview shows all of it" v status
check_output '"/vms/vm.json: It is *' "... in JSON, too" eval 'v --json status | jq .BrokenVMs[0]'
check_output '\["vm","image"]' "... with the kinds" eval 'v --json status | jq --compact-output "[.BrokenRecords[].Kind]"'
check_output "*VM 'nosuch': There is no such VM*Hint: *vmctl list*" "status of no VM says so" v_errors 1 status nosuch

#
# Running
#

check_calls "" "and --lines 0 for none"
check_output "" "start takes several names" v start db web db
check_calls $'Start db {}\nStart web {}' "each is started once"
check_output $'vmctl: Failed to start VM \'broken\': QEMU said \\\\x1b\\[31mno
Hint: *\nvmctl: Failed to start VM \'nosuch\': There is no such VM*' \
        "each failure is told, with what could harm a terminal taken out, and a hint" v_errors 1 start broken nosuch web
check_calls $'Start broken {}\nStart web {}' "the others are started"
check_output $'vmctl: Cannot reset VM \'broken\': it is broken\nHint: *' \
        "a message that names the VM is not said of the VM again" v_errors 1 reset broken
check_calls "Reset broken" ""
check_output '\["broken","failed","org.vmctl1.Error.QemuFailed","QEMU said *no"]\["web","done",null,null]' \
        "JSON has a result for each" eval '(v --json start broken web || :) 2> /dev/null |
                jq --join-output --compact-output ".[] | [.Name, .Result, .ErrorName, .ErrorMessage]"'
check_calls "*" ""
check_output "" "where polkit wants to ask, it may" v start guarded web
check_calls $'Start guarded {}\nStart web {}\nStart guarded {}' "leave to ask is given when it is needed"
check_output "*password*nobody to ask*Hint: *" "unless it may not" v_errors 1 start guarded --no-ask-password
check_calls "Start guarded {}" "which is tried once"
check_output "" "kill, reset, suspend, resume, destroy" eval 'for i in kill reset suspend resume rm; do v $i web; done'
check_calls $'Kill web\nReset web\nSuspend web\nResume web\nDestroy web' "have their methods"

check_output "" "destroy also removes what cannot be read" v destroy lost web
check_calls $'Destroy web\n*RemoveBrokenRecord*vm*lost*' "by the Manager's method"
check_output "*VM 'nosuch': There is no such VM*Hint: *vmctl list*" "destroy of no VM says so" v_errors 1 destroy nosuch
check_calls "" "and nothing else"

check_output "" "stop waits for its job" v stop web
check_calls "Stop web 30000000" "and gives the guest 30 seconds"
check_output stopped "it is stopped then" eval 'v --json status web | jq --raw-output .State'
check_output "" "--timeout is the guest's time" v stop web --timeout 2min
check_calls "Stop web 120000000" "in the units that were meant"
check_output "" "no time is not the default time" v stop web --timeout 0
check_calls "Stop web 1" "as 0 would be"
check_output $'Warning: The guest is deaf\n*VM \'stuck\': QEMU is stuck*' \
        "a job that fails says why, and what there was to warn of" v_errors 1 stop stuck
check_calls "Stop stuck *" ""
check_output "" "a job that a crash of the service ended is begun again" v stop forgotten
check_calls $'Stop forgotten 30000000\nStop forgotten 29*' "with the time that is left"
check_output "" "a job whose end was not told has ended all the same" v stop unheard
check_calls "Stop unheard 30000000" ""
check_output "" "--no-block doesn't wait" v stop stuck --no-block
check_calls "Stop stuck *" ""

#
# Defining
#

truncate --size 1M "$scratch/disk" "$scratch/kernel"
mkfifo "$scratch/fifo"
echo "ssh-ed25519 AAAA me@here" > "$scratch/key.pub"
disk=$scratch/disk

check_output "" "create" v create new --image "$disk"
check_calls 'CreateVM "new", {"image":null}' "hands the image over as a descriptor"
check_output "" "create takes the handbook's options" v create --name new1 --image "$disk" --vcpus 2 --memory 2048 \
        --disk 40 --ssh-key "$scratch/key.pub" --start
check_calls 'CreateVM "new1", {"image":null,"vcpus":2,"memory":2147483648,"disk":42949672960,'\
'"ssh-key":"ssh-ed25519 AAAA me@here\\n","start":true}' "as they are meant"
check_output "" "create takes all others" v create new2 --kernel "$scratch/kernel" --initrd "$disk" --append "a b" \
        --memory 3G --disk 512M --network none --hostname h --ssh-user u --machine microvm --firmware uefi --accel kvm \
        --cpu max --display none --balloon --no-balloon --cpu-quota 20% --cpu-weight 50 --memory-max 4G \
        --memory-high 3500 --io-weight default --tasks-max 99 --console-log-max 1 --image-format raw \
        --cloud-init "$disk" --timeout 3
check_calls 'CreateVM "new2", {"kernel":null,"initrd":null,"append":"a b","memory":3221225472,"disk":536870912,'\
'"network":"none","hostname":"h","user":"u","machine":"microvm","firmware":"uefi","accel":"kvm","cpu":"max",'\
'"display":"none","balloon":false,"cpu-quota":20,"cpu-weight":50,"memory-max":4294967296,"memory-high":3670016000,'\
'"io-weight":0,"tasks-max":99,"console-log-max":1048576,"image-format":"raw","user-data":null}' "and --no-balloon wins"
check_output "" "no seed" v create new3 --image "$disk" --no-cloud-init
check_calls 'CreateVM "new3", {"image":null,"cloud-init":false}' "when there shall be none"
check_output '/org/vmctl1/vm/new_2e4' "create prints JSON" eval \
        'v create new.4 --image "$disk" --json | jq --raw-output .Object'
check_calls "CreateVM*" ""
check_output "vmctl: There is a VM 'web' already*Hint: Choose another name*" "errors of the service have hints" \
        v_errors 1 create web --image "$disk"
check_calls "CreateVM*" ""

check_output "*'/nonexistent': No such file*" "a missing file is named" v_errors 1 create x --image /nonexistent
check_output "*'/dev/null' is a character device*" "a device is no image" v_errors 2 create x --image /dev/null
check_output "*'$scratch' is a folder*" "nor is a folder" v_errors 2 create x --image "$scratch"
check_output "*fifo' is a FIFO*" "a FIFO holds nothing up" v_errors 2 create x --image "$scratch/fifo"
check_output "*'lots' is no SIZE for 'memory'*Hint: *--help*" "a bad number is named" v_errors 2 create x --image "$disk" --memory lots
check_output "*too large for 'vcpus'*" "so is a large one" v_errors 2 create x --image "$disk" --vcpus 9999999999
check_output "*too large for 'ssh-key'*" "a public key is small" v_errors 1 create x --image "$disk" \
        --ssh-key "$scratch/kernel"
check_output "*something to boot*" "create needs something to boot" v_errors 2 create x
check_output "*needs a name*" "create needs a name" v_errors 2 create --image "$disk"
check_output "*two names*" "create needs one name" v_errors 2 create x --name y --image "$disk"
check_output "*exclude each other*" "a seed or none" v_errors 2 create x --image "$disk" --cloud-init "$disk" \
        --no-cloud-init
check_output "*--bridge is not supported yet*Hint: *" "what comes later is refused by name" v_errors 1 create x --image "$disk" --bridge br0
check_output "*another host*--image*Hint: Copy*" "files don't go to another host" eval \
        '"$vmctl" -H elsewhere create x --image "$disk" 2>&1 || [ $? = 1 ]'
check_calls "" "nothing of this reached the service"

check_output "" "set takes words and options" v set web cpu-quota=50% --tasks-max 20 memory-max=default cpu-quota=60
check_calls 'SetLimits web {"tasks-max":20,"memory-max":0,"cpu-quota":60}' "the last of each"
check_output "*no limit 'vcpus'*Hint: *vmctl set --help*" "set knows limits alone" v_errors 2 set web vcpus=2
check_output "*not of the form*" "with values" v_errors 2 set web cpu-quota
check_output "*needs a limit*" "and at least one" v_errors 2 set web
check_output "" "update takes definitions" v update web --vcpus 4 --memory 4096 --no-balloon
check_calls 'UpdateSpec web {"vcpus":4,"memory":4294967296,"balloon":false}' "as create does"
check_output "*needs an option*" "update needs one" v_errors 2 update web
check_output '\[\["web","done"]]' "JSON has a result of update" eval \
        'v update web --vcpus 2 --json | jq --compact-output "map([.Name, .Result])"'
check_output '\[\["nosuch","failed",true]]' "and of set" eval \
        '(v set nosuch cpu-quota=5 --json || :) 2> /dev/null | jq --compact-output "map([.Name, .Result, has(\"ErrorName\")])"'
check_calls "UpdateSpec*" ""

#
# Talking
#

esc=$'\e'
check_output "first line
${esc}]0;title*${esc}\[2Jsecond ${esc}\[32mline${esc}\[0m" "log prints what the guest did" v log web
check_output $'first line\r\nsecond '"${esc}"$'\[32mline'"${esc}"$'\[0m\r' "with only colours left on a terminal" \
        on_terminal log web
check_output "*${esc}]0;title*" "unless it shall be raw" on_terminal log web --raw
check_calls "OpenConsoleLog web {}*" ""
check_output "*" "log has an end and a tail" v log web -f --tail 3
check_calls 'OpenConsoleLog web {"tail":3,"follow":true}' "which the service cuts"
check_output "*never provisioned*" "no provisioning" v_errors 0 log web --provision
printf 'one\ntwo\nthree\n' > "$scratch/provision.log"
check_output $'two\nthree' "provision.log has its last lines" v log web --provision -n 2
check_output $'first line\n*\nthree' "both logs by default" v log web
rm "$scratch/provision.log"
check_calls "OpenConsoleLog*" ""

check_output $'login: uptime\nbye\r' "console without a terminal sends, and shows what comes after" \
        with_input $'uptime\n' console web
check_calls "OpenConsole web" ""

# script(1) types the key before vmctl listens, which is no different.
check_output $'*Connected to the console of VM \'web\'. Ctrl-] detaches.*\nDetached from*\nicanon\necho' \
        "on a terminal Ctrl-] detaches, and the terminal is as before" eval \
        'printf "uptime\r\x1d" | TERM=dumb script --quiet --return --command "timeout --foreground 20 \"$vmctl\" --user \
                console web && stty -a | tr \" \" \"\n\" | grep --extended-regexp --line-regexp \"[-]?(icanon|echo)\"" \
                /dev/null | tr -d "\r"'
check_calls "OpenConsole web" ""

check_output "running" "qmp" eval 'v qmp web query-status | jq --raw-output .return.status'
check_calls 'Qmp web "{*execute*:*query-status*}"' "makes an object of a name"
check_output "*" "qmp takes arguments" v qmp web human-monitor-command '{"command-line": "info network"}'
check_calls 'Qmp web *arguments*:{*command-line*:*info network*}}"' "as JSON"
check_output "*Hint: As in*" "bad JSON is found here" v_errors 2 qmp web x '{"a":}'
check_output "*Hint: As in*" "no object, neither" v_errors 2 qmp web x '[]'
check_calls "" "and not sent"

mkdir "$scratch/bin"
cat > "$scratch/bin/ssh" << 'END'
#!/bin/sh
case $* in
*systemd-stdio-bridge) exec systemd-stdio-bridge --bus-path="$DBUS_SESSION_BUS_ADDRESS" ;;
esac
printf '%s\n' "$@"
exit 42
END
chmod +x "$scratch/bin/ssh"
with_fake_ssh() {
        PATH=$scratch/bin:$PATH v "$@"
        [ $? -eq 42 ]
}
check_output "-o
Compression=yes
-o
Port=*
-o
User=root
-o
IdentityFile=\"/a %%b\"
-o
IdentitiesOnly=yes
-o
HostKeyAlias=vmctl-6c1f
-o
StrictHostKeyChecking=accept-new
--
127.0.0.1
echo
-n
a b" "ssh waits for sshd's greeting, hands on arguments and status" \
        with_fake_ssh ssh booting --user root --key "/a %b" -o Compression=yes echo -n "a b"
check_calls 'WaitReady booting "sshd", *, {}' "which the service waits for"
check_output "*User=ubuntu*" "the VM's user is the default" with_fake_ssh ssh --name booting
check_calls "" "a guest that is up is not waited for"
check_output "*VM 'doomed': it is failed: the guest panicked*Hint: *" "ssh gives up on a VM that fails meanwhile" \
        v_errors 1 ssh doomed
check_output "*VM 'db': it is stopped*Hint: *vmctl start db*" "and on one that doesn't run" eval \
        'v stop db && v_errors 1 ssh db'
check_output "" "a service that comes back while the VM starts is asked once more" v start --wait reborn
check_calls $'*Start reborn {}\nWaitReady reborn *\nWaitReady reborn *' "... as is who takes its place when it ends"
interrupt() {
        local output pid

        exec {output}< <(exec "$vmctl" --user start --wait asleep web 2>&1)
        pid=$!
        while [[ $(next_call) != "WaitReady asleep"* ]]; do :; done
        kill -s TERM "$pid"
        cat <&"$output"
        exec {output}<&-
        wait "$pid" || echo "status $?"
}
check_output "vmctl: Canceled
status 143" "who is interrupted waits for nobody else" interrupt
check_calls "Cancel" "and the service no more"
check_output "*VM 'deaf': The guest was not ready*Hint: *" "it waits in vain" v_errors 124 ssh deaf --timeout 1

#
# Units
#

# It is told to stop before it has seen what there is; the VM is nobody's, and so not its own.
stop_at_once() {
        timeout 20 env --block-signal=TERM bash -c 'kill -s TERM $$; exec "$@"' -- "$(dirname "$vmctl")/vmctl-unit" --user "$1"
}
check_calls "*" ""
check_output "*belongs to another user*" "a unit that is to stop at once looks whose the VM is" eval \
        '! stop_at_once web 2>&1'
check_calls "" "and leaves that of somebody else alone"

#
# Other hosts
#

on_host() {
        PATH=$scratch/bin:$PATH timeout 20 "$vmctl" "$@"
}
on_host_relayed() {
        on_host "$@"
        [ $? -eq 42 ]
}
check_output $'NAME *\nweb *' "-H lists another host's VMs" on_host -H admin@server:2222 list
check_output "*VM 'nosuch'*" "-H before or behind the verb" eval 'on_host start nosuch --host server 2>&1 || :'
check_output $'-T\n-p\n2222\n--\nadmin@server
vmctl --system log --tail=5 --follow -- web' "logs are read there" on_host_relayed -H admin@server:2222 log web -n5 -f
check_output $'-T\n--\nserver
vmctl --system --json ssh --user=root -- web echo \'$HOME\'' "commands run from there" on_host_relayed \
        -H server ssh web --user root --json -- echo '$HOME'
check_output $'-T\n--\nserver\nvmctl --system start --wait -- web' "who waits for ssh does so there" on_host_relayed \
        -H server start web --wait
check_output "*is not a host*" "a host is no option of ssh" eval 'on_host -H -oProxyCommand=true log web 2>&1 || :'
check_calls "*" ""

#
# Following
#

# start_monitor ARGUMENT...: what it prints can then be read from $events.
start_monitor() {
        local line i

        exec {events}< <(exec timeout 60 "$vmctl" --user monitor "$@")
        for ((i = 0; i < 100; i++)); do
                v start web
                ! read -r -t 0.1 -u "$events" line || break
        done
        while read -r -t 0.2 -u "$events" line; do :; done
}

# next_event: the next line, less its time
next_event() {
        local line

        read -r -t 10 -u "$events" line
        sed -E 's/^[0-9:.]+ //; s/"Time":[0-9]+/"Time":0/' <<< "$line"
}

start_monitor
check "something happens" v suspend web
check_output "web state suspended" "monitor shows it" next_event
check "to another" v start db
check_output "db state running" "monitor shows that" next_event
check "a VM is stopped" v stop db
check_output "db state stopped" "monitor shows the state" next_event
check_output "vm* job * done" "and the job" eval 'echo "vm $(next_event)"'
exec {events}<&-
start_monitor --json web
check "something happens to a VM that is not looked at" v start db
check "and to one that is" v suspend web
check_output '{"Time":0,"Type":"state","VM":"web","What":"suspended","Details":{"State":"suspended"}}' \
        "monitor prints JSON lines" next_event

kill "$service_pid"
check_output '{"Time":0,"Type":"service","VM":null,"What":"gone",*' "the service goes" next_event
check_output "*vmctld is not running*Hint: *systemctl --user start vmctld*" "without it nothing works" v_errors 1 list
start_service web=stopped || exit
check_output '{"Time":0,"Type":"service","VM":null,"What":"started",*' "the service comes" next_event
check "things happen again" v start web
check_output '{"Time":0,"Type":"state","VM":"web","What":"running",*' "monitor goes on" next_event

#
# The line itself
#

check_output "vmctl [0-9]*" "--version" v --version
check_output "*create NAME*--no-ask-password*" "--help" v --help
check_output "*--image IMAGE*" "--help of a verb" v create --help
check_output "*Alias: ls*" "help of an alias" v help ls
check_output "*did you mean 'start'?*Hint: *" "a slip in a verb" v_errors 2 strat
check_output "*did you mean '--memory'?*Hint: *vmctl create --help*" "a slip in an option" v_errors 2 create --memroy 1
check_output "*exclude each other*" "one bus" v_errors 2 --system list
check_output "*No verb*" "one verb" v_errors 2
check_output "*Failed to write the output*" "a full disk is told" eval 'v list 2>&1 > /dev/full || :'
