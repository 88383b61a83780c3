#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Usage: test-vmctl-image.sh VMCTL TEST-SERVICE TESTS-FOLDER
#
# The verbs of images, as test-vmctl.sh does the others.

# What eval gets is expanded by it.
# shellcheck disable=SC2016

# shellcheck source=src/ctl/test-vmctl-lib.sh
. "$(dirname "$0")/test-vmctl-lib.sh" "$@"

export FAKE_BROKEN=lost
start_service web=running || exit
mkdir "$scratch/work"
cd "$scratch/work" || exit
base=https://example.com

#
# Looking
#

check_output "NAME * FORMAT  SIZE  VIRTUAL  ACCESS   VMS * USED  SOURCE
debian-12  qcow2   300M       2G  shared     1 * ago  $base/debian-12.qcow2
old        raw     300M       2G  private    0 * ago  -
lost       broken     -        -  -          - *   -  -" "list shows images, and what cannot be read" eval \
        'v image list 2> /dev/null'
check_output "vmctl: Broken image 'lost': /images/image.json: It is damaged
Hint: *vmctl image remove*" "... and tells why" v_errors 0 image list
check_output '\["image","lost","broken"]' "... in JSON, too" eval 'v --json image list |
        jq --compact-output ".[-1] | [.Kind, .Name, .State]"'
check_output $'debian-12\nold' "or their names" v image ls -q
check_output '\["debian-12","qcow2",true,2147483648,\["web"]]' "or JSON" eval \
        'v --json image list | jq --compact-output ".[0] | [.Name, .Format, .Shared, .VirtualSize, .Users]"'
check_output "*2 images, 600M.*" "with their number on a terminal" on_terminal image list
check_output "*● debian-12
*Format: qcow2
*Size: 1G virtual*
*VMs: web" "inspect shows an image" v image inspect debian-12
check_output '\["debian-12","qcow2",\["web"]]' "with the names of the bus in JSON" eval \
        'v --json image inspect debian-12 | jq --compact-output "[.Name, .Format, .Users]"'
check_calls "" "looking changes nothing"
echo disk > disk.img
check_output "*● ./disk.img
*Format: qcow2
*Size: 2G virtual, file 3M, on disk 1M
*Backing: /etc/passwd
*Refused: it has a backing file

SNAPSHOT  NAME    CREATED  VM STATE
1         before  -              0B" "inspect shows a file" v image inspect ./disk.img
check_output "*● disk.img*" "without a slash, too, where it is no image's name" v image inspect disk.img
check_calls $'InspectImage null, {}\nInspectImage null, {}' "which goes there as a descriptor"
check_output "*neither an image nor a file 'nosuch'*Hint: *image list*" "there may be neither" \
        v_errors 1 image inspect nosuch
check_output "*'./nosuch': Cannot open*" "a path is a file's" v_errors 1 image inspect ./nosuch

#
# Pulling
#

check_output "Connecting
Downloading (400M)
Verifying
Pulled image 'pulled' (qcow2, 1G, 1G on disk)." "pull tells its phases, a line for each" \
        v_errors 0 image pull $base/any.img
check_calls "PullImage \"$base/any.img\", {}" "and asks for no more than was said"
check_output $'*Connecting…\r\e\[KDownloading   25%  100M of 400M  10M/s  30s left\r\e\[KVerifying…\r\e\[KPulled image*' \
        "on a terminal it is one line" on_terminal image pull $base/any.img
check_output "" "--quiet is quiet" v_errors 0 image pull -q $base/any.img
check_output '\["pulled","/org/vmctl1/image/pulled","done"]' "JSON tells the image" eval \
        'v --json image pull '$base'/any.img 2>&1 | jq --compact-output "[.Name, .Object, .Result]"'
check_calls "*" ""
check_output "Pulled image 'pulled'*" "a job that ends before it is known is not missed" \
        v_errors 0 image pull $base/fast.img
check_output "*exclude each other*" "of two that exclude each other one is taken" v_errors 2 image pull $base/fast.img \
        --sha256 00 --checksums u
check_output "*exclude each other*" "of these, too" v_errors 2 image pull $base/fast.img --shared --private
check_calls "PullImage*" ""
check_output "*" "all options" v image pull -q $base/fast.img --name n --sha256 00 --refresh --format raw --private
check_calls "PullImage \"$base/fast.img\", {\"name\":\"n\",\"sha256\":\"00\",\"refresh\":true,\"format\":\"raw\",\
\"shared\":false}" "are the service's"
check_output "*Failed to pull '$base/bad.img': The digest is another one
Hint: *publisher*" "a job that fails tells why, with a hint" v_errors 1 image pull $base/bad.img -q
check_output '\["failed","org.vmctl1.Error.DigestMismatch","The digest is another one"]' "in JSON, too" eval \
        '(v --json image pull '$base'/bad.img 2> /dev/null || :) |
                jq --compact-output "[.Result, .ErrorName, .ErrorMessage]"'
