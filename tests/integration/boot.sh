#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 600
#
# VMs as units of systemd: vm@NAME.service, of VMs that were made by command and of those that files define. What
# a reboot makes of them is in reboot.sh.

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

# block NAME [SETTING...]: a VM with the test guest, for a file
block() {
        printf 'vm "%s" {\n' "$1"
        printf '    %s\n' "kernel \"$guest/vmlinuz\"" "initrd \"$guest/initrd\"" 'append "console=ttyS0 quiet no_timer_check"' \
                'memory 128' 'display "none"' 'accel "tcg"' "${@:2}"
        echo '}'
}

unit() {
        systemctl show --property="$2" --value "vm@$1.service"
}

# mark NAME: what the unit's journal holds up to now is of no interest any more.
mark() {
        cursor=$(journalctl --quiet --unit="vm@$1" --lines=0 --show-cursor | sed -n 's/^-- cursor: //p')
}

since_mark() {
        journalctl --quiet --unit="vm@$1" --output=cat --lines=all ${cursor:+--after-cursor="$cursor"} "${@:2}"
}

# logged NAME REGEX: waits until there is such a line behind the mark.
logged() {
        wait_for_line 60 "$2" journalctl --quiet --unit="vm@$1" --output=cat --lines=all \
                ${cursor:+--after-cursor="$cursor"} --follow
}

# later NAME COMMAND: the guest runs it in a second.
later() {
        tell "$1" "sh (sleep 1; $2) > /dev/null 2>&1 &" "^ok sh" > /dev/null
}
readonly power_off="echo o > /proc/sysrq-trigger" panic="echo c > /proc/sysrq-trigger"

attend

#
# A VM that was made by command
#

define made
check "A unit of a VM that was made" systemctl start vm@made
check_output active "... is active" systemctl is-active vm@made
check_output Running "... and says so" unit made StatusText
check_output running "... as does the VM" prop made State
check "The guest's console is in the journal" logged made "^GUEST READY"
check_output vm@made.service "... as of the unit and of the VM" \
        eval "journalctl --quiet VM_NAME=made --grep='GUEST READY' --output=json | jq --raw-output ._SYSTEMD_UNIT"
check "Starting it twice changes nothing" systemctl start vm@made

# Somebody else has a VM of the unit's name, which says of itself that the unit's file defines it.
check "Somebody makes a VM" as_active bob vmctl create theirs --kernel "$guest/vmlinuz" --initrd "$guest/initrd" \
        --no-cloud-init --memory 128M --display none --network none --accel tcg
mark theirs
check_status 1 "A unit of its name is not started" systemctl start vm@theirs
check "... because it is his" logged theirs "belongs to another user"
mkdir --parents /etc/vmctl
block theirs 'provision "file" { source "/etc/shadow"; destination "/tmp/shadow"; }' 'ssh { }' > /etc/vmctl/theirs.kdl
systemctl daemon-reload
mark theirs
check_status 1 "... neither one that a file defines" systemctl start vm@theirs
check "... because it is his" logged theirs "belongs to another user"
check_output prepared "... and nothing was done to it" prop theirs State
rm /etc/vmctl/theirs.kdl
systemctl daemon-reload
vmctl destroy theirs
mark made # journalctl leaves out the first entry behind a cursor of another unit's
check "What a guest prints is no command for a terminal" tell made \
        "sh printf '\\033]0;title\\007\\033[31mred\\033[0m plain\\r\\n'" "^ok sh"
check "... in the journal" logged made "^red plain"
check "... nor does it say how grave that is" tell made "echo <0>no emergency" "^<0>no emergency"
check "... where all are told of emergencies" logged made "^<0>no emergency"
check_output 6 "... but a line as any other" \
        eval "journalctl --quiet VM_NAME=made --grep='no emergency' --output=json | jq --raw-output .PRIORITY"
check "Stop" systemctl stop vm@made
check_output "stopped guest-shutdown" "... shuts the guest down" \
        eval "echo \$(prop made State) \$(prop made ShutdownReason)"
check_output "inactive success" "... and ends the unit cleanly" \
        echo "$(unit made ActiveState) $(unit made Result)"
check_output "*GUEST POWERDOWN*" "... with the guest's last words in the journal" since_mark made

check "Enable" vmctl enable made
check_output enabled "... is what systemctl shows" systemctl is-enabled vm@made
check_output inactive "... and no more" eval "systemctl is-active vm@made || :"
check "Enable --now" vmctl enable --now made
check_output running "... starts it" prop made State
check "Disable" vmctl disable made
check_output disabled "... is what systemctl shows" eval "systemctl is-enabled vm@made || :"
check_output running "... and leaves it running" prop made State
check "Disable --now" vmctl disable --now made
check_output stopped "... stops it" prop made State
check_error "*There is no VM 'none'*" "There is nothing to enable without a VM" vmctl enable none
check_status 2 "... nor with a name that is none" vmctl enable ../none
check_error "*" "Users may not enable what root's manager starts" as bob vmctl --no-ask-password enable made

