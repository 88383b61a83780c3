#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 600
#
# The console and its log: a guest that prints without end, several readers, one who types and one who does not read,
# with the service and without it.

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

readonly max=$((128 * 1024)) lines=8192
last=$(printf '%012d' $((lines - 1)))
log=/var/lib/vmctl/vms/c/console.log

# shows FILE REGEX: waits until a line of the file that grows matches.
shows() {
        wait_for_line 90 "$2" tail --lines=+1 --follow=name --retry "$1"
}

log_is_bounded() {
        local size

        size=$(stat --format %s "$log" "$log.1" | awk '{ sum += $1 } END { print sum }')
        echo "$size bytes"
        [ "$size" -le $max ] && [ "$size" -ge $((max / 4)) ]
}

# is_in_order FILE: each line of spam has a higher number than the one before it, and there are many.
is_in_order() {
        grep -E '^[0-9]{12} ' "$1" | sort --check --unique --key=1,1 && [ "$(grep -c -E '^[0-9]{12} ' "$1")" -gt 100 ]
}

define c --console-log-max 128K --start
define other --start

check "A guest is up" booted c
for i in 1 2 3; do
        vmctl log c --follow > "$scratch/follower-$i" &
        followers[i]=$!
done
# Those who never read
exec {deaf_log}< <(exec vmctl log c --follow)
exec {deaf_console}< <(exec vmctl console c)

#
# A flood, and its end
#

check "The readers see what was there before" shows "$scratch/follower-3" "GUEST READY"
vmctl console c --timeout 300 < /dev/null > "$scratch/typist" &
typist=$!
check "A guest prints much" tell c "spam $((lines * 64))" "^0000000000[0-9]{2} "
check "Somebody can type meanwhile" tell c "echo typed in between" "^typed in between"
for i in 1 2 3; do
        check "Reader $i sees the end" shows "$scratch/follower-$i" "^$last "
        check "... and nothing out of order" is_in_order "$scratch/follower-$i"
        check "... and what was typed" grep "^typed in between" "$scratch/follower-$i"
done
check "So does the one at the console" shows "$scratch/typist" "^$last "
check "The log has kept to its bound" log_is_bounded
vmctl log c > "$scratch/kept"
check "... and has the end" grep "^$last " "$scratch/kept"
check "... of which nothing is out of order" is_in_order "$scratch/kept"
check "Its last lines alone" tell c "echo the end" "^the end"
check_output $'the end\nok echo' "... are what --tail shows" eval "vmctl log c --tail 2 | tr -d '\\r'"
check_output 7 "... and as many" eval "vmctl log c --tail 7 | wc --lines"

#
# A flood without end
#

check "A guest prints without end" tell c "spam forever" "^000000002000 "
check "The log keeps to its bound" log_is_bounded
check "The other VM's guest answers" eval 'booted other && tell other "echo hello" "^hello"'
check "The service answers at once" promptly vmctl status c
check "Typing works" tell c "echo still typing" "^still typing"
check "The VM can be suspended" vmctl suspend c
check "... and resumed" vmctl resume c
check "What prints is ended" tell c stop "ok stop"
check "The log still keeps to its bound" log_is_bounded

#
# Without the service
#

check "A guest is to print later" tell c 'sh (sleep 1; echo; echo said alone) > /dev/ttyS0 2>&1 &' "^ok sh"
check "The service is stopped" systemctl stop vmctld
check "The log goes on" shows $log "^said alone"
check "... and so do readers" shows "$scratch/follower-1" "^said alone"
check "... and the console" shows "$scratch/typist" "^said alone"
check_output "*said alone*" "The service, come back, shows it" vmctl log c --tail 20
check "... and a console" tell c "echo back again" "^back again"

#
# The end
#

check "The guest shuts down" vmctl stop c
for i in 1 2 3; do
        check "Reader $i is told the end" wait "${followers[i]}"
        check "... and has seen the last words" grep "Power down" "$scratch/follower-$i"
done
check "So is the one at the console" wait $typist
exec {deaf_log}<&- {deaf_console}<&-

vmctl log c > "$scratch/stopped"
check "The log of a stopped VM is there" grep "Power down" "$scratch/stopped"
check "... with what was before" grep "back again" "$scratch/stopped"
check_output $'GUEST POWERDOWN\n*Power down' "... from its end" eval "vmctl log c --tail 2 | tr -d '\\r'"
check "... and ends also for who follows" cmp "$scratch/stopped" <(timeout 60 vmctl log c --follow)
log_is_the_same() {
        systemctl restart vmctld && vmctl log c | cmp - "$scratch/stopped"
}
check "It outlives the service" log_is_the_same
check "The next run goes on with it" eval "vmctl start c && booted c 1 && vmctl log c | grep 'Power down'"
check "... within the same bound" log_is_bounded