check_output "*'nothing': It is no URL*Hint: A URL begins*" "so does a call" v_errors 1 image pull nothing
check_output "" "--no-wait does not wait" v_errors 0 image pull --no-wait $base/slow.img
check_output '"running" "/org/vmctl1/job/*' "and tells the job" eval \
        'v --json image pull --no-wait '$base'/slow.img | jq --raw-output "\"\(.Result|tojson) \(.Job|tojson)\""'
check_calls "*" ""

# interrupt COUNT SIGNAL: a pull that gets the signal once it is downloading; its messages and status
interrupt() {
        local output pid line status

        exec {output}< <(exec "$vmctl" --user image pull $base/slow.img 2>&1)
        pid=$!
        while read -r -t 10 -u "$output" line && [[ $line != Downloading* ]]; do :; done
        kill -s "$1" "$pid"
        cat <&"$output"
        exec {output}<&-
        wait "$pid"
        status=$?
        echo "status $status"
}
check_output "vmctl: Canceled
Hint: What has come is kept*
status 130" "Ctrl-C cancels, and says that what has come is kept" interrupt INT
check_calls "PullImage *
Cancel slow.img" "by the job's method"
check_output "*status 143" "so does SIGTERM" interrupt TERM
check_calls "*" ""

echo "a file" > "a b.img"
check_output "Connecting
Downloading (400M)
Verifying
Imported image 'a-b'*" "a file of the caller's is opened here" \
        v_errors 0 image pull "file://$PWD/a%20b.img"
check_calls 'ImportImage "a-b", null, {}
... a file' "and imported"
check_output "*" "where a digest is to be checked" v image pull -q "file://$PWD/a%20b.img" --sha256 00
check_calls "PullImage \"file://$PWD/a%20b.img\", {\"sha256\":\"00\"}" "that is the service's"

#
# Importing, exporting
#

check_output "*" "import" v image import -q "a b.img"
check_output "*" "with options" v image import -q disk.img --name x --format raw --shared
check_output "*" "from a pipe" with_input "from a pipe" image import -q - --name y
check_calls 'ImportImage "a-b", null, {}
... a file
ImportImage "x", null, {"format":"raw","shared":true}
... disk
ImportImage "y", null, {}
... from a pipe' "hands over descriptors"
check_output "*has no name*" "a pipe has no name" eval 'v_errors 2 image import - < disk.img'
check_output "*a folder*image build*" "a folder is none" v_errors 1 image import .
check_output "*'-': It is a terminal*" "nor is a terminal" eval 'on_terminal image import - --name x || [ $? = 1 ]'
check_output "*'nosuch': Cannot open it: No such file*" "nor nothing" v_errors 1 image import nosuch
check_output "*another host*" "another host has no descriptors" eval \
        '"$vmctl" -H elsewhere image inspect ./disk.img 2>&1 || [ $? = 1 ]'
check_output "*Hint: *image import - < FILE*" "but pipes" eval \
        '"$vmctl" -H elsewhere image import disk.img 2>&1 || [ $? = 1 ]'
check_calls "" "nothing of this reached the service"

check_output "Exported image 'debian-12' to 'out.raw.zst'." "export" v_errors 0 image export debian-12 out.raw.zst
check_output "the image" "makes a file" cat out.raw.zst
check_calls 'Export debian-12 null, {"format":"raw","compression":"zstd"}' "of what its ending says"
check_output "*'out.raw.zst' is there already*Hint: *--force*" "which it does not replace" \
        v_errors 1 image export debian-12 out.raw.zst
check_output "the image" "unless it shall" eval 'echo old > out.raw.zst; v image export debian-12 out.raw.zst --force -q \
        --format qcow2 --compress none && cat out.raw.zst'
check_calls 'Export debian-12 null, {"format":"qcow2","compression":"none"}' "and options count more than endings"
check_output "the image" "to standard output" v image export debian-12 -
check_calls 'Export debian-12 null, {}' "as it is"
check_output "*'old': The digest*" "what fails" v_errors 1 image export old failed.qcow2
check_output "a b.img
disk.img" "leaves nothing" eval 'rm out.raw.zst; ls -A'
check_output "*There is no image 'nosuch'*" "no image" v_errors 1 image export nosuch x.raw
check_output "*not a regular file*" "no device" v_errors 1 image export debian-12 /dev/null --force
check_output "*nothing for a terminal*" "nor a terminal" eval 'on_terminal image export debian-12 - || [ $? = 2 ]'
check_calls "Export old*" ""

