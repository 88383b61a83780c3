#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 180
#
# What programs rely on: dbus/org.vmctl1.xml says what the service has, to the letter; names, signals, errors and
# exit statuses are those of the documentation.

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

xml=$tests/../dbus/org.vmctl1.xml

manager() {
        busctl --timeout=60 call org.vmctl1 /org/vmctl1 org.vmctl1.Manager "$@"
}

# gdbus tells the name of an error.
call() {
        gdbus call --system --dest org.vmctl1 --object-path "$1" --method "${@:2}"
}

# error_of NAME DESCRIPTION PATH METHOD [ARGUMENT...]
error_of() {
        check_error "*GDBus.Error:$1: *" "$2" call "${@:3}"
}

mgr=/org/vmctl1
M=org.vmctl1.Manager

listen
check "Create" define one --start
check_output "GUEST READY *" "... and start" booted one

# A job that stays: the guest does not listen to its power button.
check "A guest is told to ignore its power button" tell one ignore-power "ok ignore-power"
job=$(busctl --json=short call org.vmctl1 /org/vmctl1/vm/one org.vmctl1.VM Stop t 600000000 | jq -r '.data[0]')
id=${job##*/}
check_output "/org/vmctl1/job/[1-9]*" "Stop gives a job" echo "$job"

# The interfaces, in comparable lines
cat > "$scratch/flatten" << 'EOP'
import sys
import xml.etree.ElementTree as ET

EMITS = "org.freedesktop.DBus.Property.EmitsChangedSignal"
wanted = sys.argv[1:]
for interface in sorted(ET.parse(sys.stdin).getroot().iter("interface"), key=lambda i: i.get("name")):
        name = interface.get("name")
        if name not in wanted:
                continue
        lines = []
        for e in interface:
                if e.tag == "property":
                        notes = {a.get("name"): a.get("value") for a in e.findall("annotation")}
                        lines.append("property %s %s %s changes=%s" % (e.get("name"), e.get("type"),
                                e.get("access"), notes.pop(EMITS, "true")))
                else:
                        notes = {a.get("name"): a.get("value") for a in e.findall("annotation")}
                        args = ["%s %s:%s" % (a.get("direction", "out"), a.get("name"), a.get("type"))
                                for a in e.findall("arg")]
                        lines.append("%s %s(%s)" % (e.tag, e.get("name"), ", ".join(args)))
                lines += ["%s: %s=%s" % (e.get("name"), *n) for n in sorted(notes.items())]
        print("\n".join(name + " " + l for l in sorted(lines)))
EOP
same_interface() {
        diff <(python3 "$scratch/flatten" "$2" < "$xml") \
                <(busctl introspect --xml-interface org.vmctl1 "$1" | python3 "$scratch/flatten" "$2") &&
                python3 "$scratch/flatten" "$2" < "$xml" | grep "$2" > "$scratch/lines"
}
check "The manager has what the file says" same_interface $mgr $M
check "A VM has" same_interface /org/vmctl1/vm/one org.vmctl1.VM
check "A job has" same_interface "$job" org.vmctl1.Job
interfaces_of() {
        busctl introspect --xml-interface org.vmctl1 "$1" | grep --only-matching '<interface name="[^"]*' |
                sed 's/.*"//' | sort | xargs
}
peer="org.freedesktop.DBus.Introspectable org.freedesktop.DBus.Peer org.freedesktop.DBus.Properties"
check_output "${peer/ / org.freedesktop.DBus.ObjectManager } $M" "The manager has no others" \
        interfaces_of $mgr
check_output "$peer org.vmctl1.VM" "... nor has a VM" interfaces_of /org/vmctl1/vm/one
check_output "$peer org.vmctl1.Job" "... nor a job" interfaces_of "$job"
check_output "*<node name=\"job\"/>*<node name=\"vm\"/>*" "The tree can be walked down" \
        busctl introspect --xml-interface org.vmctl1 $mgr
check_output "*<node name=\"one\"/>*" "... to the VMs" busctl introspect --xml-interface org.vmctl1 /org/vmctl1/vm
check_output "*<node name=\"$id\"/>*" "... and jobs" busctl introspect --xml-interface org.vmctl1 /org/vmctl1/job
check "gdbus-codegen makes C of the file" gdbus-codegen --generate-c-code "$scratch/generated" --c-namespace Vmctl \
        --interface-prefix org.vmctl1. "$xml"
check "... and the file is valid" xmllint --noout --nonet "$xml"

# All properties, each of the type that the file names
properties_of() {
        busctl --json=short call org.vmctl1 "$1" org.freedesktop.DBus.Properties GetAll s "$2" |
                jq -r '.data[0] | to_entries[] | "\(.key) \(.value.type)"' | sort
}
properties_in_file() {
        python3 "$scratch/flatten" "$1" < "$xml" | sed -n "s/^$1 property \([^ ]* [^ ]*\) .*/\1/p" | sort
}
same_properties() {
        diff <(properties_in_file "$2") <(properties_of "$1" "$2")
}
check "GetAll of the manager has all properties" same_properties $mgr $M
check "... of a VM" same_properties /org/vmctl1/vm/one org.vmctl1.VM
check "... of a job" same_properties "$job" org.vmctl1.Job

# Objects
objects() {
        busctl --json=short call org.vmctl1 $mgr org.freedesktop.DBus.ObjectManager GetManagedObjects |
                jq -r ".data[0] | to_entries[] | select(.value[\"$1\"]) | .key" | sort | xargs
}
check_output /org/vmctl1/vm/one "GetManagedObjects has the VM" objects org.vmctl1.VM
check_output "$job" "... and the job" objects org.vmctl1.Job
check "Objects can be pinged" call /org/vmctl1/vm/one org.freedesktop.DBus.Peer.Ping
check_output "*$(< /etc/machine-id)*" "... and asked for the machine" call $mgr org.freedesktop.DBus.Peer.GetMachineId

# Jobs
check_output "a(uososd) 1 $id \"$job\" \"stop\" \"/org/vmctl1/vm/one\" \"running\" -1" "ListJobs has the job" \
        manager ListJobs
check_output "o \"$job\"" "GetJob finds it" manager GetJob u "$id"
error_of org.vmctl1.Error.NoSuchJob "... and no other" $mgr $M.GetJob 4242
check "JobNew has told of it" heard '"member":"JobNew","payload":\{"type":"uoo","data":\['"$id,\"$job\",\"/org/vmctl1/vm/one\""
check "... and InterfacesAdded" heard "\"InterfacesAdded\".*\"$job\",\{.*\"org.vmctl1.Job\":\{"
check_output "stopping" "The VM is stopping" prop one State
check "Cancel" busctl call org.vmctl1 "$job" org.vmctl1.Job Cancel
check "... is told, the job's result first" heard \
        "\"path\":\"$job\".*\"PropertiesChanged\".*\"State\":\{\"type\":\"s\",\"data\":\"finished\"\}.*\"canceled\""
check "... then its removal" heard '"member":"JobRemoved","payload":\{"type":"uoos","data":\['"$id,\"$job\",\"/org/vmctl1/vm/one\",\"canceled\""
check "... and InterfacesRemoved" heard "\"InterfacesRemoved\".*\"$job\""
check_output "a(uososd) 0" "No job is left" manager ListJobs
error_of org.freedesktop.DBus.Error.UnknownObject "... nor its object" "$job" org.vmctl1.Job.Cancel
check_output running "The VM goes on" prop one State

# VMs by name and process
check_output 'o "/org/vmctl1/vm/one"' "GetVM" manager GetVM s one
pid=$(prop one PID)
check_output 'o "/org/vmctl1/vm/one"' "GetVMByPID, of QEMU" manager GetVMByPID u "$pid"
check_output 'o "/org/vmctl1/vm/one"' "... and of all in its scope" \
        manager GetVMByPID u "$(sed -n 's/^PPid:\t//p' "/proc/$pid/status")"
error_of org.vmctl1.Error.NoSuchVM "A process that is in none" $mgr $M.GetVMByPID 1
error_of org.vmctl1.Error.NoSuchVM "... or is not there" $mgr $M.GetVMByPID 4194305
error_of org.vmctl1.Error.NoSuchVM "... or none at all" $mgr $M.GetVMByPID 0
check_output "a(sossusutsuqta{sv}) 1 \"one\" \"/org/vmctl1/vm/one\" \"running\" \"\" 0 \"qemu\" 1 134217728 \"none\" $pid 0 [1-9]* 0" \
        "ListVMs says it all in one" manager ListVMs
capabilities() {
        manager --json=short GetCapabilities | jq -r '.data[0] | to_entries[] | "\(.key):\(.value.type)"' |
                LC_ALL=C sort | xargs
}
check_output "accelerators:as default-accelerator:s default-network-backend:s firmware:as machine-types-in-use:as \
machine-types:a{ss} network-backends:as qemu-path:s qemu-version:s warnings:as" "GetCapabilities has the keys of the file" capabilities
check_output "a{sv} *\"machine-types-in-use\" as 1 \"pc-q35-*" "... with machine types in use" manager GetCapabilities
check_output "s \"$(vmctl --version | awk '{ print $2 }')\"" "GetVersion is the client's" manager GetVersion

# Every property that is said to change is sent, with its value.
forget_signals
check "All that changes a VM" eval "vmctl suspend one && vmctl resume one && vmctl reset one &&
        vmctl set one cpu-quota=90% && vmctl kill one && vmctl update one --memory 144M && vmctl start one &&
        vmctl kill one"
heard xxx > /dev/null
changed() {
        grep '"PropertiesChanged"' "$heard_signals" | jq -r 'select(.path == "/org/vmctl1/vm/one") |
                .payload.data[1] | to_entries[] | "\(.key) \(.value.type)"' | sort -u
}
# Provisioning takes a guest with an SSH server.
changing_in_file() {
        python3 "$scratch/flatten" org.vmctl1.VM < "$xml" |
                sed -n 's/^org.vmctl1.VM property \([^ ]* [^ ]*\) .* changes=true$/\1/p' | grep -v '^ProvisionedSteps ' | sort
}
all_told() {
        diff <(changing_in_file) <(changed)
}
check "... is told, by property and type, and nothing else" all_told
invalidated() {
        grep '"PropertiesChanged"' "$heard_signals" | jq -c 'select(.path | startswith("/org/vmctl1")) |
                .payload.data[2] | select(length > 0)'
}
check_output "" "... always with values" invalidated

# Names in paths
forget_signals
long=$(printf 'x%.0s' {1..64})
for pair in a-b:a_2db a.b:a_2eb a_b:a_5fb 9x:_39x A:A "$long:$long"; do
        name=${pair%:*} path=/org/vmctl1/vm/${pair#*:}
        check "A VM named $name" define "$name"
        check_output "o \"$path\"" "... is at $path" manager GetVM s "$name"
        check_output "s \"$name\"" "... and says its name" \
                busctl get-property org.vmctl1 "$path" org.vmctl1.VM Name
        check "VMNew told so" heard "\"VMNew\",\"payload\":\{\"type\":\"so\",\"data\":\[\"${name//./\\.}\",\"$path\"\]"
        check "Destroy" vmctl destroy "$name"
        check "... VMRemoved, too" heard \
                "\"VMRemoved\",\"payload\":\{\"type\":\"so\",\"data\":\[\"${name//./\\.}\",\"$path\"\]"
        check "... and InterfacesRemoved" heard "\"InterfacesRemoved\".*\"$path\",\[.*\"org.vmctl1.VM\""
        error_of org.freedesktop.DBus.Error.UnknownObject "Nothing is left at $path" "$path" org.vmctl1.VM.Kill
done

# Errors have names.
E=org.vmctl1.Error
V=org.vmctl1.VM
one=/org/vmctl1/vm/one
error_of $E.NoSuchVM "No such VM" $mgr $M.GetVM none
error_of $E.InvalidName "A name that cannot be" $mgr $M.GetVM -- -x
error_of $E.InvalidName "... to be given" $mgr $M.CreateVM .x '@a{sv} {}'
error_of $E.VMExists "A name that is taken" $mgr $M.CreateVM one '@a{sv} {}'
error_of $E.UnknownOption "An option that is not known" $mgr $M.CreateVM x "{'colour': <'blue'>}"
check_error "*'colour'*" "... is named" manager CreateVM 'sa{sv}' x 1 colour s blue
error_of $E.UnknownOption "... of Start" $one $V.Start "{'colour': <'blue'>}"
error_of $E.UnknownOption "... of OpenConsoleLog" $one $V.OpenConsoleLog "{'colour': <'blue'>}"
error_of $E.UnknownOption "... of UpdateSpec" $one $V.UpdateSpec "{'colour': <'blue'>}"
error_of $E.UnknownOption "... of SetLimits" $one $V.SetLimits "{'colour': <'blue'>}"
error_of $E.InvalidSpec "A value of the wrong type" $mgr $M.CreateVM x "{'memory': <'lots'>}"
error_of $E.InvalidSpec "... a number for a word" $mgr $M.CreateVM x "{'network': <1>}"
error_of $E.InvalidSpec "... a fraction" $mgr $M.CreateVM x "{'vcpus': <1.5>}"
error_of $E.InvalidSpec "... a negative one" $mgr $M.CreateVM x "{'vcpus': <-1>}"
error_of $E.InvalidSpec "... a list" $mgr $M.CreateVM x "{'vcpus': <[1]>}"
error_of $E.InvalidSpec "... of OpenConsoleLog" $one $V.OpenConsoleLog "{'tail': <'x'>}"
error_of $E.InvalidSpec "A path where a descriptor belongs" $mgr $M.CreateVM x "{'image': <'/etc/shadow'>}"
error_of $E.InvalidSpec "A word that is none of those" $mgr $M.CreateVM x "{'network': <'bridge'>}"
error_of $E.InvalidSpec "What cannot be changed" $one $V.UpdateSpec "{'firmware': <'uefi'>}"
error_of $E.InvalidState "What does not run has no console" $one $V.OpenConsole
error_of $E.InvalidState "... and cannot be reset" $one $V.Reset
error_of $E.InvalidState "... nor be asked" $one $V.Qmp '{"execute":"query-status"}'
error_of org.freedesktop.DBus.Error.InvalidArgs "A wrong signature" $mgr $M.GetVM one two
error_of org.freedesktop.DBus.Error.UnknownMethod "A method that is not there" $one $V.Explode
error_of org.freedesktop.DBus.Error.UnknownProperty "A property that is not there" \
        $one org.freedesktop.DBus.Properties.Get $V Colour
error_of org.freedesktop.DBus.Error.PropertyReadOnly "A property cannot be set" \
        $one org.freedesktop.DBus.Properties.Set $V State '<"running">'
error_of org.freedesktop.DBus.Error.UnknownObject "An object that is not there" /org/vmctl1/vm/none $V.Kill
error_of org.freedesktop.DBus.Error.UnknownObject "... or cannot be" /org/vmctl1/vm/one/two $V.Kill
error_of org.freedesktop.DBus.Error.UnknownObject "... or is no job" /org/vmctl1/job/x org.vmctl1.Job.Cancel

# vmctl
check_status 0 "vmctl ends with 0 when all is done" vmctl list
check_status 1 "... with 1 when it failed" vmctl start none
check_status 2 "... with 2 when it was used in a wrong way" vmctl start
check_status 2 "... with an unknown verb" vmctl explode
check_status 2 "... or option" vmctl list --colour
define silent --network user
check_status 124 "... with 124 when it waited in vain" vmctl start silent --wait --timeout 1
vmctl destroy silent

check "Destroy" vmctl destroy one
check "... leaves nothing behind" is_gone one
check_output 0 "The service was never restarted" systemctl show --property=NRestarts --value vmctld
