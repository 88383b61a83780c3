#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 240
#
# Who may do what: the defaults of the policy and the rules file, an administrator's own rules, a password on a
# terminal, and polkit being slow or gone.

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

rules=/etc/polkit-1/rules.d/10-test.rules
alice=$(id --user alice)

useradd --create-home --shell /bin/bash carol
usermod --append --groups vmctl carol

# Also forgets the passwords that were given
restart_polkit() {
        systemctl reset-failed polkit 2> /dev/null # so many restarts are not what systemd expects
        systemctl restart polkit
}

# set_rules: takes standard input as the administrator's rules.
set_rules() {
        cat > $rules
        chmod 0644 $rules
        restart_polkit
}

# call USER PATH INTERFACE.METHOD [ARGUMENT...]: as a program does that offers no password prompt; on failure,
# the name of the error and its message
call() {
        local who=(as "$1")

        [[ $1 != *@seat ]] || who=(as_active "${1%@seat}")
        [ "$1" != root ] || who=()
        "${who[@]}" gdbus call --system --dest org.vmctl1 --object-path "$2" --method "${@:3}"
}

manager() {
        call "$1" /org/vmctl1 "org.vmctl1.Manager.$2" "${@:3}"
}

vm() {
        call "$1" "/org/vmctl1/vm/$2" "org.vmctl1.VM.$3" "${@:4}"
}

names() {
        manager "$1" ListVMs | sed "s/), (/\\n/g" | sed -n "s/^[^']*'\([^']*\)'.*/\1/p" | xargs
}

create_as() {
        "$1" "$2" vmctl create "$3" --kernel "$guest/vmlinuz" --initrd "$guest/initrd" \
                --append "console=ttyS0 quiet no_timer_check" --no-cloud-init --memory 128M --display none --network none \
                --accel tcg "${@:4}"
}

password="*org.freedesktop.DBus.Error.InteractiveAuthorizationRequired*"

# Neither in a session nor in the group
check_error "*Permission denied by polkit*Hint: *" "Without a session nobody may create" create_as as alice one
check_error "$password" "... and a program is told that a password would help" \
        manager alice CreateVM one '@a{sv} {}'
check_output "" "... nothing was made" names root
check "Anybody may ask for the version" manager bob GetVersion
check "... and the capabilities" manager bob GetCapabilities
check_output "" "... and for a list" names bob

# In front of the machine: one's own VMs
check "In an active session she may create" create_as as_active alice one --start
check_output "$alice" "The VM is hers" prop one Owner
check "She may open the console" wait_for_line 30 "GUEST READY|quiet|still here" \
        "$tests/as" --session alice vmctl console one --timeout 60 <<< "echo still here"
check "... and read its log" wait_for_line 30 "GUEST READY" "$tests/as" --session alice vmctl log one --console --follow
check "She may change it" as_active alice vmctl set one cpu-quota=90%
check "... suspend it" as_active alice vmctl suspend one
check "... resume it" as_active alice vmctl resume one
check "... and stop it" as_active alice vmctl stop one
check_error "$password" "Raw QMP is not hers" vm alice@seat one Qmp '{"execute":"query-status"}'
check "Start again" as_active alice vmctl start one
check_error "$password" "Without the session she may not stop it" vm alice one Kill
check_output "*'one'*" "... but see it" manager alice ListVMs

# Somebody else
# Two who have called, and listen: what one does with her VM, only she hears of.
hears() {
        grep --quiet "$2" < <(exec timeout 60 tail --follow --lines=+1 "$scratch/heard-$1")
}
listener() {
        : > "$scratch/heard-$1" # there before the listener runs
        as "$1" bash -c 'exec timeout 60 vmctl monitor' > "$scratch/heard-$1" 2>&1 &
        hears "$1" "service running"
}
check "The owner listens" listener alice
check "Another user listens" listener bob
check "Something happens" eval 'as_active alice vmctl suspend one && as_active alice vmctl resume one'
check "The owner hears of it" hears alice "one.*suspended"
check_output "*service running" "Another user hears nothing" cat "$scratch/heard-bob"
check_output "" "Another user sees no VM in the list" names bob
check_error "*org.vmctl1.Error.NoSuchVM*" "... nor by name" manager bob GetVM one
check_error "*org.vmctl1.Error.NoSuchVM*" "... nor by PID" manager bob GetVMByPID "$(prop one PID)"
check_output "(@a{oa{sa{sv}}} {},)*" "... nor as an object" \
        call bob /org/vmctl1 org.freedesktop.DBus.ObjectManager.GetManagedObjects
