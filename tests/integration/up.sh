#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# up, down and reload of a project: what is missing is made, what is stopped started, what can change changes at once,
# and the rest is told.
# timeout: 600

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

project=$scratch/project
mkdir "$project" "$scratch/other"
cd "$project" || exit

# vm NAME [SETTINGS]: a VM in the VMFile
vm() {
        cat << END
vm "$1" {
    kernel "$guest/vmlinuz"
    initrd "$guest/initrd"
    append "console=ttyS0 quiet no_timer_check"
    memory 128
    display "none"
    network "none"
    accel "tcg"
    ${2-}
}
END
}

# value_of NAME KEY: of the definition that the service has
value_of() {
        prop "$1" Spec | jq -rc ".\"$2\".data"
}

# plan [ARGUMENT...]: the actions of all VMs in one line
plan() {
        vmctl --json up --plan "$@" | jq -rc 'map("\(.Name): \(.Actions | join(" "))") | join(", ")'
}

both() {
        { vm web 'depends-on "db"'; vm db "${1-}"; } > VMFile.kdl
}

both
check_output "web: create start, db: create start" "a plan tells what is missing" plan
check_output "web:*create from *vmlinuz*start*db:*" "for people, too" vmctl up --plan
check "and makes nothing" is_gone web
check "up makes and starts all" vmctl up
check "both run" eval 'state web running && state db running'
check "the one that depends on the other was made after it" \
        test "$(prop db StartedAt)" -lt "$(prop web CreatedAt)"
check_output "$project/VMFile.kdl" "a VM knows where it comes from" value_of web origin
pid=$(prop web PID)
check "up again" vmctl up
check_output "$pid" "leaves alone what runs" prop web PID
check_output "web: , db: " "which is what the plan says" plan

#
# Changes
#

both "limits { cpu-quota \"80%\"; }
vcpus 2
machine \"microvm\""
check_output "*db:*set cpu-quota*vcpus: 1 → 2 needs a restart*machine: nothing → microvm needs a new VM*" \
        "a plan tells what a change takes" vmctl up --plan
check_output "0" "and changes nothing" value_of db cpu-quota
check_output "*needs a restart*" "up says what it leaves as it is" eval 'vmctl up 2>&1'
check_output "80" "and sets what can be set at once" value_of db cpu-quota
check_output "$pid" "without a restart" prop web PID
check_output "1" "the rest stays" value_of db vcpus
both "vcpus 2"
check "a guest gets its time to boot" eval 'booted web && booted db'
check "down stops all" vmctl down --timeout 30
check "both are stopped" eval 'state web stopped && state db stopped'
check_output "guest-shutdown" "by their power buttons" prop web ShutdownReason
check "the one that needs the other went first" test "$(prop web StateChangedAt)" -lt "$(prop db StateChangedAt)"
check_output "*down already*" "down again does nothing" eval 'vmctl down 2>&1'
check_output "web: start, db: update start" "what is stopped is updated and started" plan
check "up does it" vmctl up
check_output "2" "with what the file says now" value_of db vcpus
check_output "0" "and without what it does not say any more" value_of db cpu-quota

#
# Names
#

check_output "db: " "a plan for one" plan --name db
check "down of one" vmctl down --name web --timeout 1
check "leaves the other" state db running
check_status 2 "a VM that isn't in the file is bad usage" vmctl up --name wbe
check_error "*did you mean 'web'?*" "with a hint" vmctl up wbe
check "names may stand without the option" vmctl up web db
check "and be repeated" vmctl up --name web --name db

#
# Another project
#

cd "$scratch/other" || exit
{ vm fresh; vm web; } > VMFile.kdl
check_error "*VM 'web' comes from '$project/VMFile.kdl', not from '$scratch/other/VMFile.kdl'*" \
        "two projects with one name collide, and are both told" vmctl up
check "and nothing of that is made" is_gone fresh
check_error "*comes from*" "nor does down touch what is another's" vmctl down
check_error "*comes from*" "nor down --destroy" vmctl down --destroy
check_error "*comes from*" "nor reload" vmctl reload
check "it runs on" state web running
define plain > /dev/null
vm plain > VMFile.kdl
check_error "*VM 'plain'*created by command*" "a VM of none is left alone, too" vmctl up
check "it goes" vmctl destroy plain

mkdir "$scratch/moved"
cd "$scratch/moved" || exit
mv "$project/VMFile.kdl" .
check "a project that was moved finds its VMs" vmctl down --timeout 1
check "and takes them along" vmctl up
check_output "$scratch/moved/VMFile.kdl" "once they are stopped" value_of web origin

#
# reload and destroy
#

uuid=$(prop db UUID)
check_output "db:*destroy*create from*start" "the plan of a reload" vmctl reload --plan --name db
check "reload makes a VM anew" vmctl reload --name db
check "it is another one" test "$(prop db UUID)" != "$uuid"
check "that runs" state db running
uuid=$(prop db UUID)
sed -i "s#$guest/initrd#/nowhere#" VMFile.kdl
check_error "*initrd '/nowhere' cannot be read*" "a file that cannot be had is found" vmctl reload
check_output "$uuid" "before anything is destroyed" prop db UUID
sed -i "s#/nowhere#$guest/initrd#" VMFile.kdl
cp VMFile.kdl before.kdl
sed "s#kernel.*#image-url \"http://127.0.0.1:1/no.img\"#; /initrd/d; /append/d" before.kdl > VMFile.kdl
check_error "*image*" "an image that cannot be pulled" vmctl reload
check_output "$uuid" "leaves the old VM, too" prop db UUID
cp before.kdl VMFile.kdl
check_output '\["db","done","destroy"]\["web","done","destroy"]' "down --destroy removes all, and tells it in JSON" eval \
        'vmctl --json down --destroy | jq -c "sort_by(.Name)[] | [.Name, .Result, .Actions[]]" | tr -d "\n"'
check "nothing is left" eval 'is_gone web && is_gone db'
check_output "*not there*" "which is fine with down" eval 'vmctl down --destroy 2>&1'

#
# Failures
#

{ vm bad 'cpu "nosuchcpu"'; vm child 'depends-on "bad"'; vm good; } > VMFile.kdl
check_error "*'bad'*child: left alone*" "what depends on one that failed is left alone" vmctl up
check "and not made" is_gone child
check "the others are" state good running
check "up goes on when it is mended" eval 'sed -i s/nosuchcpu/max/ VMFile.kdl && vmctl up'
check "with all" eval 'state bad running && state child running'
check "destroy them" vmctl down --destroy

# A creation that waits: interrupted, and gone on with.
hold_helper vmctl-prepare
vm web > VMFile.kdl
exec {output}< <(exec vmctl up 2>&1)
pid=$!
check "up is at it" wait_until 60 state web preparing
kill -INT $pid
echo > /run/vmctl-prepare.gate # lets it go on
check_output "web: Creating*Canceled*'vmctl up' goes on from here*" "Ctrl-C lets end what cannot be canceled, and begins nothing new" \
        cat <&"$output"
wait $pid
check_output 130 "with the status for that" echo $?
release_helper vmctl-prepare
check_output "web: start" "the next up goes on from there" plan
check "and does it" vmctl up
check "to the end" state web running

{ for i in 1 2 3 4 5; do vm "many$i"; done; } > VMFile.kdl
check "five VMs come up side by side" vmctl up
check_output 5 "all of them" eval 'vmctl list --state running --quiet | grep -c many'
check "and go" within_ms 45000 vmctl down --timeout 10
check "for good" vmctl down --destroy
