#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 240
#
# The store of images when something goes wrong: servers that lie, jobs that are called off, workers and the service
# killed in each phase, a full disk, and what an earlier service left.

# Words for eval are expanded there.
# shellcheck disable=SC2016

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"
# shellcheck source=tests/image.sh
. "$tests/image.sh"

serve
make_disk "$www/base.raw" 4M 8M
make_disk "$www/other.raw" 4M 8M
zstd -q "$www/base.raw" -o "$www/base.raw.zst"
qemu-img convert -f raw -O qcow2 "$www/base.raw" "$scratch/base.qcow2"
mkfifo "$scratch/feed"
listen

#
# Servers
#

check_error "failed org.vmctl1.Error.DownloadRefused: *404*" "Nothing there" "$image_call" pull "$url/plain/nosuch.raw"
check_error "failed org.vmctl1.Error.DownloadRefused: *redirect*" "A redirect to itself" "$image_call" pull "$url/loop/base.raw"
check_error "failed org.vmctl1.Error.InvalidImage: *" "A frame that ends in the middle" "$image_call" pull "$url/cut/base.raw.zst"
check_output "" "None of these is an image" images
check "... or leaves anything" store_is_clean
requests > /dev/null
check "A server that hangs up after each third" "$image_call" pull "$url/drop/base.raw"
check_output "/drop/base.raw all 200 /drop/base.raw bytes=* 206 /drop/base.raw bytes=* 206*" "... is asked for the rest" eval \
        'requests | xargs'
check "... which makes the image" has_content base "$www/base.raw"
image_method base Remove > /dev/null

#
# Called off, and killed
#

# resumes PATH: what was pulled of it is not pulled again.
resumes() {
        requests > /dev/null
        "$image_call" pull "$url$1" && requests > "$scratch/asked" && grep "^$1 bytes=[1-9][0-9]*- 206$" "$scratch/asked" &&
                [ "$(wc -l < "$scratch/asked")" -eq 1 ]
}

# begin PHASE: a job that stays in that phase until proceed PHASE, as $scratch/job
begin() {
        case $1 in
        connecting)
                close_gate
                follow job pull "$url/ask/base.raw"
                reaches job "^connecting"
                ;;
        downloading)
                close_gate
                follow job pull "$url/gate/base.raw"
                reaches job "^downloading [1-9]"
                ;;
        checking) # what was downloaded
                hold_helper vmctl-image
                follow job pull "$url/plain/base.raw"
                # Somebody can open it as soon as the worker has come to it.
                reaches job "^verifying" && exec {held}> /run/vmctl-image.gate
                ;;
        importing)
                exec {feed}<> "$scratch/feed"
                follow job import base "$scratch/feed" format=raw
                head --bytes=4K "$www/base.raw" >&"$feed"
                reaches job "^importing"
                ;;
        esac
}

proceed() {
        case $1 in
        connecting | downloading) open_gate ;;
        checking)
                release_helper vmctl-image
                exec {held}>&-
                ;;
        importing) exec {feed}>&- ;;
        esac
        return 0
}

# goes_on PHASE: the same again works.
goes_on() {
        local path=/ask/base.raw

        case $1 in
        downloading) resumes /gate/base.raw || return ;;
        importing) "$image_call" import base "$www/base.raw" || return ;;
        *)
                [ "$1" = connecting ] || path=/plain/base.raw
                "$image_call" pull "$url$path" || return
                ;;
        esac
        has_content base "$www/base.raw" && image_method base Remove
}

# kept_of PHASE: how many downloads wait for the rest then. (A service that is killed does not see that nothing has come.)
kept_of() {
        [[ $1 != downloading && $1 != checking ]] || { echo 1; return; }
        echo 0
}

kill_worker() {
        workers | xargs kill -9
}

for phase in connecting downloading checking importing; do
        check "$phase is to be called off" begin $phase
        check "... is" cancel job
        check_output "canceled org.vmctl1.Error.Canceled: *" "... ends so" ends job
        check_output "" "... without an image" images
        check_status 1 "... and a worker" eval 'settled; workers'
        proceed $phase
        check "... and anything half done" store_is_clean "$(kept_of $phase)"
        check "... the next one goes on" goes_on $phase

        check "The worker is to be killed: $phase" begin $phase
        check "... is" kill_worker
        check_output "failed org.vmctl1.Error.Failed: vmctl-* was killed" "... the job says so" ends job
        check_output "" "... there is no image" images
        proceed $phase
        check "... nor anything half done" store_is_clean "$(kept_of $phase)"
        check "... the next one goes on" goes_on $phase

        check "The service is to be killed: $phase" begin $phase
        worker=$(workers)
        check "... is" crash_service
        check_output "lost *" "... the client hears of it" ends job
        check "... the worker has died with it" timeout 60 tail --pid="$worker" --sleep-interval=0.1 -f /dev/null
        check_output "[[][[][]][]]" "... there is no job" call_manager ListJobs
        check_output "" "... and no image" images
        proceed $phase
        check "... nor anything half done" store_is_clean "$(kept_of ${phase/connecting/downloading})"
        check "... the next one goes on" goes_on $phase