mkdir -p /run/systemd/system/vm@none.service.d
printf '[Service]\nRestart=always\n' > /run/systemd/system/vm@none.service.d/always.conf
systemctl daemon-reload
check_status 1 "Without a VM there is nothing to start" systemctl start vm@none
check_output "*There is no VM 'none', and no file of /etc/vmctl defines it*" "... as the status tells" unit none StatusText
check_output "*There is no VM 'none'*" "... and the journal" journalctl --quiet --unit=vm@none --output=cat
check_output "failed 6 0" "... and trying again would not help" \
        echo "$(unit none ActiveState) $(unit none ExecMainStatus) $(unit none NRestarts)"

#
# The service goes and comes
#

mark made
check "Start" systemctl start vm@made
pid=$(unit made MainPID)
check "The guest comes up" logged made "^GUEST READY"
check "The service is restarted" systemctl restart vmctld
listen
check "... killed" crash_service
mark made
tell made "echo after the crash" "^after the crash" > /dev/null
check "The unit goes on, with the console" logged made "^after the crash"
check_output "active $pid Running" "... as the same" \
        echo "$(unit made ActiveState) $(unit made MainPID) $(unit made StatusText)"
mark made
later made "$power_off"
systemctl stop vmctld
check "A guest that ends while there is no service" logged made "Deactivated successfully"
check_output "inactive success" "... ends the unit cleanly" echo "$(unit made ActiveState) $(unit made Result)"

mark made
check "Start" systemctl start vm@made
check "The guest comes up" logged made "^GUEST READY"
systemctl stop vmctld
check "Stop needs no service that runs before" systemctl stop vm@made
check_output stopped "... to shut the guest down" prop made State

mark made
check "Start" systemctl start vm@made
check "The guest comes up" logged made "^GUEST READY"
tell made ignore-power "^ok" > /dev/null
systemctl stop --no-block vm@made
check "A guest is to shut down" wait_until 60 state made stopping
forget_signals
check "The service, killed meanwhile, comes back" crash_service
vmctl kill made
check "When the guest is down" logged made "Deactivated successfully"
check_output "inactive success" "... so is the unit" echo "$(unit made ActiveState) $(unit made Result)"

#
# VMs of files
#

mkdir -p /etc/vmctl /usr/lib/vmctl/vms
{
        block web 'network "none"' 'depends-on "db"' 'restart "on-failure"'
        block plain 'network "none"'
} > /etc/vmctl/site.kdl
block db 'network "none"' > /usr/lib/vmctl/vms/db.kdl
printf 'vm "broken" {\n    kernel "/k"\n    memroy 5\n}\n' > /etc/vmctl/broken.kdl
check "The manager takes notice of files" systemctl daemon-reload
check_output "*/etc/vmctl/broken.kdl:3:5: error: 'memroy' is not a setting of vm*" "A wrong one is in the journal" \
        journalctl --quiet --identifier=vmctl-generator --output=cat
check_output /etc/vmctl/site.kdl "A unit knows its file" unit web SourcePath
check_output on-failure "... and when to restart" unit web Restart
check_status 3 "Without autostart it does not run" systemctl is-active --quiet vm@web

cursor=
check "A VM that has never been there" systemctl start vm@web
check_output "running running" "... is made and started, after the one it depends on" \
        echo "$(prop web State) $(prop db State)"
check "... which was ready before" test "$(unit db ActiveEnterTimestampMonotonic)" -le \
        "$(unit web ExecMainStartTimestampMonotonic)"
check_output 0 "... both root's" prop web Owner
check "Guests come up" eval "booted web && booted db"
check "Stopping what another depends on" systemctl stop vm@db
check_output "stopped guest-shutdown stopped guest-shutdown" "... shuts both down" \
        eval "echo \$(prop web State) \$(prop web ShutdownReason) \$(prop db State) \$(prop db ShutdownReason)"
check "... one after the other" test "$(unit web InactiveEnterTimestampMonotonic)" -le \
        "$(unit db InactiveEnterTimestampMonotonic)"

mark web
check "Start again" systemctl start vm@web vm@plain
check "Guests come up" eval 'logged web "^GUEST READY" && booted plain'
mark web
later web "$power_off"
check "A guest that powers itself off" logged web "Deactivated successfully"
check_output "inactive success 0" "... ends its unit cleanly, for good" \
        echo "$(unit web ActiveState) $(unit web Result) $(unit web NRestarts)"

