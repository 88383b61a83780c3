#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 240
#
# The store of images over D-Bus: pull, import, export, names, users, VMs. image-faults.sh has what goes wrong.

# Words for eval are expanded there.
# shellcheck disable=SC2016

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"
# shellcheck source=tests/image.sh
. "$tests/image.sh"

serve
usermod --append --groups vmctl alice
usermod --append --groups vmctl bob
make_disk "$www/base.raw" 3M 8M
zstd -q "$www/base.raw" -o "$www/packed.raw.zst"
gzip --fast < "$www/base.raw" > "$www/zipped.img.gz"
digest=$(sha256sum < "$www/base.raw" | cut -d " " -f 1)
small=(memory t $((128 << 20)) display s none network s none accel s tcg cloud-init b false)

# create NAME [KEY TYPE VALUE...]: a VM by D-Bus that has no more than an image
create() {
        busctl --timeout=60 call org.vmctl1 /org/vmctl1 org.vmctl1.Manager CreateVM "sa{sv}" "$1" \
                $(((${#small[@]} + $# - 1) / 3)) "${small[@]}" "${@:2}"
}

#
# Pull
#

listen
check_output "done" "An image is pulled" eval 'follow one pull "$url/plain/base.raw" && ends one'
check_output "[[][[][[]\"base\",\"/org/vmctl1/image/base\",\"raw\",0,true,8388608,8388608,3*,*,*,\"$url/plain/base.raw\",*" \
        "It is in the list" call_manager ListImages
check_output "raw raw 8388608 8388608 $digest true 0" "... with its properties" eval \
        'for p in Format SourceFormat VirtualSize Size SHA256 Shared Owner; do image_prop base $p; done | xargs'
check_output "sha256:????????????????????????????????????????????????????????????????" "... a content digest" \
        image_prop base ContentDigest
check "... a time" [ "$(image_prop base Created)" -gt $(((EPOCHSECONDS - 60) * 1000000)) ]
check "... and the content" has_content base "$www/base.raw"
check "Holes are holes" [ "$(image_prop base Allocated)" -lt $((4 << 20)) ]
check_output "vmctld 444 1" "Nobody writes to it" stat --format "%U %a %h" "$(disk_of base)"
check "ImageNew tells it" heard '"member":"ImageNew",.*"data":\["base","/org/vmctl1/image/base"\]'
check "... and the object manager" heard '"member":"InterfacesAdded",.*"/org/vmctl1/image/base",.*"org.vmctl1.Image":\{.*"URL"'
check "JobNew names the image" heard '"member":"JobNew",.*,"/org/vmctl1/image/base"\]'
check "JobRemoved has the result" heard '"member":"JobRemoved",.*,"/org/vmctl1/image/base","done"\]'
check_output "connecting downloading verifying" "Its phases" eval \
        'grep -oE "^(connecting|downloading|verifying|importing|converting)" "$scratch/one" | sort -u | xargs'
check "zstd is unpacked" "$image_call" pull "$url/plain/packed.raw.zst"
check "... into the same" has_content packed "$www/base.raw"
check "gzip, too" "$image_call" pull "$url/plain/zipped.img.gz"
check "... into the same" has_content zipped "$www/base.raw"
check_output 3 "Identical content is there once" stat --format %h "$(disk_of packed)"
check "Progress moves" "$image_call" pull "$url/slow/base.raw" name=slow
progress=$("$image_call" pull "$url/slow/packed.raw.zst" name=slower)
check "... in bytes of the transfer" eval '[ "$(grep "^downloading" <<< "$progress" | sort -u | wc -l)" -gt 4 ]'
check "... of a total" grep --quiet "^downloading [1-9][0-9]* $(stat --format %s "$www/packed.raw.zst") [1-9]" <<< "$progress"

requests > /dev/null
check "Pulled again" "$image_call" pull "$url/plain/base.raw"
check_output "" "... nothing is asked for" requests
check "Refreshed" "$image_call" pull "$url/plain/base.raw" refresh?=yes
check_output "/plain/base.raw all 304" "... the server is asked" requests
check_output "base packed slow slower zipped" "... and nothing has changed" images
check_output "base packed slow slower zipped" "The digest is checked" eval \
        '"$image_call" pull "$url/plain/base.raw" "sha256=${digest^^}" > /dev/null && images'
check_error "failed org.vmctl1.Error.DigestMismatch: *$digest*" "A wrong digest, both are shown" \
        "$image_call" pull "$url/plain/base.raw" "sha256=${digest//[0-9]/0}" name=wrong
sha256sum "$www/packed.raw.zst" | sed 's#/.*/##' > "$www/SHA256SUMS"
check "A list of checksums" "$image_call" pull "$url/plain/packed.raw.zst" "checksums=$url/plain/SHA256SUMS" name=listed
sed -i 's/^[0-9a-f]*/0&/; s/^\(.\{64\}\)./\1/' "$www/SHA256SUMS"
check_error "failed org.vmctl1.Error.DigestMismatch: *" "... that has another one" \
        "$image_call" pull "$url/drop/packed.raw.zst" "checksums=$url/plain/SHA256SUMS" name=wrong
check_error "refused org.vmctl1.Error.InvalidURL: *" "No URL" "$image_call" pull nonsense
check_error "refused org.vmctl1.Error.UnknownOption: *" "No option" "$image_call" pull "$url/plain/base.raw" nonsense=1
check_error "refused org.vmctl1.Error.InvalidName: *" "No name" "$image_call" pull "$url/plain/base.raw" name=../x
check_error "refused org.vmctl1.Error.ImageExists: *" "A name that is taken" \
        "$image_call" pull "$url/plain/base.raw" name=packed
check "A file URL" eval 'chmod 0644 "$www"/* && "$image_call" pull "file://$www/base.raw" name=local'
check "... of what only root may read" eval 'chmod 0600 "$www/base.raw" &&
        ! "$image_call" pull "file://$www/base.raw" name=secret refresh?=yes; status=$?; chmod 0644 "$www/base.raw"; [ $status = 0 ]'
check "Images go" image_method listed Remove
check "... with a signal" heard '"member":"ImageRemoved",.*"data":\["listed"'
for name in slow slower local zipped; do image_method $name Remove > /dev/null; done
check "Nothing else is in the store" store_is_clean

#
# At once
#

close_gate
for i in {1..20}; do follow "same$i" pull "$url/gate/base.raw" name=same; done
check "20 who want the same" eval 'for i in {1..20}; do reaches same$i "^downloading [1-9]" || exit; done'
check_output "20" "... have a job each" eval 'call_manager ListJobs | jq ".[0] | length"'
open_gate
check_output "done" "... and all get it" eval 'ends same{1..20} | sort -u'
check_output "/gate/base.raw all 200" "... in one transfer" eval 'requests | grep gate'
check_output "base packed same" "... of one image" images
for i in {1..20}; do
        make_disk "$www/many$i.raw" 63K 64K
        follow "many$i" pull "$url/ask/many$i.raw"
done
check_output "done" "20 different ones at once" eval 'ends many{1..20} | sort -u'
check "... are what they should be" eval 'for i in {1..20}; do has_content many$i "$www/many$i.raw" || exit; done'
check_output 20 "prune would take them all" eval 'call_manager PruneImages "ta{sv}" 0 1 dry-run b true | jq ".[0] | map(select(startswith(\"many\"))) | length"'
for i in {1..20}; do image_method "many$i" Remove > /dev/null; done

#
# Newer content
#

# How a VM is known to have opened its disk: QEMU runs.
check "A VM of an image by name" create old image-name s base
check_output '*"image-name":{"type":"s","data":"base"}*' "... knows it" prop old Spec
check_output "base old" "... which knows the VM" eval 'call_manager ListImages | jq --raw-output ".[0][0] | \"\(.[0]) \(.[11].users.data | join(\" \"))\""'
check_error "*'base' is needed by VM 'old'*" "It is not removed" image_method base Remove
old_uuid=$(image_prop base UUID)
forget_signals
make_disk "$www/base.raw" 1M 8M
check "The image changes" "$image_call" pull "$url/plain/base.raw" refresh?=yes
check "... and the new one has the name" has_content base "$www/base.raw"
renamed=base-${old_uuid%%-*}
check_output "$old_uuid" "... the old one a name of its own" image_prop "$renamed" UUID
check_output "*\"$renamed\"*" "... that its VM says" prop old Spec
check "... as a signal does" heard "\"ImageNew\",.*\"$renamed\""
check "The VM starts from what it was made of" method old Start "a{sv}" 0
check_output running "... and runs" prop old State
check "A new VM" create new image-url s "$url/plain/base.raw"
check_output '*"image-name":{"type":"s","data":"base"}*' "... gets the new one" prop new Spec
check "It goes" vmctl destroy new
# shellcheck disable=SC2034
before=$(image_prop base UUID)
make_disk "$www/base.raw" 1M 8M
check "The image changes again" "$image_call" pull "$url/plain/base.raw" refresh?=yes
check "... and one that nobody uses is gone" eval '[ "$(image_prop base UUID)" != "$before" ] && settled && ! ls -d "$store/$before"'
check_output "base $renamed packed same" "... by all its names" images
check "Rename" image_method packed Rename s other-name
check "... tells it" heard '"ImageRemoved",.*"packed".*'
check_error "*There already is an image 'base'*" "... to a name that is taken" image_method other-name Rename s base
check "A VM's image may get another name" image_method "$renamed" Rename s older
check "... and it starts again" eval 'vmctl kill old && method old Start "a{sv}" 0'
check "... and goes" vmctl destroy old
check "Then the image may go" image_method older Remove

check_error "*A disk of 4 MiB cannot hold the image, which has 8 MiB*" "A disk that is smaller than the image" create tiny image-name s base disk t 4194304
check_error "*There is no image 'nosuch'*" "No image, no VM" create none image-name s nosuch
check_error "*exclude each other*" "Two images are too many" create both image-name s base image-url s "$url/plain/base.raw"
check "A VM in one go" eval 'follow vm create-from-url web "$url/plain/many1.raw" memory#=134217728 display=none network=none \
        accel=tcg cloud-init?=no start?=yes; ends vm; [ "$(ends vm)" = "done" ]'
check_output running "... runs" prop web State
check "... the job was the VM's" heard '"JobRemoved",.*,"/org/vmctl1/vm/web","done"\]'
check "It goes" vmctl destroy web

# Whoever waits for a start that is called off hears of it, once it has come to its end.
service=$(systemctl show --property MainPID --value vmctld)
hold_helper vmctl-shim
follow vm create-from-url web "$url/plain/many1.raw" memory#=134217728 display=none network=none accel=tcg \
        cloud-init?=no start?=yes
check "One that is called off while the VM starts" eval 'reaches vm "^starting" && cancel vm'
check_output "canceled org.vmctl1.Error.Canceled: *'web'*" "... ends" ends vm
release_helper vmctl-shim
check_output "$service" "... the service does not" systemctl show --property MainPID --value vmctld
check_output stopped "... and the VM is there" prop web State
check "... can be started" method web Start "a{sv}" 0
check "... and goes" vmctl destroy web
close_gate
follow vm create-from-url web "$url/gate/many2.raw" cloud-init?=no
check "One that is called off" eval 'reaches vm "^downloading [1-9]" && cancel vm'
check_output "canceled org.vmctl1.Error.Canceled: *'web'*" "... ends" ends vm
open_gate
check "... without a VM" is_gone web
check_output "base many1 other-name same" "... and an image" images
image_method many1 Remove > /dev/null

#
# Import, inspect, export
#

make_disk "$scratch/own.raw" 300K 2M
qemu-img convert -f raw -O qcow2 "$scratch/own.raw" "$scratch/own.qcow2"
qemu-img convert -f raw -O vmdk "$scratch/own.raw" "$scratch/own.vmdk"
qemu-img create -q -f qcow2 -F raw -b /etc/passwd "$scratch/backed.qcow2" 1M
check "A file is imported" "$image_call" import file "$scratch/own.raw" format=raw
check "... as it is" has_content file "$scratch/own.raw"
check "The file may become something else" cp "$scratch/backed.qcow2" "$scratch/own.raw"
qemu-img convert -f qcow2 -O raw "$scratch/own.qcow2" "$scratch/own.raw"
check "... the image does not" has_content file "$scratch/own.raw"
check "What comes out of a pipe" "$image_call" import pipe <(cat "$scratch/own.raw") format=raw
check_output 2 "... is stored once, with what was there" stat --format %h "$(disk_of pipe)"
zstd --quiet "$scratch/own.raw" "$scratch/own.vmdk"
check "What is compressed" "$image_call" import packed "$scratch/own.raw.zst" format=raw
check_output 3 "... is unpacked" stat --format %h "$(disk_of packed)"
check "... also from a pipe, and converted" "$image_call" import packed2 <(cat "$scratch/own.vmdk.zst")
check_output "qcow2 vmdk 2097152" "... as the file" eval 'for p in Format SourceFormat VirtualSize; do image_prop packed2 $p; done | xargs'
head -c 100 "$scratch/own.raw.zst" > "$scratch/broken.zst"
check_error "failed org.vmctl1.Error.InvalidImage: *" "... not if an end is missing" "$image_call" import broken "$scratch/broken.zst"
for name in packed packed2; do image_method $name Remove > /dev/null; done
check "A qcow2" "$image_call" import qcow "$scratch/own.qcow2"
check_output "qcow2 2097152" "... is told from its header" eval 'for p in Format VirtualSize; do image_prop qcow $p; done | xargs'
check "A vmdk" "$image_call" import vmdk "$scratch/own.vmdk"
check_output "qcow2 vmdk 2097152" "... is converted" eval 'for p in Format SourceFormat VirtualSize; do image_prop vmdk $p; done | xargs'
cp "$scratch/own.vmdk" "$www"
check_output "*converting*done" "... also a pulled one" "$image_call" pull "$url/plain/own.vmdk"
check "... into the very same" eval '[ "$(disk_of own)" -ef "$(disk_of vmdk)" ]'
image_method own Remove > /dev/null
check "... into the same disk" qemu-img compare -q -f qcow2 "$(disk_of vmdk)" -F raw "$scratch/own.raw"
check_error "failed org.vmctl1.Error.FormatRefused: *difference to another file, '/etc/passwd'*" "A qcow2 on top of another file is refused" \
        "$image_call" import backed "$scratch/backed.qcow2"
check_error "failed org.vmctl1.Error.InvalidImage: *given as vdi, but is none" "... also under another format" eval \
        '"$image_call" import backed "$scratch/backed.qcow2" format=vdi'
check_error "failed org.vmctl1.Error.*" "A folder is no image" "$image_call" import folder "$scratch"
check_error "failed org.vmctl1.Error.*" "Nor is nothing" "$image_call" import nothing /dev/null
check_error "refused org.vmctl1.Error.ImageExists: *" "A name that is taken" "$image_call" import file "$scratch/own.raw"
check_output '*"format"*"qcow2"*"backing-file"*"/etc/passwd"*"refused"*' "inspect tells what a file is" \
        "$image_call" inspect "$scratch/backed.qcow2"
check "Nothing is left of these" store_is_clean 1

check "Export" "$image_call" export qcow "$scratch/copy.qcow2"
check "... makes the same" qemu-img compare -q "$scratch/copy.qcow2" -F raw "$scratch/own.raw"
check "... as raw" "$image_call" export qcow "$scratch/copy.raw" format=raw
check "... the same" cmp "$scratch/copy.raw" "$scratch/own.raw"
check "... compressed" "$image_call" export qcow "$scratch/copy.zst" format=raw compression=zstd
check "... the same" eval 'zstd -dcq "$scratch/copy.zst" | cmp - "$scratch/own.raw"'
check "... into a pipe" eval 'mkfifo "$scratch/fifo" && { "$image_call" export qcow "$scratch/fifo" format=raw compression=zstd &
        timeout 60 zstd -dcq < "$scratch/fifo" | cmp - "$scratch/own.raw"; } && wait $!'
check "... and back" "$image_call" import again "$scratch/copy.qcow2"
check_error "refused org.vmctl1.Error.InvalidSpec: *" "Not as just anything" "$image_call" export qcow "$scratch/x" format=vmdk
check_error "failed org.vmctl1.Error.*" "Not where there is no room" "$image_call" export qcow /dev/full format=raw

# As much as fits into the pipe is read; the rest waits, and so does the job.
mkfifo "$scratch/feed"
exec {feed}<> "$scratch/feed"
for i in {1..8}; do follow "import$i" import "held$i" "$scratch/feed" format=raw; done
check "While imports run" eval 'for i in {1..8}; do reaches import$i ^importing || exit; done'
check "... the list is there at once" promptly call_manager ListImages
check_output 8 "... each has its worker" eval 'workers | wc -l'
check_output 8 "... of its own user" eval 'workers | xargs ps -o uid= -p | sort -u | grep -cv "^ *0$"'
check_error "refused org.vmctl1.Error.ImageExists: *" "... and the name is taken" "$image_call" import held1 "$scratch/own.raw"
for i in {1..8}; do cancel "import$i" > /dev/null; done
check_output "canceled org.vmctl1.Error.Canceled: *" "They are called off" eval 'ends import{1..8} | sort -u'
exec {feed}>&-
check "... and nothing is left" eval 'store_is_clean 1 && [ "$(images)" = "again base file other-name pipe qcow same vmdk" ]'

#
# Users
#

# called_by USER OBJECT INTERFACE.METHOD [ARGUMENT...]
called_by() {
        as "$1" gdbus call --system --dest org.vmctl1 --object-path "/org/vmctl1$2" --method "org.${3}" "${@:4}"
}
names_of() {
        called_by "$1" "" vmctl1.Manager.ListImages | grep -oE "'/org/vmctl1/image/[^']*'" | sed "s#.*/\(.*\)'#\1#" | xargs
}
password="*org.freedesktop.DBus.Error.InteractiveAuthorizationRequired*"

requests > /dev/null
close_gate
follow hers as alice pull "$url/gate/many3.raw"
follow his as bob pull "$url/gate/many3.raw"
check "Two users want the same" eval 'reaches hers "^downloading [1-9]" && reaches his "^downloading [1-9]"'
open_gate
check_output "done done" "... and get it" eval 'ends hers his | xargs'
check_output "/gate/many3.raw all 200" "... in one transfer" requests
hers=$(names_of alice | tr " " "\n" | grep many3) his=$(names_of bob | tr " " "\n" | grep many3)
hers=${hers//_2d/-} his=${his//_2d/-}
check_output "many3 many3-2" "... as two images" eval 'printf "%s\n" "$hers" "$his" | sort | xargs'
check_output "1 2" "... with one content" eval 'stat --format "%i %h" "$(disk_of "$hers")" "$(disk_of "$his")" | sort -u |
        { read -r _ links; read -r && exit; echo 1 "$links"; }'
check_output "$(id --user alice) false" "Hers is hers" eval '{ image_prop "$hers" Owner; image_prop "$hers" Shared; } | xargs'
check_output "* many3 many3-2 *" "root sees both" images
hears() {
        timeout 60 grep --quiet --extended-regexp "$1" < <(exec timeout 60 tail --follow --lines=+1 "$scratch/heard")
}
: > "$scratch/heard" # there before the listener runs
as bob bash -c 'exec timeout 300 vmctl monitor' > "$scratch/heard" 2>&1 &
check "He listens" hears "service running"
check "She has one of her own" as alice "$image_call" import secret "$scratch/own.qcow2"
check "... from a URL" as alice "$image_call" pull "$url/plain/many4.raw" name=quiet
secret=/image/secret

check_output "again base file other_2dname pipe qcow same vmdk" "He does not see it" eval 'names_of bob | sed "s/ many3[^ ]*//"'
check_error "*org.vmctl1.Error.NoSuchImage: There is no image 'secret'*" "... by name" called_by bob "" vmctl1.Manager.GetImage secret
not_told() {
        local said

        said=$("$@" 2>&1)
        [[ $said != *secret* && $said != *quiet* && $said = *many3* ]] || { echo "$said"; return 1; }
}
check "... as an object" not_told called_by bob "" freedesktop.DBus.ObjectManager.GetManagedObjects
check "... by introspection" not_told called_by bob /image freedesktop.DBus.Introspectable.Introspect
check_error "*" "... its properties" called_by bob $secret freedesktop.DBus.Properties.GetAll org.vmctl1.Image
for call in "Rename x" Remove "SetShared true"; do
        # shellcheck disable=SC2086
        check_error "$password" "He may not ${call%% *} it" called_by bob $secret vmctl1.Image.${call}
done
check_error "refused $password" "... nor Export it" as bob "$image_call" export secret "$scratch/../stolen"
check_error "*org.vmctl1.Error.NoSuchImage*" "... nor make a VM of it" \
        called_by bob "" vmctl1.Manager.CreateVM mine "{'image-name': <'secret'>}"
check_error "*org.vmctl1.Error.NoSuchImage*" "... by its URL" \
        called_by bob "" vmctl1.Manager.CreateVM mine "{'image-url': <'$url/plain/many4.raw'>}"
check_output "([[]'many3*'[]],)" "... nor prune it" called_by bob "" vmctl1.Manager.PruneImages 0 "{'dry-run': <true>}"
check_error "$password" "... nor all that is unused" called_by bob "" vmctl1.Manager.PruneImages 0 "{'all': <true>}"
check_error "*There is no image 'secret'*" "root makes no VM of hers by its name, either" create stolen image-name s secret
check_error "*No image of the store*" "... or its URL" create stolen image-url s "$url/plain/many4.raw"
check "Pulled by him" as bob "$image_call" pull "$url/plain/many4.raw" name=again-by-bob
check_output "*plain/many4.raw all 200*" "... it is asked for again" requests
check "He hears of his own pull" hears "job [0-9]+ done"
check_output 1 "... and not of hers" grep --count "job [0-9]* done" "$scratch/heard"

install --owner=bob /dev/null "$scratch/his.raw"
check "He copies what is root's and shared, and hears the end" as_active bob "$image_call" export base "$scratch/his.raw"
check "... which is all of it" cmp "$(disk_of base)" "$scratch/his.raw"
check "What is shared both use" called_by bob "" vmctl1.Manager.CreateVM of-shared "{'image-name': <'base'>, 'cloud-init': <false>}"
check_error "$password" "... but not remove" called_by bob /image/base vmctl1.Image.Remove
check_error "$password" "... nor rename" called_by bob /image/base vmctl1.Image.Rename x
check_output "*'base'*[[]'of-shared'[]]*" "He sees who needs it" called_by bob "" vmctl1.Manager.ListImages
check_status 1 "... she does not" eval 'called_by alice "" vmctl1.Manager.ListImages | grep of-shared'
check_error "*'base' is needed by VM 'of-shared'*" "root hears why it stays" image_method base Remove
check "It goes" vmctl destroy of-shared
check_error "refused $password" "She may not make one for all" as alice "$image_call" import forall "$scratch/own.qcow2" shared?=yes
check_error "refused $password" "... by pulling, either" as alice "$image_call" pull "$url/plain/many5.raw" shared?=yes
check_error "$password" "... nor share hers" called_by alice $secret vmctl1.Image.SetShared true
check "She removes her own" called_by alice $secret vmctl1.Image.Remove
check "root shares hers" image_method quiet SetShared b true
check_output "*quiet*" "... then he sees it" names_of bob

#
# Prune
#

day=$((24 * 3600 * 1000000))
for name in again qcow; do touch --date="40 days ago" "$store/$(image_prop $name UUID)"; done
check "A new start reads when they were used last" systemctl restart vmctld
check_output '[[][[]"again","qcow"[]][]]' "prune takes what was unused for so long" eval \
        'call_manager PruneImages "ta{sv}" $((30 * day)) 1 dry-run b true | jq --compact-output ".[0] |= sort"'
check "A VM keeps what it needs" create keeps image-name s qcow
check_output '[[][[]"again"[]][]]' "... and uses it now" call_manager PruneImages "ta{sv}" $((30 * day)) 0
check_status 1 "It is gone" eval 'images | grep again$'
check_output "*many3 many3-2*quiet*" "What is others' stays" eval 'call_manager PruneImages "ta{sv}" 0 0 > /dev/null && images | sed "s/again-by-bob//"'
check_output "*qcow*" "... and what is in use" images
vmctl destroy keeps > /dev/null
check "All of it goes" call_manager PruneImages "ta{sv}" 0 1 all b true
check_output "" "... all" images
check "Nothing is left" eval 'store_is_clean 1 && [ "$(ls -A $store)" = .partial ]'
check_status 1 "... and no worker" workers
check_output 0 "The service was never restarted by need" systemctl show --property=NRestarts --value vmctld