#
# Changing
#

check_output "*Failed to remove image 'debian-12': The VM 'web' needs it
Hint: *
*no image 'nosuch'*
Hint: *image list*" "remove names what it cannot remove" v_errors 1 image rm debian-12 nosuch old
check_calls $'Remove debian-12\nRemove old' "and removes the others"
check_output "" "remove also removes what cannot be read" v image remove lost
check_calls "*RemoveBrokenRecord*image*lost*" "by the Manager's method"
check_output '\["old","done",null]\["nosuch","failed","org.vmctl1.Error.NoSuchImage"]' "JSON has a result for each" eval \
        '(v --json image remove old nosuch 2> /dev/null || :) |
                jq --join-output --compact-output ".[] | [.Name, .Result, .ErrorName]"'
check_output "" "share, unshare, rename" eval 'v image share old && v image unshare old && v image rename old new'
check_calls $'Remove old\nSetShared old true\nSetShared old false\nRename old "new"' "have their methods"
check_output "*no image 'nosuch'*" "what is not there has no other name" v_errors 1 image rename nosuch new
check_output old "prune names what it removed" v image prune
check_output old "prune takes times" v image prune --unused-for 2w --all
check_calls $'PruneImages 2592000000000, {}\nPruneImages 1209600000000, {"all":true}' "and has a default of 30 days"
check_output old "--dry-run tells what it would" v image prune --dry-run
check_calls 'PruneImages 2592000000000, {"dry-run":true}' "which the service knows"
check_output "*'lots' is no time*" "lots is no time" v_errors 2 image prune --unused-for lots

#
# VMs
#

check_output "" "create takes an image's name" v create v1 --image debian-12
check_calls 'CreateVM "v1", {"image-name":"debian-12"}' "which goes there as such"
check_output "" "a file of that name" v create v2 --image disk.img
check_calls 'CreateVM "v2", {"image":null}' "as a descriptor"
check_output "*neither a file nor an image 'nosuch'*" "it may be neither" v_errors 1 create imageless --image nosuch
check_calls "CreateVM*" ""
check_output '*Downloading (400M)*' "create takes a URL" v_errors 0 create v3 --image-url $base/any.img --sha256 00 \
        --vcpus 2 --refresh
check_calls "CreateVMFromURL \"v3\", \"$base/any.img\", {\"vcpus\":2}, {\"sha256\":\"00\",\"refresh\":true}" \
        "with options for the VM and for the download"
check_output '"/org/vmctl1/vm/v4"' "--image takes one, too" eval \
        'v create --json v4 --image '$base'/any.img 2>&1 | jq .Object'
check_calls 'CreateVMFromURL "v4", *, {}, {}' "likewise"
check_output "*VM 'v5': The digest*" "its failures are told" v_errors 1 create v5 --image-url $base/bad.img
check_output "*exclude each other*" "one image" v_errors 2 create v6 --image disk.img --image-url u
check_output "*are for '--image-url URL'*" "a file is not downloaded" v_errors 2 create v6 --image disk.img --refresh
check_calls "CreateVMFromURL*" ""

#
# The line itself
#

check_output "*image pull URL*" "--help of images" v image --help
check_output "*--checksums URL*" "and of each verb" v image pull --help
check_output "*--unused-for TIME*" "help, too" v help image prune
check_output "*no verb 'image nosuch'*" "of those that are there" v_errors 2 help image nosuch
check_output "*Unknown verb 'image lst'; did you mean 'image list'?*Hint: *vmctl image --help*" "a slip" \
        v_errors 2 image lst
check_output "*'image' needs a verb*Hint: *vmctl image --help*" "image alone" v_errors 2 image
check_output $'-T\n--\nserver\nvmctl --system image import --name=x -- -' "a pipe goes to another host" eval \
        'mkdir bin && printf "#!/bin/sh\nprintf \"%%s\\\n\" \"\$@\"\n" > bin/ssh; chmod +x bin/ssh
        PATH=$PWD/bin:$PATH "$vmctl" -H server image import - --name x < disk.img'

check_output "*vmctld ended meanwhile*" "a crash of the service is told" v_errors 1 image pull $base/crash.img -q
start_service || exit