done
check "Nothing is left of all this" store_is_clean

#
# A new start
#

check "An image" "$image_call" import one "$scratch/base.qcow2"
check "... and another one, of a URL" "$image_call" pull "$url/plain/base.raw" name=two
check "... that a VM uses" eval 'vmctl create user --image two --no-cloud-init --memory 128M --display none --network none --accel tcg'
touch --date=@1700000000 "$store/$(image_prop one UUID)"
everything() {
        call_manager ListImages | jq --compact-output '.[0] | map(select(.[0] == "two"))' &&
                for p in UUID SHA256 ContentDigest SourceFormat; do image_prop two $p; done
}
everything > "$scratch/before"
uuid=$(image_prop one UUID)
systemctl stop vmctld
mkdir -p $store/.new-00000000-0000-4000-8000-000000000000 $store/.old-x $store/.partial/{new,old} $store/"${uuid%?}x" \
        $store/00000000-0000-4000-8000-000000000000
touch $store/.new-00000000-0000-4000-8000-000000000000/copy $store/.partial/{new,old}/image
echo x > $store/.partial/new/state
touch --date="8 days ago" $store/.partial/old
chown --recursive vmctld: $store
systemctl start vmctld
check_output "one two" "A new start finds the images" images
check "... as they were" eval 'everything | diff - "$scratch/before"'
check_output 1700000000000000 "... and when they were used last" image_prop one LastUsed
check_output "*two*user*" "... and by whom" call_manager ListImages
check "What was half done is gone, and what nobody went on with for a week" store_is_clean 1
check_output "new" "... but nothing newer" ls $store/.partial
check_output "*Ignoring image*00000000-0000-4000-8000-000000000000*" "A folder without a record is told of" \
        journalctl --unit vmctld --no-pager
echo nonsense > "$store/$uuid/image.json"
check "A broken record" systemctl restart vmctld
check_output "two" "... is no image" images
check "... but listed" eval 'grep "broken" <(vmctl image list 2> /dev/null)'
check "... with the reason" eval "grep 'Broken image .*: $store/$uuid/image.json: .' <(vmctl image list 2>&1)"
check "... but not removed" test -e "$store/$uuid/disk"
check "A VM starts still" method user Start "a{sv}" 0
check "... and goes" vmctl destroy user
image_method two Remove > /dev/null
settled
rm -r $store/0* $store/.partial/new "$store/${uuid%?}x" "${store:?}/$uuid"

#
# A full disk
#

systemctl stop vmctld
mount -t tmpfs -o size=7M,mode=0700 tmpfs $store
systemctl start vmctld
free() {
        df --output=avail $store | tail -n 1
}
empty=$(free)
make_disk "$www/large.raw" 10M 10M
zstd -q "$www/large.raw" -o "$www/large.raw.zst"
check_error "failed org.vmctl1.Error.NoSpace: *" "A download that does not fit" "$image_call" pull "$url/plain/large.raw"
check "... leaves nothing" store_is_clean
check_error "failed org.vmctl1.Error.NoSpace: *" "... nor one that is unpacked" "$image_call" pull "$url/plain/large.raw.zst"
check "... leaves nothing" store_is_clean
check_error "failed org.vmctl1.Error.NoSpace: *" "Nor an import" "$image_call" import large "$www/large.raw"
check "... leaves nothing" store_is_clean
check_error "failed org.vmctl1.Error.NoSpace: *" "... of a pipe" "$image_call" import large <(cat "$www/large.raw")
check "... leaves nothing" store_is_clean
check_output "" "None is an image" images
check_output "$empty" "All room is free again" free
check "What fits is taken" "$image_call" pull "$url/plain/base.raw"
image_method base Remove > /dev/null
check_output "$empty" "... and gives the room back" eval 'settled && rm -rf $store/.partial/* && free'
systemctl stop vmctld
umount $store
systemctl start vmctld

check_status 1 "In the end there is no worker" workers
check_output 1 "... and no process but the service" eval 'settled && systemctl show --property TasksCurrent --value vmctld'
check_output 0 "... nor anybody else's" eval 'ps -eo uid= | awk "\$1 >= 1879048192" | wc -l'
