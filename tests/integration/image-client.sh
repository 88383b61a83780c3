#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 300
#
# vmctl's verbs of images with the service: what test-vmctl-image.sh can't see without it.

# Words for expect and eval are expanded there.
# shellcheck disable=SC2016

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

mkdir "$scratch/www" "$scratch/work"
cd "$scratch/work" || exit

# A server that notes what it is asked for. Of what is below /half/ it sends one half, and the other one once somebody
# opens the FIFO.
cat > "$scratch/server.py" << 'END'
import http.server, os, re, sys

www, log, gate = sys.argv[1:]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        with open(log, "a", encoding="utf-8") as f:
            f.write(f"{self.path} {wanted.group(0) if wanted else 'all'}\n")
        try:
            with open(os.path.join(www, os.path.basename(self.path)), "rb") as f:
                data = f.read()
        except FileNotFoundError:
            self.send_error(404)
            return
        begin = int(wanted.group(1)) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(data) - begin))
        self.send_header("ETag", '"one"')
        if wanted:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        half = len(data) // 2
        if self.path.startswith("/half/") and begin < half:
            self.wfile.write(data[begin:half])
            self.wfile.flush()
            with open(gate, "rb"):
                begin = half
        try:
            self.wfile.write(data[begin:])
        except OSError:
            pass  # it was canceled

    def log_message(self, *arguments):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
END

: > "$scratch/requests"
mkfifo "$scratch/gate"
exec {ready}< <(exec python3 "$scratch/server.py" "$scratch/www" "$scratch/requests" "$scratch/gate")
read -r -t 60 -u "$ready" port
url=http://127.0.0.1:$port

# 8 MiB that nothing makes smaller
image=$scratch/www/debian-12.qcow2
head --bytes=8M /dev/urandom > content.raw
qemu-img convert -f raw -O qcow2 content.raw "$image"
digest=$(sha256sum "$image" | cut -d " " -f 1)
echo "$digest  debian-12.qcow2" > "$scratch/www/SHA256SUMS"

requests() {
        cat "$scratch/requests"
        : > "$scratch/requests"
}

errors() {
        { "$@" > /dev/null; } 2>&1
}

# property NAME PROPERTY
property() {
        vmctl --json image inspect "$1" | jq --raw-output ".$2"
}

#
# pull
#

check_output "*Downloading*Pulled image 'debian-12' (qcow2, 8M, 8*M on disk)." "pull tells its phases, and the image" \
        errors vmctl image pull "$url/debian-12.qcow2" --checksums "$url/SHA256SUMS"
check_output "*/debian-12.qcow2 all*" "It was downloaded" requests
check_output "$digest" "... and is what was published" property debian-12 SHA256
check_output "Already here: image 'debian-12' (*" "It is downloaded once" \
        errors vmctl image pull "$url/debian-12.qcow2"
check_output "" "... without a request" requests
check_error "*Failed to pull '*/debian-12.qcow2': *$digest*Hint: *publisher*" "A wrong digest" \
        vmctl image pull --name other --sha256 "${digest//[0-9]/0}" "$url/other/debian-12.qcow2"
check_error "*'*/nosuch.img'*404*" "Nothing there" vmctl image pull "$url/nosuch.img"
check_output "failed org.vmctl1.Error.DownloadRefused" "... as JSON" eval \
        '(vmctl --json image pull '"$url"'/nosuch.img 2> /dev/null || :) | jq --raw-output "\"\(.Result) \(.ErrorName)\""'
check_error "*Hint: A URL begins with*" "No URL" vmctl image pull nosuch
requests > /dev/null

# On a terminal, where half of it has come: Ctrl-C
check_output $'*\r\e\\[KDownloading *50%  4*M of 8*M*Canceled*Hint: What has come is kept*status 130' \
        "Ctrl-C on a terminal cancels, and says what is kept" expect -c '
                set timeout 20
                set stty_init "columns 100"
                spawn vmctl image pull '"$url"'/half/debian-12.qcow2 --name resumed
                expect -re {\[=+>? *\]  +50%}
                send "\x03"
                expect eof
                puts "status [lindex [wait] 3]"'
check_output "No jobs" "The job is gone" eval \
        '[ "$(busctl --json=short call org.vmctl1 /org/vmctl1 org.vmctl1.Manager ListJobs | jq -c .data)" = "[[]]" ] &&
                echo No jobs'
check_output "debian-12" "No image has come" vmctl image list -q
: > "$scratch/requests"
check "The same again" vmctl image pull "$url/half/debian-12.qcow2" --name resumed -q
check_output "/half/debian-12.qcow2 bytes=*" "... asks for the rest" requests
check_output "$digest" "... which makes the image" property resumed SHA256
exec {ready}<&-

exec {events}< <(exec timeout 300 vmctl monitor)
read -r -t 60 -u "$events"
check "--no-wait returns at once" vmctl image pull "$url/debian-12.qcow2" --name later --no-wait
check_output "*image later job * began*image later new*image later job * done*" "monitor shows the end" \
        sed "/job .* done/q" <&"$events"
exec {events}<&-
check "The image is there" vmctl image rm later

#
# VMs
#

check_output "*Created VM 'b'*" "create takes a URL that was pulled" eval \
        'TERM=dumb script --quiet --return --command \
                "vmctl create b --image-url '"$url"'/debian-12.qcow2 --no-cloud-init" /dev/null < /dev/null'
check "create takes a name" vmctl create a --image debian-12 --no-cloud-init
check_output "a b" "inspect tells who needs it" eval \
        'vmctl --json image inspect debian-12 | jq --raw-output ".Users | join(\" \")"'