no_vm_in() {
        local output

        output=$("$@") && [[ $output != *one* && $output != *org.vmctl1.VM* ]] && echo "$output"
}
check "... nor below /org/vmctl1/vm" no_vm_in \
        call bob /org/vmctl1/vm org.freedesktop.DBus.Introspectable.Introspect
sees_interface() {
        call "$1" /org/vmctl1/vm/one org.freedesktop.DBus.Introspectable.Introspect | grep org.vmctl1.VM
}
check_status 1 "... nor by introspection of its object" sees_interface bob
check "... where the owner sees it" sees_interface alice
properties=org.freedesktop.DBus.Properties
check_error "$password" "... nor its properties" \
        call bob /org/vmctl1/vm/one $properties.GetAll org.vmctl1.VM
check_error "$password" "... nor one of them" call bob /org/vmctl1/vm/one $properties.Get org.vmctl1.VM State
pid=$(prop one PID)
refuses_all() {
        local method

        for method in "Start {}" "Stop 0" Kill Reset Suspend Resume Destroy OpenConsole "OpenConsoleLog {}" \
                "UpdateSpec {'vcpus':<uint32 2>}" "SetLimits {'cpu-quota':<uint32 1>}" "Qmp {}"; do
                # shellcheck disable=SC2086
                check_error "*InteractiveAuthorizationRequired*" "${*:2} may not ${method%% *}" \
                        vm "$1" one ${method}
        done
}
refuses_all bob "Another user"
refuses_all bob@seat "... even in front of the machine he"
refuses_all carol "... even in the group she"
check_error "$password" "An unknown method is no way around" vm bob one NoSuchMethod
check_output "running $pid" "All this changed nothing" echo "$(prop one State) $(prop one PID)"
check_error "*There already is a VM*" "A name that is taken is taken" create_as as_active bob one

# The machine's own VMs
mkdir -p /etc/vmctl
printf 'vm "db" {\n    image "/srv/db.qcow2"\n}\n' > /etc/vmctl/machine.kdl
check_error "*'db' is the name of a VM of the machine, by '/etc/vmctl/machine.kdl'*" \
        "A name that a file of the machine has is root's" create_as as_active bob db
rm /etc/vmctl/machine.kdl
check "... as long as it has it" create_as as_active bob db
check "... (it goes)" as_active bob vmctl destroy db

# The group
check "A member of the group needs no session" create_as as carol two --start
check "... nor for the console" wait_for_line 60 "quiet|GUEST" "$tests/as" carol vmctl console two --timeout 60
check_output "two" "... and sees her own VMs" names carol
check "... and ends them" as carol vmctl kill two

# root
check_output "one two" "root sees all" names root
check "... and may do all" vmctl suspend one
check "... also raw QMP" vm root one Qmp '{"execute":"query-status"}'
vmctl resume one
check_error "*NoSuchVM*" "Steps that are meant for root's VM are not given to another's of its name" \
        vm root one Provision '@aa{sv} []' "{'owner': <uint32 0>}"

# The administrator's rules
set_rules << EOR
polkit.addRule(function(action, subject) {
    if (action.id == "org.vmctl1.inspect" && subject.user == "bob")
        return polkit.Result.YES;
    if (action.id == "org.vmctl1.manage-vm" && subject.user == "bob" && action.lookup("vm") == "two" &&
        action.lookup("verb") == "Start" && action.lookup("own") == "false" && action.lookup("owner") == "$(id --user carol)")
        return polkit.Result.YES;
    if (action.id == "org.vmctl1.debug" && subject.user == "alice" && action.lookup("own") == "true")
        return polkit.Result.YES;
});
EOR
check_output "one two" "With .inspect he sees all" names bob
check_output "*/org/vmctl1/vm/one*" "... by name" manager bob GetVM one
check_output "*'running'*" "... with properties" call bob /org/vmctl1/vm/one $properties.Get org.vmctl1.VM State
check "... by introspection" sees_interface bob
check_output "*'one'*'two'*" "... as objects" \
        call bob /org/vmctl1 org.freedesktop.DBus.ObjectManager.GetManagedObjects
