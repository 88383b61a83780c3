#!/bin/bash
# shellcheck source=tests/integration/lib.sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Images over https: the system's store of certificates decides whom to believe, and a proxy of the service's is used.
. "$(dirname "$0")/lib.sh"

cd "$scratch" || exit
mkdir www
truncate --size=8M www/disk.raw
mkfs.ext4 -q www/disk.raw

# certificate NAME SUBJECT [OPTION...]: a key and a certificate that our authority has signed.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=Test Authority" \
        -keyout ca.key -out ca.pem 2> /dev/null
certificate() {
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$2" -keyout "$1.key" -out "$1.csr" \
                2> /dev/null
        openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out "$1.pem" \
                -extfile <(echo "subjectAltName=DNS:$2") 2> /dev/null
}
certificate good localhost
certificate other other.example

cat > serve.py << 'EOP'
import functools, http.server, ssl, sys, threading, urllib.request

class Proxy(http.server.SimpleHTTPRequestHandler):
    """Knows all hosts, and answers for them."""
    def do_GET(self):
        print("PROXY", self.path, flush=True)
        self.path = "/disk.raw"
        super().do_GET()

def serve(handler, cert=None):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory="www"))
    if cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert + ".pem", cert + ".key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever).start()
    return server.server_address[1]

print(*[serve(http.server.SimpleHTTPRequestHandler, c) for c in ("good", "other")], serve(Proxy), flush=True)
EOP
exec {ports}< <(exec python3 serve.py 2> /dev/null)
server=$!
read -r good other proxy <&"$ports"

pull() {
        vmctl image pull "$@"
}
check_error "*certificate*" "An unknown authority is not believed" \
        pull "https://localhost:$good/disk.raw" --name unknown
cat ca.pem >> /etc/ssl/certs/ca-certificates.crt
check "One that the system knows is" pull "https://localhost:$good/disk.raw" --name known
check_output "*known*shared*" "... and the image is there" vmctl image list
check_error "*certificate*" "... but not for another name" pull "https://localhost:$other/disk.raw" --name other
check_error "*certificate*" "... nor for an address that it does not name" \
        pull "https://127.0.0.1:$good/disk.raw" --name address

mkdir -p /etc/systemd/system/vmctld.service.d
printf '[Service]\nEnvironment=http_proxy=http://127.0.0.1:%s\n' "$proxy" > \
        /etc/systemd/system/vmctld.service.d/proxy.conf
systemctl daemon-reload
systemctl restart vmctld
check "A proxy from the service's environment is asked" pull http://images.example/disk.raw --name proxied
read -r -t 60 what where <&"$ports"
check_output "PROXY http://images.example/disk.raw" "... for the whole URL" echo "$what" "$where"
kill "$server"