check_error "*Image 'debian-12' is needed by VM 'a'*Hint: *inspect*" "It is not removed" vmctl image rm debian-12
check_error "*neither a file nor an image 'nosuch'*Hint: *image list*" "No image, no VM" vmctl create c --image nosuch
check "The VMs go" vmctl destroy a b
check_output "debian-12 shared 0" "... and the image is free" eval 'vmctl image list | awk "/^debian-12/ { print \$1, \$5, \$6 }"'

#
# import, export
#

check "import takes a pipe" eval 'vmctl image import - --name piped --format raw -q < <(cat content.raw)'
check "export writes raw" vmctl image export piped piped.raw
check "... which is what came" cmp content.raw piped.raw
check "export compresses" eval 'vmctl image export debian-12 - --format raw --compress zstd > out.zst'
check "... what is the same disk" eval 'zstd -dcq out.zst | cmp - content.raw'
check_error "*'piped.raw' is there already*Hint: *--force*" "It replaces nothing" vmctl image export piped piped.raw
check "... unless it shall" vmctl image export piped piped.raw --force
check_output "content.raw out.zst piped.raw" "Nothing else is left" eval 'ls -A | xargs'
qemu-img create -q -f vmdk disk.vmdk 16M
check_output "*Format: vmdk*Size: 16M virtual*" "inspect reads a file" vmctl image inspect ./disk.vmdk
check "Other formats are taken" vmctl image import disk.vmdk -q
check_output "*Format: qcow2, was vmdk*" "... and become qcow2" vmctl image inspect disk
qemu-img create -q -f qcow2 -F raw -b /etc/passwd backed.qcow2 1M
check_output "*Backing: /etc/passwd*Refused: *" "inspect tells why a file would be refused" vmctl image inspect backed.qcow2
check_error "*Failed to import 'backed.qcow2': *Hint: *qemu-img convert*" "... and it is" vmctl image import backed.qcow2

mkfifo slow
exec {slow}<> slow
check_output "*Canceled*status 130*" "Ctrl-C on a terminal cancels an import" expect -c '
                set timeout 20
                spawn vmctl image import slow --name slow
                expect "Importing"
                send "\x03"
                expect eof
                puts "status [lindex [wait] 3]"'
exec {slow}>&-

#
# build
#

guest=$BUILD/guest
mkdir --parents rootfs/boot rootfs/etc
echo hello > rootfs/etc/text
cp "$guest/vmlinuz" rootfs/boot/vmlinuz-1.0
cp "$guest/initrd" rootfs/boot/initrd.img-1.0
check_output "vmctl create rootfs --image rootfs --kernel rootfs.vmlinuz --initrd rootfs.initrd --append 'root=UUID=*'" \
        "build prints how to make a VM of it" vmctl image build rootfs
check "Its kernel" cmp rootfs.vmlinuz "$guest/vmlinuz"
check "... and its RAM disk are beside it" cmp rootfs.initrd "$guest/initrd"
check "The image holds the files" eval 'vmctl image export rootfs - > rootfs.raw &&
        [ "$(/sbin/debugfs -R "cat /etc/text" rootfs.raw 2> /dev/null)" = hello ]'
check "The VM can be made, in spite of the folder" eval "$(vmctl image build rootfs --name again -q) --no-cloud-init"
check "... and destroyed" vmctl destroy again
check_error "*there is an image 'rootfs' already*" "A name that is taken is told first" vmctl image build rootfs
check_error "*'rootfs.vmlinuz' is there already" "... and so is a file" eval 'vmctl image rm rootfs && vmctl image build rootfs'
check "Neither is needed" eval 'rm rootfs/boot/* && tar --directory rootfs --create . |
        vmctl image build - --name piped-build --kernel rootfs.vmlinuz -q'
check_error "*'rootfs' has no kernel*Hint: *--kernel FILE*" "... but a kernel" \
        vmctl image build rootfs --name without
check_error "*too small*Hint: *--size*" "Too little room" vmctl image build rootfs --name small --size 1M --bootable \
        --kernel rootfs.vmlinuz
check "Images of all these go" vmctl image rm again piped-build
check_output "again.initrd again.vmlinuz rootfs.initrd rootfs.vmlinuz" "No other files are left" \
        eval 'ls -A | grep -E "vmlinuz|initrd" | xargs'

#
# Users
#

usermod --append --groups vmctl alice
check "A user imports" as alice vmctl image import - --name hers --format raw -q < content.raw
check_output "debian-12 disk hers piped resumed" "She sees hers and what is shared" \
        eval 'as alice vmctl image list -q | xargs'
check_output "debian-12 disk piped resumed" "Others do not see hers" eval 'as bob vmctl image list -q | xargs'
check_error "*Failed to rename image 'debian-12'*" "She cannot rename root's" \
        as alice vmctl image rename debian-12 mine --no-ask-password
check_error "*Failed to share image 'hers'*" "... nor have everybody use hers" as alice vmctl image share hers
check "Root can share hers" vmctl image share hers
check_output "*hers*shared  alice*" "... and others see whose it is" as bob vmctl image list
check "rename" as alice vmctl image rename hers ours
check "unshare" vmctl image unshare ours
check_output "false" "... makes it private" property ours Shared

#
# prune
#

check_output "" "Nothing was unused for long" vmctl image prune
all=$(vmctl image list -q | grep -v ours)
check_output "$all" "--dry-run tells what would go" eval 'vmctl image prune --unused-for 0 --dry-run | sort'
check "... and it stays" vmctl image inspect debian-12
check_output "$all" "prune tells what went" eval 'vmctl image prune --unused-for 0 | sort'
check_output "ours" "... which is gone, but for others' images" vmctl image list -q
check_output "ours" "--all" vmctl image prune --unused-for 0 --all
check_output "NAME *SOURCE" "No images" vmctl image list
