#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The steps of a VMFile in a real Debian guest, in one boot: commands, scripts, files and folders, one that fails, what
# has changed, more files than one message carries, the log, an interruption.
# timeout: 2700
# What the guest's shell is to expand stands in single quotes.
# shellcheck disable=SC2016

build=$(realpath "${BUILD:-$(dirname "$0")/../../build/bookworm}")
image=$build/image/debian-12.qcow2
[ -d /run/vmctl-host ] || "$(dirname "$0")/../root" --bind "$build" -- "$(dirname "$0")/../image/build" \
        "$build/image" "$build/src/build/vmctl-build" || exit

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

mkdir "$scratch/project"
cd "$scratch/project" || exit

# vm STEPS: the VMFile
vm() {
        cat > VMFile.kdl << END
vm "web" {
    image "$image"
    vcpus 2
    memory 1024
    forward 18080 8080
    disk "data" "64M"
    cloud-init { hostname "web"; }
    ssh { }
    $1
}
END
}

shell() {
        echo "provision \"shell\" { inline #\"$1\"#${2:+; $2} }"
}

in_guest() {
        vmctl ssh web --timeout 600 -- "$@"
}

mkdir -p tree/sub
echo "app = 1" > app.conf
echo one > tree/one
echo two > tree/sub/two
chmod 700 tree/sub/two
ln -s one tree/link
printf '#!/bin/bash\necho "script $0 has bash $BASH_VERSION"; echo "says $GREETING"; echo to stderr >&2\n' > setup.sh
chmod 600 setup.sh

script='provision "shell" { script "setup.sh"; env GREETING="hello  you $HOME"; }'
file='provision "file" { source "app.conf"; destination "/etc/app/app.conf"; mode "0640"; }'
folder='provision "file" { source "tree"; destination "/srv/tree"; }'
first=$(shell 'echo first as $(id -un); echo x >> /tmp/first')

vm "$first
$script
$file
$folder
$(shell 'echo "$A/$B"; cat; printf end' 'env A="1 2" B=""')"
check_output "*provision: 5 of 5 steps*" "a plan counts the steps" vmctl up --plan
check_output "*first as vm*script /tmp/*has bash 5*says hello  you *HOME*to stderr*1 2/*end*step 5 ended*" \
        "up boots, waits, and shows what the steps print" vmctl up --timeout 1200
check_output '5' "they are remembered" eval 'prop web ProvisionedSteps | jq length'
check_output "app = 1" "a file is where only root can write" in_guest sudo cat /etc/app/app.conf
check_output "640 root" "with its mode" in_guest sudo stat --format="'%a %U'" /etc/app/app.conf
check_output "one two one 700" "a folder is there with all in it" \
        in_guest 'cd /srv/tree && echo $(sudo cat one sub/two link) $(stat --format=%a sub/two)'
check_output "" "the scripts are gone" in_guest 'ls /tmp | grep vmctl || true'
check_output "67108864" "a further disk is there" in_guest 'cat /sys/block/$(basename $(readlink /dev/disk/by-id/virtio-data))/size |
        while read -r n; do echo $((n * 512)); done'
in_guest 'nohup python3 -m http.server --directory /srv/tree 8080 > /dev/null 2>&1 &'
check_output "one" "a port leads there" curl --silent --retry 20 --retry-all-errors http://127.0.0.1:18080/one

check_output "*up already*" "up leaves alone what runs" eval 'vmctl up 2>&1'
check_output "*up already*" "with nothing that has changed" eval 'vmctl up --provision changed 2>&1'
touch tree/one app.conf
check_output "*all steps have run*" "times do not count" eval 'vmctl provision --changed 2>&1'
echo three > tree/three
check_output "*1 step has changed: 'vmctl provision --changed' runs it*" "a change is told" eval 'vmctl up 2>&1'
check_output "*step 1 of 1: directory*" "and runs alone" vmctl up --provision changed
check_output "three" "to good effect" in_guest cat /srv/tree/three
check_output "1" "what has not changed has not run again" in_guest 'wc -l < /tmp/first'
check "provision runs all again" vmctl provision
check_output "2" "the first, too" in_guest 'wc -l < /tmp/first'

#
# Failures
#

failing=$(shell 'echo about to fail; printf last; exit 7')
vm "$first
$failing
$(shell 'touch /tmp/behind')"
check_error "*Step 2 of 3 (shell 'echo about to fail*failed: its command ended with status 7, after the output
  about to fail
  last
Hint:*" \
        "a step that fails is told, with its status and output" vmctl provision
check_status 1 "no step runs behind it" in_guest test -e /tmp/behind
check_output '\["failed","ProvisionFailed"]' "in JSON, too" eval '{ vmctl --json provision || true; } |
        jq -c "[.[0].Result, (.[0].ErrorName | split(\".\") | last)]"'
vm "$first
$(shell 'echo mended')
$(shell 'touch /tmp/behind')"
check_output "*step 1 of 2: shell echo mended*step 2 of 2*" "up goes on where it stopped" vmctl up
check "to the end" in_guest test -e /tmp/behind
check_output "4" "what had run before was not run again" in_guest 'wc -l < /tmp/first'

# The log
check_output "--- *step 1 of 5: shell echo first*step 2 failed with status 7*mended*" "the log has all of it" \
        vmctl log web --provision
check_output "--- *step 2 ended after*" "and its last lines" vmctl log web --provision --tail 1

#
# An interruption; somebody else looks on
#

vm "$first
$(shell 'echo "waits now"; exec sleep 1000')"
exec {onlooker}< <(exec timeout 300 vmctl log web --provision --follow --tail 1)
exec {output}< <(exec vmctl provision 2>&1)
pid=$!
check "a log can be followed" timeout 300 grep --quiet --max-count=1 "^waits now" <&"$onlooker"
kill -INT $pid
check_output "*Canceled*goes on from here*" "Ctrl-C cancels" cat <&"$output"
wait $pid
check_output 130 "with the status for that" echo $?
check_status 1 "nothing runs on in the guest" in_guest pgrep --exact sleep
printf '#!/bin/sh\nprintf "\\033[31mred\\033]0;title\\007\\n"\nhead -c 100000 /dev/zero | tr "\\0" x\n' > long.sh
vm 'provision "shell" { script "long.sh" }'
check_output "*red*title*xxx*" "a long line and control characters pass, where there is no terminal" vmctl provision

#
# More files than a message of the bus carries
#

steps=
for i in $(seq 40); do
        echo "$i" > "file$i"
        steps+="provision \"file\" { source \"file$i\"; destination \"/tmp/many/$i\"; }
"
done
vm "$steps"
check "40 files" vmctl provision
check_output "40" "are all there" in_guest 'cat /tmp/many/* | sort -n | tail -1'
check_output "40" "and remembered" eval 'prop web ProvisionedSteps | jq length'
echo changed > file33
check_output "*step 1 of 1: file /tmp/many/33*" "one that changes goes alone" vmctl up --provision changed

check_error "*VM 'web' does not run*" "what is down is not provisioned" eval 'vmctl down --timeout 120 2> /dev/null; vmctl provision'
check "all goes" vmctl down --destroy
check "without a trace" is_gone web
