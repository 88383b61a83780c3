#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""vmctl-pull as a whole, against servers that break off, lie, stall and change their mind.

test-pull.py PROGRAM [unittest's options]. As root also what takes another uid and mounts."""

import bz2
import gzip
import hashlib
import http.server
import json
import lzma
import os
import random
import re
import shutil
import signal
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import unittest
from urllib.parse import urlsplit

PROGRAM = None
UID = 61234  # nobody's
ROOT = os.geteuid() == 0
TIMEOUT = 60  # generous: sanitizers, a busy machine
ERROR = "org.vmctl1.Error."
OLD = "Mon, 02 Jan 2023 03:04:05 GMT"
MIB = 1 << 20


def zstd(data, *options):
    return subprocess.run(["zstd", "-q", "-c", *options], input=data, stdout=subprocess.PIPE, check=True).stdout


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def content_digest(data):
    """fs-verity's, as the kernel's documentation describes it."""
    level = [data[i:i + 4096] for i in range(0, len(data), 4096)]
    root = bytes(32)
    while level:
        hashes = [hashlib.sha256(block.ljust(4096, b"\0")).digest() for block in level]
        root = hashes[0]
        joined = b"".join(hashes)
        level = [joined[i:i + 4096] for i in range(0, len(joined), 4096)] if len(hashes) > 1 else []
    descriptor = struct.pack("<BBBBIQ64s", 1, 1, 12, 0, 0, len(data), root).ljust(256, b"\0")
    return "sha256:" + sha256(descriptor)


def make_image(size=3 * MIB, seed=1):
    """Data, holes, and an end inside a block."""
    rng = random.Random(seed)
    parts = [rng.randbytes(100000), bytes(300000), b"x" * 5000, bytes(size // 4), rng.randbytes(size)]
    return b"".join(parts)[:size]


IMAGE = make_image()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        with self.server.lock:
            self.server.requests.append((self.path, dict(self.headers)))
        self.close_connection = True
        try:
            self.server.routes[self.path.split("?")[0]](self)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def head(self, status, length=None, **headers):
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Connection", "close")
        self.end_headers()


def plain(body, **headers):
    return lambda h: (h.head(200, len(body), **headers), h.wfile.write(body))


def status(code, **headers):
    return lambda h: h.head(code, 0, **headers)


def sequence(*routes):
    """One after another; the last one from then on."""
    left = list(routes)
    return lambda h: (left.pop(0) if len(left) > 1 else left[0])(h)


def ranged(body, limit=None, etag='"v1"', **headers):
    """A server as it should be, but it ends a connection after `limit` bytes."""
    def route(h):
        extra = dict(headers)
        if etag:
            extra["ETag"] = etag
        start, code = 0, 200
        wanted = h.headers.get("Range")
        validator = h.headers.get("If-Range")
        if wanted and validator in (etag, headers.get("Last_Modified")):
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted).group(1))
            if start >= len(body):
                return h.head(416, 0, Content_Range="bytes */%d" % len(body))
            code = 206
            extra["Content_Range"] = "bytes %d-%d/%d" % (start, len(body) - 1, len(body))
        part = body[start:]
        h.head(code, len(part), **extra)
        h.wfile.write(part if limit is None else part[:limit])
    return route


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="test-pull-")
        os.chmod(self.folder, 0o755)
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.lock = threading.Lock()
        self.server.requests = []
        self.server.routes = {}
        self.requests = self.server.requests
        self.base = "http://127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.open_files(self.folder)

    def open_files(self, folder):
        self.fds = {}
        for name in ("output", "received", "state"):
            fd = os.open(os.path.join(folder, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self.addCleanup(os.close, fd)
            self.fds[name] = fd

    def serve(self, path, route):
        self.server.routes[path.split("?")[0]] = route
        return self.base + path

    def path(self, name):
        return os.path.join(self.folder, name)

    def read(self, name):
        return os.pread(self.fds[name], os.fstat(self.fds[name]).st_size + 1, 0)

    def fill(self, name, data):
        os.ftruncate(self.fds[name], 0)
        os.pwrite(self.fds[name], data, 0)

    def size(self, name):
        return os.fstat(self.fds[name]).st_size

    def argv(self, files=("output", "received", "state")):
        argv = [PROGRAM]
        if ROOT:
            argv += ["--uid", str(UID), "--gid", str(UID)]
        for name in files:
            argv += ["--" + name, str(self.fds[name])]
        return argv

    def environment(self):
        env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        env["ASAN_OPTIONS"] = "detect_leaks=0"  # it cannot look at a process that changed its uid
        return env

    def request(self, url, **request):
        request = {k.replace("_", "-"): v for k, v in request.items()}
        return json.dumps({"url": url, "max-size": 64 * MIB, "retry-delay": 1, **request}).encode()

    def run_pull(self, url, files=("output", "received", "state"), wrapper=(), env={}, **request):
        done = subprocess.run([*wrapper, *self.argv(files)], input=self.request(url, **request),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT,
                              pass_fds=list(self.fds.values()), env={**self.environment(), **env})
        self.assertEqual(done.stderr, b"")
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        self.progress, reply = lines[:-1], lines[-1]
        for line in self.progress:
            self.assertEqual(set(line), {"phase", "done", "total", "speed"})
        self.assertEqual(done.returncode, 1 if "error" in reply else 0)
        return reply

    def expect(self, url, image=IMAGE, **kwargs):
        reply = self.run_pull(url, **kwargs)
        self.assertEqual(set(reply), {"result"}, reply)
        result = reply["result"]
        self.assertEqual(result["size"], len(image))
        self.assertEqual(sha256(self.read("output")), sha256(image))
        self.assertEqual(result["content-digest"], content_digest(image))
        return result

    def expect_error(self, name, words, url, **kwargs):
        reply = self.run_pull(url, **kwargs)
        self.assertEqual(set(reply), {"error", "message"}, reply)
        self.assertEqual(reply["error"], ERROR + name, reply)
        for word in [words] if isinstance(words, str) else words:
            self.assertIn(word, reply["message"])
        return reply["message"]

    def clear(self):
        for fd in self.fds.values():
            os.ftruncate(fd, 0)

    def nothing_is_left(self):
        for name in self.fds:
            self.assertEqual(self.size(name), 0, name)


class Plain(Case):
    def test_uncompressed(self):
        url = self.serve("/a/disk.img", plain(IMAGE, ETag='"e"', Last_Modified=OLD))
        result = self.expect(url)
        self.assertEqual(result, {
            "sha256": sha256(IMAGE), "content-digest": content_digest(IMAGE), "size": len(IMAGE),
            "received": len(IMAGE), "compression": "none", "etag": '"e"', "last-modified": OLD, "url": url})
        self.assertEqual(self.size("received"), 0)
        self.assertEqual([line["phase"] for line in self.progress if line["done"] in (0, len(IMAGE))][:2],
                         ["connecting", "downloading"])
        self.assertEqual(self.progress[-1]["phase"], "verifying")
        self.assertEqual(self.progress[-1]["total"], len(IMAGE))
        headers = self.requests[0][1]
        self.assertEqual(headers["Accept-Encoding"], "identity")
        for name in ("Cookie", "Authorization", "Range", "If-None-Match"):
            self.assertNotIn(name, headers)

    def test_output_alone(self):
        body = zstd(IMAGE)
        self.expect(self.serve("/x", plain(body)), files=["output"])

    def test_holes(self):
        image = b"begin" + bytes(40 * MIB) + b"end"
        self.expect(self.serve("/x", plain(zstd(image))), image)
        self.assertLess(os.fstat(self.fds["output"]).st_blocks * 512, MIB)

    def test_zeros_at_the_end(self):
        image = b"x" * 4096 + bytes(5 * MIB + 7)
        self.expect(self.serve("/x", plain(image)), image)
        self.expect(self.serve("/y", plain(zstd(image))), image)
        self.expect(self.serve("/z", plain(zstd(bytes(MIB)))), bytes(MIB))

    def test_sizes(self):
        for size in (1, 511, 512, 513, 4095, 4096, 4097, 262144, 262145):
            image = random.Random(size).randbytes(size)
            self.expect(self.serve("/x", plain(image)), image)
            self.expect(self.serve("/y", plain(gzip.compress(image))), image)

    def test_empty(self):
        self.expect_error("InvalidImage", "empty", self.serve("/x", plain(b"")))
        self.expect_error("InvalidImage", "empty", self.serve("/x", plain(gzip.compress(b""))))
        self.nothing_is_left()

    def test_chunked(self):
        def route(h):
            h.head(200, Transfer_Encoding="chunked")
            for i in range(0, len(IMAGE), 100000):
                part = IMAGE[i:i + 100000]
                h.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            h.wfile.write(b"0\r\n\r\n")
        self.expect(self.serve("/x", route))

    def test_chunked_cut_off(self):
        def route(h):
            h.head(200, Transfer_Encoding="chunked")
            h.wfile.write(b"%x\r\n%s\r\n" % (1000, IMAGE[:1000]))
        self.expect_error("DownloadFailed", "attempts", self.serve("/x", route))

    def test_file(self):
        path = self.path("disk #1.img")
        with open(path, "wb") as f:
            f.write(zstd(IMAGE))
        os.chmod(path, 0o644)
        url = "file://" + path.replace(" ", "%20").replace("#", "%23")
        if not ROOT:
            return
        result = self.expect(url)
        self.assertEqual(result["compression"], "zstd")
        reply = self.run_pull(url, refresh={"etag": result["etag"], "url": url})
        self.assertEqual(reply, {"result": {"not-modified": True}})
        with open(self.path("SHA256SUMS"), "w") as f:
            f.write("%s  disk #1.img\n" % sha256(zstd(IMAGE)))
        self.expect(url, checksums="file://" + self.path("SHA256SUMS"))
        os.chmod(path, 0o600)
        self.expect_error("DownloadRefused", "Permission denied", url)

    def test_files_of_other_kinds(self):
        if not ROOT:
            return
        os.mkfifo(self.path("fifo"), 0o644)
        self.expect_error("DownloadRefused", "not a regular file", "file://" + self.path("fifo"))
        self.expect_error("DownloadRefused", "not a regular file", "file:///dev/zero")
        self.expect_error("DownloadRefused", "not a regular file", "file:///etc")
        self.expect_error("DownloadRefused", "No such file", "file:///nowhere")
        self.expect_error("DownloadRefused", "Too many levels", "file:///proc/self/fd/%d" % self.fds["state"])
        self.expect_error("InvalidImage", "empty", "file:///proc/version")

    @unittest.skipUnless(ROOT, "takes root")
    def test_file_as_root(self):
        self.argv = lambda files: [PROGRAM] + [x for n in files for x in ("--" + n, str(self.fds[n]))]
        self.assertIn("root's rights", self.run_pull("file:///etc/shadow")["message"])


class Requests(Case):
    def test_urls(self):
        for url in ("ftp://host/x", "gopher://x", "nonsense", "", "http://", "HTTPS//x", "http://a b/", "data:,x",
                    "file://remote/etc/passwd", "http://user:secret@[::1/x", "file:///a%00b", "http://x/" + "a" * 9000,
                    "scp://x/y", "http://x/\nHost: y"):
            self.assertNotIn("secret", self.expect_error("InvalidURL", "URL", url))

    def test_keys(self):
        self.expect_error("UnknownOption", "'speed'", "http://x/", speed=1)
        self.expect_error("InvalidSpec", "max-size", "http://x/", max_size=0)
        self.expect_error("InvalidSpec", "64 hexadecimal", "http://x/", sha256="12")
        self.expect_error("InvalidSpec", "'url'", None)
        self.expect_error("InvalidURL", "URL", "http://x/", checksums="ftp://x/")

    def test_arguments(self):
        for argv in ([], ["--output"], ["--output", "0"], ["--output", "x"], ["--uid", "1"], ["--what", "3"]):
            done = subprocess.run([PROGRAM, *argv], input=b"{}", stdout=subprocess.PIPE, timeout=TIMEOUT)
            self.assertEqual(done.returncode, 1)
            self.assertEqual(json.loads(done.stdout)["error"], ERROR + "Failed")


class Compressed(Case):
    def compressed(self):
        return {"zstd": zstd(IMAGE), "gzip": gzip.compress(IMAGE, 1), "xz": lzma.compress(IMAGE, preset=0),
                "bzip2": bz2.compress(IMAGE)}

    def test_kinds(self):
        for kind, body in self.compressed().items():
            url = self.serve("/" + kind, plain(body))
            result = self.expect(url)
            self.assertEqual(result["compression"], kind)
            self.assertEqual(result["sha256"], sha256(body))
            self.assertEqual(result["received"], len(body))
            self.assertEqual(self.read("received"), body)
            self.clear()

    def test_several_frames(self):
        half = len(IMAGE) // 2
        skippable = struct.pack("<II", 0x184D2A53, 5) + b"skip!"
        frames = {
            "zstd": skippable + zstd(IMAGE[:half]) + zstd(b"") + skippable + zstd(IMAGE[half:]) + skippable,
            "gzip": gzip.compress(IMAGE[:half], 1) + gzip.compress(b"") + gzip.compress(IMAGE[half:], 1),
            "xz": lzma.compress(IMAGE[:half]) + bytes(8) + lzma.compress(IMAGE[half:]) + bytes(4),
            "bzip2": bz2.compress(IMAGE[:half]) + bz2.compress(IMAGE[half:]),
        }
        for kind, body in frames.items():
            self.assertEqual(self.expect(self.serve("/" + kind, plain(body)))["compression"], kind)

    def test_long_window(self):
        data = random.Random(5).randbytes(MIB)
        image = data + bytes(200 * MIB) + data
        body = zstd(image, "--long=30", "-1")
        self.expect(self.serve("/x", plain(body)), image, max_size=1 << 30)
        frame = b"\x28\xb5\x2f\xfd\x00" + bytes([(31 - 10) << 3]) + b"\x01\0\0"
        self.expect_error("InvalidImage", ["1 GiB", "zstd"], self.serve("/y", plain(frame)))

    def test_cut_off(self):
        for kind, body in self.compressed().items():
            for keep in (len(body) - 1, len(body) // 2, 600):
                self.expect_error("InvalidImage", [kind, "cut off"], self.serve("/x", plain(body[:keep])))
                self.nothing_is_left()

    def test_cut_off_in_second_frame(self):
        for kind, body in self.compressed().items():
            self.expect_error("InvalidImage", [kind, "cut off"], self.serve("/x", plain(body + body[:700])))

    def test_garbage_behind(self):
        for kind, body in self.compressed().items():
            for garbage in (b"g", b"garbage", b"\0", body[:2], bytes(4096)):
                if kind == "xz" and garbage == bytes(4096):
                    continue  # padding
                self.expect_error("InvalidImage", [kind, "follows behind"], self.serve("/x", plain(body + garbage)))
                self.nothing_is_left()

    def test_damaged(self):
        for kind, body in self.compressed().items():
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 0x55]) + body[middle + 1:]
            self.expect_error("InvalidImage", "no usable image", self.serve("/x", plain(body)))
            self.nothing_is_left()

    def test_bombs(self):
        image = bytes(80 * MIB)
        for body in (zstd(image), gzip.compress(image, 1), lzma.compress(image, preset=0), bz2.compress(image)):
            self.expect_error("ImageTooLarge", "larger than", self.serve("/x", plain(body)))
            self.nothing_is_left()

    def test_too_large_as_received(self):
        self.expect_error("ImageTooLarge", "1000000 bytes", self.serve("/x", plain(IMAGE)), max_size=1000000)
        self.nothing_is_left()
        result = self.expect(self.serve("/x", plain(IMAGE)), max_size=len(IMAGE))
        self.assertEqual(result["size"], len(IMAGE))

    def test_endless_empty_frames(self):
        skip = struct.pack("<II", 0x184D2A50, 1 << 16) + bytes(1 << 16)

        def route(h):
            h.head(200)
            while True:
                h.wfile.write(skip)
        self.expect_error("ImageTooLarge", "larger than", self.serve("/x", route), max_size=8 * MIB)
        self.nothing_is_left()

    def test_archives(self):
        tar = bytes(257) + b"ustar\x0000" + bytes(2000)
        for body, words in ((b"PK\x03\x04" + bytes(2000), "zip"), (tar, "tar"), (gzip.compress(tar), "tar"),
                            (zstd(tar), "tar"), (gzip.compress(gzip.compress(IMAGE)), "twice"),
                            (zstd(lzma.compress(IMAGE)), "twice"), (b"7z\xbc\xaf\x27\x1c" + bytes(600), "7z")):
            self.expect_error("InvalidImage", words, self.serve("/x", plain(body)))


class Broken(Case):
    """Transfers that break off."""

    def ranges(self):
        return [h.get("Range") for _, h in self.requests]

    def test_resume(self):
        for body, kept in ((zstd(IMAGE), "received"), (IMAGE, "output")):
            self.requests.clear()
            self.expect(self.serve("/x", ranged(body, 300000)), sha256=sha256(body))
            self.assertGreater(len(self.requests), 2)
            self.assertEqual(self.ranges(), [None] + ["bytes=%d-" % i for i in range(300000, len(body), 300000)])
            self.assertEqual({h.get("If-Range") for _, h in self.requests[1:]}, {'"v1"'})
            self.assertEqual({h.get("Accept-Encoding") for _, h in self.requests}, {"identity"})
            self.clear()

    def test_resume_by_date(self):
        self.expect(self.serve("/x", ranged(IMAGE, 2000000, None, Last_Modified=OLD)))
        self.assertEqual([h.get("If-Range") for _, h in self.requests], [None, OLD])

    def test_no_validator(self):
        now = "Fri, 01 Jan 2100 00:00:00 GMT"
        for headers in ({}, {"ETag": 'W/"weak"', "Last_Modified": OLD}, {"Last_Modified": now}):
            self.requests.clear()
            half = lambda h: (h.head(200, len(IMAGE), **headers), h.wfile.write(IMAGE[:1000000]))
            self.expect(self.serve("/x", sequence(half, plain(IMAGE, **headers))))
            self.assertEqual(self.ranges(), [None, None])

    def test_ranges_ignored(self):
        whole = plain(IMAGE, ETag='"v1"')
        self.expect(self.serve("/x", sequence(ranged(IMAGE, 1000000), whole)))
        self.assertEqual(self.ranges(), [None, "bytes=1000000-"])

    def test_changed_meanwhile(self):
        other = make_image(seed=2)
        for a, b in ((IMAGE, other), (zstd(IMAGE), zstd(other)), (zstd(IMAGE), other), (IMAGE, zstd(other))):
            self.expect(self.serve("/x", sequence(ranged(a, 500000), ranged(b, None, '"v2"'))), other)
            self.clear()

    def test_changes_always(self):
        versions = [ranged(make_image(seed=i), 500000, '"v%d"' % i) for i in range(20)]
        self.expect_error("DownloadFailed", ["6 attempts", "/x"], self.serve("/x", sequence(*versions)))

    def wrong_range(self, **headers):
        def route(h):
            h.head(206, len(IMAGE) - 500000, **headers)
            h.wfile.write(IMAGE[500000:])
        return route

    def test_wrong_ranges(self):
        end = len(IMAGE) - 1
        for headers in ({}, {"Content_Range": "bytes 0-%d/%d" % (end, end + 1), "ETag": '"v1"'},
                        {"Content_Range": "bytes 500000-%d/%d" % (end, end + 9), "ETag": '"v1"'},
                        {"Content_Range": "bytes 500000-%d/%d" % (end, end + 1), "ETag": '"v2"'},
                        {"Content_Range": "bytes 500000-%d/%d" % (end, end + 1)},
                        {"Content_Range": "nonsense", "ETag": '"v1"'}):
            self.requests.clear()
            wrong = self.wrong_range(**headers)
            self.expect(self.serve("/x", sequence(ranged(IMAGE, 500000), wrong, ranged(IMAGE))))
            self.assertEqual(self.ranges(), [None, "bytes=500000-", None])
            self.clear()
            always = sequence(ranged(IMAGE, 500000), *[wrong, ranged(IMAGE, 500000)] * 10)
            self.expect_error("DownloadFailed", "another part", self.serve("/x", always))
            self.clear()

    def test_unasked_part(self):
        self.expect_error("DownloadFailed", "another part", self.serve("/x", self.wrong_range()))

    def test_part_of_the_rest(self):
        def some(h):
            start = int(h.headers["Range"][6:-1])
            part = IMAGE[start:start + 900000]
            h.head(206, len(part), ETag='"v1"',
                   Content_Range="bytes %d-%d/%d" % (start, start + len(part) - 1, len(IMAGE)))
            h.wfile.write(part)
        self.expect(self.serve("/x", sequence(ranged(IMAGE, 500000), some)))

    def test_too_long_announced(self):
        def liar(h):
            if h.headers.get("Range"):
                return h.head(416, 0)
            h.head(200, len(IMAGE) + 100, ETag='"v1"')
            h.wfile.write(IMAGE)
        self.expect_error("DownloadFailed", ["416", "attempts"], self.serve("/x", liar))
        self.assertEqual(len(self.requests), 4)

    def test_too_short_announced(self):
        body = zstd(IMAGE)

        def liar(h):
            h.head(200, 100000)
            h.wfile.write(body)
        self.expect_error("InvalidImage", "cut off", self.serve("/x", liar))
        self.expect_error("DigestMismatch", "SHA-256", self.serve("/y", plain(IMAGE[:-1])), sha256=sha256(IMAGE))

    def test_stall(self):
        stop = threading.Event()
        self.addCleanup(stop.set)

        def stall(h):
            h.head(200, len(IMAGE), ETag='"v1"')
            h.wfile.write(IMAGE[:1000000])
            stop.wait(TIMEOUT)
        self.expect(self.serve("/x", sequence(stall, ranged(IMAGE))), stall_timeout=1)
        self.assertEqual(self.ranges(), [None, "bytes=1000000-"])

    def test_never_answers(self):
        stop = threading.Event()
        self.addCleanup(stop.set)
        self.expect_error("DownloadFailed", "6 attempts", self.serve("/x", lambda h: stop.wait(TIMEOUT)),
                          stall_timeout=1)

    def test_no_server(self):
        self.server.shutdown()
        self.server.server_close()
        self.expect_error("DownloadFailed", ["6 attempts", "127.0.0.1"], self.base + "/x")

    def test_empty_answers(self):
        self.expect_error("DownloadFailed", "6 attempts", self.serve("/x", lambda h: None))
        self.assertEqual(len(self.requests), 6)

    def test_progress_counts_anew(self):
        self.expect(self.serve("/x", ranged(IMAGE, 200000)))
        self.assertGreater(len(self.requests), 12)

    def test_mirror(self):
        """After a redirect it goes on where it was, and asks the first server when that is in vain."""
        self.serve("/mirror1", sequence(ranged(IMAGE, 500000), ranged(IMAGE, 500000), status(404)))
        self.serve("/mirror2", ranged(IMAGE, None, '"v1"'))
        url = self.serve("/x", sequence(status(302, Location="/mirror1"), status(302, Location="/mirror2")))
        result = self.expect(url)
        self.assertEqual([p for p, _ in self.requests],
                         ["/x", "/mirror1", "/mirror1", "/mirror1", "/x", "/mirror2"])
        self.assertEqual(self.ranges()[-1], "bytes=1000000-")
        self.assertEqual(result["url"], self.base + "/mirror1")


class Statuses(Case):
    def test_final(self):
        for code, words in ((404, "no such file"), (403, "forbids"), (401, "password"), (410, "gone"), (400, "400")):
            self.requests.clear()
            self.expect_error("DownloadRefused", [str(code), words, "/x"], self.serve("/x", status(code)))
            self.assertEqual(len(self.requests), 1)

    def test_again(self):
        for code in (503, 500, 429, 408):
            self.requests.clear()
            self.expect(self.serve("/x", sequence(status(code, Retry_After="1"), plain(IMAGE))))
            self.assertEqual(len(self.requests), 2)

    def test_always(self):
        self.expect_error("DownloadFailed", ["503", "6 attempts"], self.serve("/x", status(503)))
        self.assertEqual(len(self.requests), 6)

    def test_odd(self):
        for code in (300, 204, 304, 202):
            self.expect_error("DownloadRefused", str(code), self.serve("/x", status(code)))

    def test_redirects(self):
        self.serve("/b", plain(IMAGE))
        self.serve("/a", status(302, Location="/b"))
        result = self.expect(self.serve("/x", status(301, Location="a")))
        self.assertEqual(result["url"], self.base + "/b")
        self.expect_error("DownloadRefused", "10 redirects", self.serve("/loop", status(302, Location="/loop")))

    def test_redirects_elsewhere(self):
        for to in ("file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1:70/x", "dict://127.0.0.1/",
                   "scp://127.0.0.1/etc/passwd", "smb://127.0.0.1/x"):
            self.requests.clear()
            self.expect_error("DownloadRefused", "redirects", self.serve("/x", status(302, Location=to)))
            self.assertEqual(len(self.requests), 1)

    def test_refresh(self):
        def route(h):
            match = h.headers.get("If-None-Match") == '"v1"'
            (status(304, ETag='"v1"') if match else plain(IMAGE, ETag='"v1"'))(h)
        url = self.serve("/x", route)
        old = {"etag": '"v1"', "last-modified": OLD, "url": url}
        self.assertEqual(self.run_pull(url, refresh=old), {"result": {"not-modified": True}})
        self.assertEqual(self.requests[0][1].get("If-Modified-Since"), OLD)
        self.expect(url, refresh={**old, "etag": '"v0"'})
        self.requests.clear()
        self.clear()
        self.expect(url, refresh={**old, "url": "http://elsewhere/x"})  # somebody else's ETag
        self.assertEqual([h.get("If-None-Match") for _, h in self.requests], ['"v1"', None])

    def test_credentials(self):
        other = "http://localhost:%d/b" % self.server.server_address[1]
        self.serve("/b", plain(IMAGE))
        self.serve("/a", status(302, Location=other))
        host = urlsplit(self.base).netloc
        result = self.expect("http://joe:secret@%s/a" % host)
        self.assertEqual([h.get("Authorization") for _, h in self.requests], ["Basic am9lOnNlY3JldA==", None])
        self.assertEqual(result["url"], other)
        self.serve("/n", status(404))
        message = self.expect_error("DownloadRefused", "/n", "http://joe:secret@%s/n?token=secret#secret" % host)
        self.assertNotIn("secret", message)
        self.assertNotIn("joe", message)
        self.serve("/s", plain(IMAGE))
        self.assertEqual(self.expect("http://joe:secret@%s/s" % host)["url"], self.base + "/s")

    def test_proxy(self):
        self.server.routes["http://image.example/x"] = plain(IMAGE)
        self.expect("http://image.example/x", proxy=self.base)
        self.expect("http://image.example/x", env={"http_proxy": self.base})

    def test_tls(self):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost",
                        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "2",
                        "-keyout", self.path("key"), "-out", self.path("cert")],
                       check=True, stderr=subprocess.DEVNULL)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path("cert"), self.path("key"))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *args: None
        server.daemon_threads, server.lock = True, threading.Lock()
        server.requests, server.routes = [], {"/x": plain(IMAGE)}
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        url = "https://127.0.0.1:%d/x" % server.server_address[1]
        self.expect_error("DownloadRefused", "certificate", url, env={"SSL_CERT_FILE": self.path("cert")})
        self.assertEqual(server.requests, [])