systemctl start vm@web
pid=$(prop web PID)
mark web
kill -SEGV "$pid"
check "A QEMU that crashes" logged web "^Started vm@web"
check_output "*signal 11*" "... is told about" since_mark web
check_output "active 1" "... and begun anew, once" echo "$(unit web ActiveState) $(unit web NRestarts)"
check "... as another one" test "$(prop web PID)" -ne "$pid"
check "The guest comes up" logged web "^GUEST READY"
mark web
later web "$panic"
check "A guest that panics" logged web "^Started vm@web"
check_output "*panic*" "... is told about" since_mark web
check_output "running 2" "... and begun anew, too" eval "echo \$(prop web State) \$(unit web NRestarts)"

mark plain
kill -SEGV "$(prop plain PID)"
check "A VM without restart" logged plain "Failed with result"
check_output "failed exit-code *signal 11*" "... fails its unit, which tells why" \
        echo "$(unit plain ActiveState) $(unit plain Result) $(unit plain StatusText)"

pid=$(prop web PID)
mark web
kill -KILL "$(unit web MainPID)"
check "A unit whose own process dies" logged web "^Started vm@web"
check_output "$pid" "... is taken up again with the VM that runs on" prop web PID
check "Stop" systemctl stop vm@web
check_output stopped "... works as ever" prop web State

#
# Guests that keep us waiting
#

mkdir -p /run/systemd/system/vm@plain.service.d
printf '[Service]\nTimeoutStopSec=6s\n' > /run/systemd/system/vm@plain.service.d/timeout.conf
systemctl daemon-reload
mark plain
check "Start" systemctl start vm@plain
check "The guest comes up" logged plain "^GUEST READY"
tell plain ignore-power "^ok" > /dev/null
mark plain
check "A guest that ignores the button" systemctl stop vm@plain
check_output "inactive success" "... is ended in time, without PID 1's doing" \
        echo "$(unit plain ActiveState) $(unit plain Result)"
check_status 1 "... nor its signals" since_mark plain --grep="timed out"
check_output stopped "... and stopped" prop plain State

ssh-keygen -q -t ed25519 -N "" -f "$scratch/key"
block slow 'network "user"' "ssh private-key=\"$scratch/key\"" > /etc/vmctl/slow.kdl
systemctl daemon-reload
mark slow
systemctl start --no-block vm@slow
check "A guest without sshd comes up" logged slow "^GUEST READY"
check_output "activating" "... and its unit is not active" unit slow ActiveState
check_output "?*" "... but says what it waits for" unit slow StatusText
check "It can be stopped meanwhile" systemctl stop vm@slow
check_output "stopped" "... which shuts the guest down" prop slow State

#
# A VM that goes away under its unit, a file that loses its VM
#

check "Start" systemctl start vm@plain
mark plain
vmctl destroy plain
check "A VM that is destroyed" logged plain "Deactivated successfully"
check_output inactive "... ends its unit" unit plain ActiveState
rm /etc/vmctl/slow.kdl
echo 'vm "other" { kernel "/k"; }' > /etc/vmctl/site.kdl
check_status 1 "A file that has lost its VM" systemctl start vm@plain
check_output "*There is no VM 'plain' in '/etc/vmctl/site.kdl'*" "... is told about" \
        journalctl --quiet --unit=vm@plain --output=cat --lines=6

#
# A user's own
#

my_unit() {
        as alice systemctl --user show --property="$2" --value "vm@$1.service"
}
as alice mkdir --parents /home/alice/.config/vmctl
block mine 'network "none"' > /home/alice/.config/vmctl/mine.kdl
check "A user's manager" as alice systemctl --user daemon-reload
check_output /home/alice/.config/vmctl/mine.kdl "... has the user's files" my_unit mine SourcePath
check "... and starts VMs" as alice systemctl --user start vm@mine
check_output "active Running" "... as units" echo "$(my_unit mine ActiveState) $(my_unit mine StatusText)"
check_output "* running" "... of the user's instance" as alice vmctl --user list
check "The guest's console is in the journal" wait_for_line 60 "^GUEST READY" \
        journalctl --quiet _SYSTEMD_USER_UNIT=vm@mine.service VM_NAME=mine --output=cat --follow --lines=all
check "Stop" as alice systemctl --user stop vm@mine
check_output "*stopped*" "... shuts it down" as alice vmctl --user --json status mine
check "Enable" as alice vmctl --user enable mine
check_output enabled "... is for the user's manager" as alice systemctl --user is-enabled vm@mine