check_error "$password" "... but manages none" vm bob one Kill
check "A rule may allow one verb on one VM of one owner" vm bob two Start '@a{sv} {}'
check_error "$password" "... and no other verb" vm bob two Kill
check_error "$password" "... nor another VM" vm bob one Start '@a{sv} {}'
check_output '*"status":"running"*' "A rule may allow raw QMP" vm alice one Qmp '{"execute":"query-status"}'
check_error "$password" "... of one's own VMs" vm alice two Qmp '{"execute":"query-status"}'
vmctl destroy two

# A rule may take its time: this one waits until somebody has opened the gate and closed it again.
gate=/run/polkit-gate
mkfifo --mode=0644 $gate
set_rules << EOR
polkit.addRule(function(action, subject) {
    if (action.lookup("vm") != "gated" || action.lookup("verb") != "Start")
        return polkit.Result.NOT_HANDLED;
    polkit.spawn(["/bin/cat", "$gate"]);
    return polkit.Result.YES;
});
EOR
define gated
# Opening the gate waits for polkit to look at it.
start_gated() {
        "$tests/as" alice gdbus call --system --dest org.vmctl1 --object-path /org/vmctl1/vm/gated \
                --method org.vmctl1.VM.Start '@a{sv} {}' > /dev/null &
        client=$!
        exec {open_gate}> $gate
}
start_gated
check "While polkit thinks, others are answered" promptly manager root ListVMs
check "... and served" promptly vmctl suspend one
check_output prepared "... and nothing happens" prop gated State
kill -KILL $client
wait $client 2> /dev/null
exec {open_gate}>&-
# polkit and the bus keep their order: the answer to this call comes behind what became of the first one.
manager bob GetVM gated &> /dev/null
check_error "*" "A further question to polkit" vm bob one Kill
check_output prepared "What a caller that is gone wanted is not done" prop gated State
check_output inactive "... at all" eval "systemctl is-active vmctl-gated.scope || :"
start_gated
exec {open_gate}>&-
wait $client
check_output running "What one that waits wants is" prop gated State
vmctl destroy gated
vmctl resume one

# A password, asked for on the terminal
usermod --append --groups sudo bob
echo bob:correct-horse | chpasswd
rm $rules
restart_polkit
# on_terminal PASSWORD COMMAND...: runs COMMAND on a terminal, where PASSWORD is typed at the prompt.
on_terminal() {
        TYPED=$1 expect -f - -- "${@:2}" << 'EOX'
# The agent throws away what was typed before it has switched the echo off, which is a moment after its prompt.
set timeout 3
set tries 0
set asked 0
log_user 1
spawn -noecho {*}$argv
expect {
        "Password:" { set asked 1; send "$env(TYPED)\r"; exp_continue }
        "AUTHENTICATION" { set asked 0; exp_continue }
        timeout {
                if {[incr tries] > 10} { exit 99 }
                if {$asked} { send "$env(TYPED)\r" }
                exp_continue
        }
        eof
}
exit [lindex [wait] 3]
EOX
}
check_output "*AUTHENTICATING FOR*one*of another user*bob*" "A password lets another user in" \
        on_terminal correct-horse "$tests/as" carol vmctl suspend one
check_output suspended "... who then has done it" prop one State
restart_polkit
check_output "*AUTHENTICATING FOR*" "... also from a session" \
        on_terminal correct-horse "$tests/as" --session carol vmctl resume one
check_output running "... who then has done it" prop one State
restart_polkit
wrong_password() {
        ! on_terminal wrong "$tests/as" carol vmctl suspend one > "$scratch/typed" &&
                grep "Permission denied by polkit" "$scratch/typed"
}
check "A wrong one does not" wrong_password
check_output running "... and nothing is done" prop one State
check_error "*This needs a password*" "--no-ask-password asks nothing" \
        as carol vmctl --no-ask-password suspend one

# No polkit at all
systemctl mask --runtime --now polkit 2> /dev/null
check "Without polkit root goes on" promptly vmctl suspend one
vmctl resume one
check_error "*polkit*Hint: *" "... and others hear why they don't" promptly as_active alice vmctl suspend one
check_output one "... but see what is theirs" names alice
check_output "" "... and nothing else" names bob
check_output running "Nothing was done" prop one State
systemctl unmask --runtime polkit 2> /dev/null
check "With polkit all is well again" as_active alice vmctl destroy one
check "... and nothing is left" is_gone one
check_output 0 "The service was never restarted" systemctl show --property=NRestarts --value vmctld