class Digests(Case):
    BODY = zstd(IMAGE)

    def test_wrong(self):
        message = self.expect_error("DigestMismatch", [sha256(self.BODY), "0" * 64],
                                    self.serve("/x", plain(self.BODY, ETag='"v1"')), sha256="0" * 64)
        self.assertIn("/x", message)
        self.nothing_is_left()

    def test_right(self):
        self.expect(self.serve("/x", plain(self.BODY)), sha256=sha256(self.BODY).upper())

    def checksums(self, text, **kwargs):
        kwargs["checksums"] = self.serve("/SUMS", plain(text.encode()))
        return kwargs

    def test_forms(self):
        h256, h512 = sha256(self.BODY), hashlib.sha512(self.BODY).hexdigest()
        url = self.serve("/a/disk-1%202.img?x=y", plain(self.BODY))
        other = "0" * 64 + "  other.img\n"
        for text in (other + h256 + "  disk-1 2.img\n", other + h256 + " *disk-1 2.img\r\n" + other,
                     h512 + "  ./disk-1 2.img", h256 + "\n", h512, h256 + "  disk-1 2.img",
                     "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# disk-1 2.img: 5 bytes\n"
                     "SHA256 (disk-1 2.img) = " + h256 + "\n-----BEGIN PGP SIGNATURE-----\n\niQIzBAEBCAAdFiE\n"
                     "-----END PGP SIGNATURE-----\n", "SHA512 (disk-1 2.img) = " + h512 + "\n"):
            result = self.expect(url, **self.checksums(text))
            self.assertEqual(result["sha256"], h256)
            self.assertEqual(result.get("sha512"), h512 if h512 in text else None)
            wrong = text.replace(h256, "1" * 64).replace(h512, "1" * 128)
            self.expect_error("DigestMismatch", ["1" * 64, "disk-1%202.img"], url, **self.checksums(wrong))
            self.nothing_is_left()

    def test_not_listed(self):
        url = self.serve("/a/disk.img", plain(self.BODY))
        for text in ("", "0" * 64 + "  other.img\n", "0" * 32 + "  disk.img\n", "<html>disk.img</html>"):
            self.expect_error("DigestMismatch", "'disk.img'", url, **self.checksums(text))
        self.assertNotIn("/a/disk.img", [p for p, _ in self.requests])
        self.expect_error("DigestMismatch", "two different",
                          url, **self.checksums("0" * 64 + "  disk.img\n" + "1" * 64 + "  disk.img\n"))

    def test_both(self):
        url = self.serve("/a/disk.img", plain(self.BODY))
        self.expect_error("DigestMismatch", "1" * 64, url, sha256=sha256(self.BODY),
                          **self.checksums("1" * 64 + "  disk.img"))

    def test_list_cannot_be_had(self):
        url = self.serve("/x", plain(self.BODY))
        self.expect_error("DownloadRefused", ["/none", "404"], url, checksums=self.serve("/none", status(404)))
        self.expect_error("DownloadRefused", "1024 KiB", url, checksums=self.serve("/big", plain(bytes(2 * MIB))))
        flaky = sequence(status(503), plain((sha256(self.BODY) + "\n").encode()))
        self.expect(url, checksums=self.serve("/flaky", flaky))


