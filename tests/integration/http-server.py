#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A server of files for tests, whose faults are chosen by the first part of the path.

http-server.py FOLDER LOG GATE

Prints the port, which is one of the loopback's. LOG gets a line "PATH RANGE STATUS" for each request. GATE is the path
of a FIFO: while it is there, what waits for the gate waits until somebody opens it for writing.

    /plain/FILE     as it should be: ETag, Range with If-Range, If-None-Match
    /gate/FILE      the same, but waits for the gate in the middle of the file
    /ask/FILE       waits for the gate before it answers
    /drop/FILE      closes each connection after a third of the file
    /cut/FILE       sends a half as if it was the whole
    /loop/FILE      redirects to itself
    /slow/FILE      sixteen pieces, a fifth of a second apart"""

import hashlib
import http.server
import os
import re
import sys
import time

FOLDER, LOG, GATE = sys.argv[1:]


def wait_for_gate():
    try:
        with open(GATE, "rb"):
            pass
    except FileNotFoundError:
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def head(self, status, length, **headers):
        with open(LOG, "a", encoding="utf-8") as log:
            log.write("%s %s %d\n" % (self.path, self.headers.get("Range", "all"), status))
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()

    def send(self, data, begin, fault):
        third = len(data) // 3
        if fault == "gate" and begin < len(data) // 2:
            self.wfile.write(data[begin:len(data) // 2])
            wait_for_gate()
            begin = len(data) // 2
        if fault == "slow":
            for i in range(begin, len(data), len(data) // 16):
                self.wfile.write(data[i:i + len(data) // 16])
                time.sleep(0.2)
        else:
            self.wfile.write(data[begin:begin + third] if fault == "drop" else data[begin:])

    def do_GET(self):
        self.close_connection = True
        _, fault, name = self.path.split("/", 2)
        try:
            with open(os.path.join(FOLDER, os.path.basename(name)), "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return self.head(404, 0)
        if fault == "loop":
            return self.head(302, 0, Location=self.path)
        if fault == "ask":
            wait_for_gate()
        if fault == "cut":
            data = data[:len(data) // 2]
        etag = '"%s"' % hashlib.sha256(data).hexdigest()
        if self.headers.get("If-None-Match") == etag:
            return self.head(304, 0, ETag=etag)
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        begin = int(wanted.group(1)) if wanted and self.headers.get("If-Range") == etag else 0
        length = len(data) - begin
        try:
            if begin > 0:
                self.head(206, length, ETag=etag, Content_Range="bytes %d-%d/%d" % (begin, len(data) - 1, len(data)))
            else:
                self.head(200, length, ETag=etag)
            self.send(data, begin, fault)
        except OSError:
            pass  # the client is gone
        return None


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128


server = Server(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