class Killed(Case):
    """What a worker leaves behind, and what else could be found in its place."""

    def kill_at(self, body, after, **headers):
        """Has it get that many bytes, then kills it."""
        self.clear()
        stop = threading.Event()
        self.addCleanup(stop.set)

        def route(h):
            h.head(200, len(body), ETag='"v1"', **headers)
            h.wfile.write(body[:after])
            h.wfile.flush()
            stop.wait(TIMEOUT)
        url = self.serve("/x", route)
        child = subprocess.Popen(self.argv(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 pass_fds=list(self.fds.values()), env=self.environment())
        child.stdin.write(self.request(url))
        child.stdin.close()
        for line in child.stdout:  # progress comes when it has come, at the latest in a second
            if json.loads(line)["done"] == after:
                break
        child.send_signal(signal.SIGKILL)
        child.stdout.close()
        child.wait(TIMEOUT)
        return url

    def test_goes_on(self):
        for body, kept in ((zstd(IMAGE), "received"), (make_image(30 * MIB), "output")):
            image = IMAGE if kept == "received" else body
            self.kill_at(body, len(body) - 300000)
            self.assertGreater(self.size(kept), 0)
            have = self.size(kept)
            url = self.serve("/x", ranged(body))
            self.requests.clear()
            result = self.expect(url, image, sha256=sha256(body))
            self.assertEqual([h.get("Range") for _, h in self.requests], ["bytes=%d-" % have])
            self.assertEqual(result["received"], len(body))
            self.clear()

    def test_changed_after_death(self):
        self.kill_at(zstd(IMAGE), 300000)
        other = make_image(seed=3)
        self.expect(self.serve("/x", ranged(other, None, '"v2"')), other)
        self.assertEqual(self.requests[-1][1].get("If-Range"), '"v1"')

    def test_complete_but_not_told(self):
        body = zstd(IMAGE)
        url = self.serve("/x", ranged(body))
        first = self.expect(url)
        self.requests.clear()
        self.assertEqual(self.expect(url), first)
        self.assertEqual(self.requests, [])

    def test_other_url(self):
        self.kill_at(zstd(IMAGE), 300000)
        self.requests.clear()
        self.expect(self.serve("/y", ranged(zstd(IMAGE))))
        self.assertNotIn("Range", self.requests[0][1])

    def test_other_boot(self):
        self.kill_at(zstd(IMAGE), 300000)
        state = json.loads(self.read("state"))
        state["boot-id"] = "00000000-0000-0000-0000-000000000000"
        self.fill("state", json.dumps(state).encode())
        self.requests.clear()
        self.expect(self.serve("/x", ranged(zstd(IMAGE))))
        self.assertNotIn("Range", self.requests[0][1])

    def test_state_makes_no_sense(self):
        self.kill_at(zstd(IMAGE), 300000)
        state, received = self.read("state"), self.read("received")
        good = json.loads(state)
        broken = [state[:n] for n in (0, 1, 50, len(state) - 3)]
        broken += [json.dumps({**good, **change}).encode() for change in (
            {"version": 2}, {"length": -1}, {"length": 1}, {"length": "x"}, {"url": None}, {"etag": None},
            {"etag": "a\r\nX: y"}, {"etag": 'W/"v1"'}, {"effective-url": 7})]
        broken += [b"\xff" * 100, b"[]", b"x" * 200000]
        for text in broken:
            self.fill("state", text)
            self.fill("received", received)
            self.fill("output", b"nonsense")
            self.expect(self.serve("/x", ranged(zstd(IMAGE))))

    def test_bytes_make_no_sense(self):
        body = zstd(IMAGE)
        for garbage in (b"garbage" * 9000, body[:1000] + b"garbage" * 9000, bytes(100), body + b"more",
                        b"PK\x03\x04" + bytes(9000), bytes([body[0]]), IMAGE[:9000]):
            self.kill_at(body, 300000)
            self.fill("received", garbage)
            self.expect(self.serve("/x", ranged(body)), sha256=sha256(body))
        self.kill_at(IMAGE, 2000000)
        self.fill("output", b"garbage" * 9000)
        self.expect(self.serve("/x", ranged(IMAGE)), sha256=sha256(IMAGE))

    def test_failure_leaves_what_came(self):
        body = zstd(IMAGE)
        url = self.serve("/x", sequence(ranged(body, 400000), lambda h: None))
        self.expect_error("DownloadFailed", "attempts", url)
        self.assertEqual(self.read("received"), body[:400000])
        self.requests.clear()
        self.expect(self.serve("/x", ranged(body)))
        self.assertEqual(self.requests[0][1].get("Range"), "bytes=400000-")


@unittest.skipUnless(ROOT, "takes root")
class Confined(Case):
    def test_disk_full(self):
        script = ('mount -t tmpfs -o size=8M,mode=755 none "$1" && f=$1 && shift && '
                  'exec "$@" --output 9 9<> "$f/output"')
        os.mkdir(self.path("full"))
        body = random.Random(1).randbytes(20 * MIB)
        for data in (body, zstd(body)):
            self.expect_error("NoSpace", "", self.serve("/x", plain(data)), files=[],
                              wrapper=["unshare", "-m", "bash", "-c", script, "bash", self.path("full")])

    def held(self):
        """A worker in the middle of a transfer."""
        stop = threading.Event()
        self.addCleanup(stop.set)

        def route(h):
            h.head(200, len(IMAGE))
            h.wfile.write(IMAGE[:100000])
            stop.wait(TIMEOUT)
        child = subprocess.Popen(self.argv(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 pass_fds=list(self.fds.values()), env=self.environment())
        self.addCleanup(lambda: (child.kill(), child.stdout.close(), child.wait(TIMEOUT)))
        child.stdin.write(self.request(self.serve("/x", route)))
        child.stdin.close()
        for line in child.stdout:
            if json.loads(line)["phase"] == "downloading":
                return child

    def test_identity(self):
        with open("/proc/%d/status" % self.held().pid) as f:
            fields = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        self.assertEqual(fields["Uid"].split(), [str(UID)] * 4)
        self.assertEqual(fields["Gid"].split(), [str(UID)] * 4)
        self.assertEqual(fields["Groups"].split(), [])
        for name in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
            self.assertEqual(int(fields[name], 16), 0)
        self.assertEqual(fields["NoNewPrivs"], "1")
        self.assertEqual(fields["Seccomp"], "2")


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main()
