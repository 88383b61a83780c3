#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""vmctl-image as a whole: what vmctld hands it, and what a hostile client could have handed vmctld.

test-image.py PROGRAM [unittest's options]. As root also what takes another uid, mounts and devices."""

import hashlib
import json
import os
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import unittest
import uuid

PROGRAM = None
UID = 61234  # nobody's
ROOT = os.geteuid() == 0
TIMEOUT = 120  # generous: sanitizers, a busy machine
ERROR = "org.vmctl1.Error."
SIZE = 64 << 20
FOREIGN = (
    ("vmdk", ("-o", "subformat=monolithicSparse"), "monolithicSparse"),
    ("vmdk", ("-o", "subformat=streamOptimized"), "streamOptimized"),
    ("vdi", (), "dynamic"),
    ("vdi", ("-o", "static=on"), "static"),
    ("vhdx", (), None),
    ("vhdx", ("-o", "subformat=fixed"), None),
    ("vpc", ("-o", "force_size=on"), "dynamic"),
    ("vpc", ("-o", "subformat=fixed,force_size=on"), "fixed"),
)


def output(*argv, **kwargs):
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, timeout=TIMEOUT, **kwargs).stdout


def qemu_img(*argv):
    return output("qemu-img", *[str(a) for a in argv])


def fsverity_digest(path):
    """What 'fsverity digest' prints, computed the plain way."""
    level, tree = [], []
    with open(path, "rb") as f:
        while data := f.read(4096):
            level.append(hashlib.sha256(data.ljust(4096, b"\0")).digest())
    while len(level) > 1:
        blocks = [b"".join(level[i:i + 128]) for i in range(0, len(level), 128)]
        level = [hashlib.sha256(b.ljust(4096, b"\0")).digest() for b in blocks]
    root = level[0] if level else bytes(32)
    descriptor = struct.pack("<BBBBIQ64s32s144s", 1, 1, 12, 0, 0, os.stat(path).st_size, root, b"", b"")
    return "sha256:" + hashlib.sha256(descriptor).hexdigest()


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="test-image-")
        os.chmod(self.folder, 0o755)
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.fds = []
        self.addCleanup(lambda: [os.close(fd) for fd in self.fds])
        self.store = self.folder

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, name, data):
        with open(self.path(name), "wb") as f:
            f.write(data)
        return self.path(name)

    def read(self, path):
        with open(path, "rb") as f:
            return f.read()

    def patch(self, path, offset, data):
        with open(path, "r+b") as f:
            f.seek(offset)
            f.write(data)
        return path

    def raw(self, name="disk.raw", size=SIZE):
        """Data, a hole, zeros that are written, a hole."""
        with open(self.path(name), "wb") as f:
            f.write(os.urandom(1 << 20))
            f.seek(510)
            f.write(b"\x55\xaa")
            f.seek(16 << 20)
            f.write(os.urandom(100000) + bytes(2 << 20))
            f.truncate(size)
        return self.path(name)

    def image(self, form, name=None, source=None, options=()):
        path = self.path(name or "disk." + form)
        qemu_img("convert", "-q", "-f", "raw", "-O", form, *options, source or self.raw(), path)
        return path

    def open(self, path, flags=os.O_RDONLY):
        fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
        self.fds.append(fd)
        return fd

    def make(self, name):
        """A file of the service's that is the worker's while it works."""
        path = os.path.join(self.store, name)
        fd = self.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        if ROOT:
            os.fchown(fd, UID, UID)
        return fd

    def result_path(self, reply):
        return os.path.join(self.store, reply["file"])

    def command(self, verb, files):
        argv = [PROGRAM, verb]
        if ROOT:
            argv += ["--uid", str(UID), "--gid", str(UID)]
        fds = []
        for name, file in files.items():
            fds.append(file if isinstance(file, int) else self.open(file))
            argv += ["--" + name, str(fds[-1])]
        env = dict(os.environ)
        if ROOT:  # the leak detector cannot look at a process that changed its uid
            env["ASAN_OPTIONS"] = "detect_leaks=0"
        return argv, fds, env

    def parse(self, stdout, status):
        lines = [json.loads(line) for line in stdout.decode().splitlines()]
        self.assertTrue(stdout.endswith(b"\n"))
        self.assertEqual("error" in lines[-1], status == 1)
        for line in lines[:-1]:
            self.assertEqual(set(line), {"phase", "done", "total", "speed"})
            self.assertTrue(line["total"] == 0 or line["done"] <= line["total"], line)
        self.phases = []
        for line in lines[:-1]:
            if line["phase"] not in self.phases[-1:]:
                self.phases.append(line["phase"])
        return lines[-1]

    def run_image(self, verb, request={}, files={}, env={}):
        argv, fds, environment = self.command(verb, files)
        text = request if isinstance(request, bytes) else json.dumps(request).encode()
        done = subprocess.run(argv, input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=fds,
                              timeout=TIMEOUT, env={**environment, **env})
        self.assertEqual(done.stderr, b"")
        self.assertIn(done.returncode, (0, 1))
        return self.parse(done.stdout, done.returncode)

    def run_import(self, source, request={}, env={}):
        files = {"input": source, "output": self.make("output"), "scratch": self.make("scratch")}
        return self.run_image("import", request, files, env)

    def do_import(self, source, **request):
        reply = self.run_import(source, {k.replace("_", "-"): v for k, v in request.items()})
        self.assertIn("result", reply, reply)
        result = reply["result"]
        st = os.stat(self.result_path(result))
        self.assertEqual(result["size"], st.st_size)
        self.assertEqual(result["allocated"], st.st_blocks * 512)
        self.assertEqual(result["content-digest"], fsverity_digest(self.result_path(result)))
        return result

    def expect(self, reply, name, words):
        self.assertEqual(reply.get("error"), ERROR + name, reply)
        self.assertIn(words, reply["message"])
        self.assertEqual(set(reply), {"error", "message"})
        return reply["message"]

    def refuse(self, source, name, words, env={}, **request):
        return self.expect(self.run_import(source, request, env), name, words)

    def inspect(self, path, request={}):
        reply = self.run_image("inspect", request, {"input": path})
        self.assertIn("result", reply, reply)
        return reply["result"]

    def same(self, path, form, source, source_format="raw"):
        qemu_img("compare", "-q", "-f", form, "-F", source_format, path, source)

    def fake(self, script):
        os.makedirs(self.path("bin"), exist_ok=True)
        self.write("bin/qemu-img", b"#!/bin/sh\n" + script.encode())
        os.chmod(self.path("bin/qemu-img"), 0o755)
        return {"PATH": self.path("bin")}

    def feed(self, data, times=1):
        """A pipe into which somebody writes while nobody has closed it."""
        r, w = os.pipe()
        self.fds.append(r)

        def write():
            with open(w, "wb", buffering=0) as f:
                try:
                    for _ in range(times):
                        f.write(data)
                except BrokenPipeError:
                    pass

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        return r, thread


class Import(Case):
    def test_raw(self):
        raw = self.raw()
        result = self.do_import(raw)
        self.assertEqual(result["file"], "output")
        self.assertEqual(result["format"], "raw")
        self.assertEqual(result["source-format"], "raw")
        self.assertEqual(result["virtual-size"], SIZE)
        self.assertEqual(self.phases, ["importing", "verifying"])
        self.assertEqual(self.read(self.result_path(result)), self.read(raw))
        self.assertLess(result["allocated"], 4 << 20)

    def test_qcow2(self):
        for options in ((), ("-c",), ("-c", "-o", "compression_type=zstd"), ("-o", "compat=0.10"),
                        ("-o", "extended_l2=on"), ("-o", "cluster_size=512"), ("-o", "lazy_refcounts=on")):
            with self.subTest(options=options):
                image = self.image("qcow2", options=options)
                result = self.do_import(image)
                self.assertEqual(result["file"], "output")
                self.assertEqual(result["format"], "qcow2")
                self.assertEqual(result["virtual-size"], SIZE)
                self.assertEqual(result["compat"], "0.10" if "compat=0.10" in options else "1.1")
                self.assertEqual(result["cluster-size"], 512 if "cluster_size=512" in options else 65536)
                self.assertEqual(result["snapshots"], 0)
                self.assertEqual(self.read(self.result_path(result)), self.read(image))

    def test_dirty_and_snapshots(self):
        image = self.image("qcow2")
        qemu_img("snapshot", "-c", "one", image)
        qemu_img("snapshot", "-c", "two", image)
        self.patch(image, 72, struct.pack(">Q", 1))
        self.assertEqual(self.do_import(image)["snapshots"], 2)

    def test_foreign(self):
        raw = self.raw()
        for form, options, variant in FOREIGN:
            with self.subTest(format=form, options=options):
                image = self.image(form, source=raw, options=options)
                info = self.inspect(image)
                self.assertEqual(info["format"], form)
                self.assertEqual(info["virtual-size"], SIZE)
                self.assertEqual(info.get("variant"), variant)
                self.assertNotIn("refused", info)
                for stated in (None, form):
                    result = self.do_import(image, format=stated)
                    self.assertEqual(self.phases, ["importing", "converting", "verifying"])
                    self.assertEqual(result["file"], "scratch")
                    self.assertEqual(result["format"], "qcow2")
                    self.assertEqual(result["source-format"], form)
                    self.assertEqual(result["virtual-size"], SIZE)
                    self.same(self.result_path(result), "qcow2", raw)
                    self.assertLess(result["allocated"], 4 << 20)

    def test_stated(self):
        raw = self.raw()
        vmdk = self.image("vmdk", source=raw)
        self.refuse(vmdk, "FormatRefused", "given as raw, but is vmdk", format="raw")
        self.refuse(vmdk, "FormatRefused", "given as vdi, but is vmdk", format="vdi")
        self.refuse(raw, "InvalidImage", "given as vmdk, but is none", format="vmdk")
        self.refuse(raw, "InvalidImage", "given as qcow2", format="qcow2")
        self.refuse(self.image("qcow2", source=raw), "FormatRefused", "given as raw", format="raw")
        # what a guest can write at the end of its raw disk
        fixed = self.image("vpc", source=raw, options=("-o", "subformat=fixed,force_size=on"))
        result = self.do_import(fixed, format="raw")
        self.assertEqual((result["format"], result["virtual-size"]), ("raw", SIZE + 512))
        # any content
        zeros = self.write("zeros", bytes(1 << 20))
        self.refuse(zeros, "InvalidImage", "is no disk image")
        self.assertEqual(self.do_import(zeros, any_content=True)["virtual-size"], 1 << 20)
        self.assertEqual(self.do_import(zeros, format="raw")["virtual-size"], 1 << 20)

    def test_iso(self):
        """An installer's: a disk to boot from."""
        self.write("x.iso", bytes(0x8000) + b"\1CD001\1" + bytes(4096 - 7))
        self.assertEqual(self.do_import(self.path("x.iso"))["format"], "raw")

    def test_pipe(self):
        raw = self.raw()
        for source in (raw, self.image("qcow2", source=raw), self.image("vdi", source=raw),
                       self.image("vpc", source=raw, options=("-o", "subformat=fixed,force_size=on"))):
            fd, thread = self.feed(self.read(source))
            result = self.do_import(fd)
            thread.join(TIMEOUT)
            self.assertLess(result["allocated"], 4 << 20)
            self.same(self.result_path(result), result["format"], raw)
        a, b = socket.socketpair()
        with a, b:
            data = self.read(raw)[:1 << 20]
            thread = threading.Thread(target=lambda: (a.sendall(data), a.shutdown(socket.SHUT_WR)))
            b.setblocking(False)
            thread.start()
            result = self.do_import(b.fileno())
            thread.join(TIMEOUT)
        self.assertEqual(self.read(self.result_path(result)), data)

    def test_endless_pipe(self):
        fd, thread = self.feed(b"x" * (1 << 20), times=1 << 30)
        self.refuse(fd, "ImageTooLarge", "(8388608 bytes)", **{"max-size": 8 << 20})
        self.assertLessEqual(os.stat(self.path("output")).st_size, 8 << 20)
        os.close(fd)
        self.fds.remove(fd)
        thread.join(TIMEOUT)
        self.assertFalse(thread.is_alive())

    def test_max_size(self):
        raw = self.raw()
        self.refuse(raw, "ImageTooLarge", str(SIZE - 1), **{"max-size": SIZE - 1})
        self.do_import(raw, max_size=SIZE)
        # grows in the conversion
        with open(self.path("dense.raw"), "wb") as f:
            f.write(b"\x55\xaa" * (4 << 20))
        image = self.image("vmdk", source=self.path("dense.raw"), options=("-o", "subformat=streamOptimized"))
        self.assertLess(os.stat(image).st_size, 1 << 20)
        self.refuse(image, "ImageTooLarge", "the converted image", **{"max-size": 1 << 20})

    def test_in_place(self):
        raw = self.raw("pulled")
        if ROOT:
            os.chown(raw, UID, UID)
        files = {"input": raw, "output": self.make("output")}
        result = self.run_image("import", {"in-place": True}, files)["result"]
        self.assertEqual(result["file"], "input")
        self.assertEqual(result["content-digest"], fsverity_digest(raw))
        self.assertEqual(os.stat(self.path("output")).st_size, 0)
        request = {"in-place": True, "content-digest": "sha256:00"}
        self.assertEqual(self.run_image("import", request, files)["result"]["content-digest"], "sha256:00")
        vdi = self.image("vdi", name="pulled.vdi", source=raw)
        if ROOT:
            os.chown(vdi, UID, UID)
        result = self.run_image("import", request, {**files, "input": vdi})["result"]
        self.assertEqual(result["file"], "output")
        self.assertEqual(result["content-digest"], fsverity_digest(self.path("output")))
        self.same(self.path("output"), "qcow2", raw)

    def test_client_cannot_steer_reading(self):
        raw = self.raw()
        fd = self.open(raw, os.O_RDWR | os.O_APPEND | os.O_NONBLOCK)
        os.lseek(fd, 1 << 20, os.SEEK_SET)
        self.assertEqual(self.read(self.result_path(self.do_import(fd))), self.read(raw))
        try:
            fd = self.open(raw, os.O_DIRECT)
        except OSError:
            return
        self.assertEqual(self.read(self.result_path(self.do_import(fd))), self.read(raw))

    def test_truncated_meanwhile(self):
        for _ in range(20):
            with open(self.path("big"), "wb") as f:
                os.posix_fallocate(f.fileno(), 0, 256 << 20)
                f.write(b"x" * (256 << 20))
            files = {"input": self.path("big"), "output": self.make("output")}
            argv, fds, env = self.command("import", files)
            with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=fds,
                                  env=env) as p:
                p.stdin.write(b'{"format":"raw"}')
                p.stdin.close()
                while os.stat(self.path("output")).st_size == 0 and p.poll() is None:
                    pass
                os.truncate(self.path("big"), 4096)
                stdout = p.stdout.read()
                status = p.wait(TIMEOUT)
            reply = self.parse(stdout, status)
            if "error" in reply:
                self.expect(reply, "InvalidImage", "shrinks while it is read")
                return
        self.skipTest("it is copied too fast to be cut off")


class Hostile(Case):
    def header(self, offset, form, *values):
        return self.patch(self.image("qcow2"), offset, struct.pack(form, *values))

    def test_qcow2_that_needs_another_file(self):
        base = self.image("qcow2", name="base.qcow2")
        over = self.path("over.qcow2")
        for backing, form in ((base, "qcow2"), ("/etc/shadow", "raw"), ("nbd://127.0.0.1/x", "raw")):
            qemu_img("create", "-q", "-u", "-f", "qcow2", "-b", backing, "-F", form, over, "1M")
            self.refuse(over, "FormatRefused", "'%s'" % backing)
            info = self.inspect(over)
            self.assertEqual((info["backing-file"], info["backing-format"]), (backing, form))
            self.assertIn("difference", info["refused"])
        qemu_img("create", "-q", "-f", "qcow2", "-o", "data_file=%s,data_file_raw=on" % self.path("d"),
                 over, "1M")
        self.refuse(over, "FormatRefused", "keeps its data in another file")
        self.assertEqual(self.inspect(over)["data-file"], self.path("d"))

    def test_qcow2_features(self):
        image = self.header(32, ">I", 2)  # LUKS; qemu-img measures the CPU to make one, and fails on a busy machine
        self.refuse(image, "FormatRefused", "encrypted")
        self.assertTrue(self.inspect(image)["encrypted"])
        image = self.header(72, ">Q", 1 << 40)
        self.refuse(image, "FormatRefused", "0x10000000000")
        self.assertIn("0x10000000000", self.inspect(image)["refused"])
        image = self.header(72, ">Q", 2)
        self.refuse(image, "InvalidImage", "corrupt")
        self.assertTrue(self.inspect(image)["corrupt"])
        self.refuse(self.header(4, ">I", 4), "FormatRefused", "version 4")
        self.refuse(self.header(32, ">I", 1), "FormatRefused", "encrypted")

    def test_qcow2_tables(self):
        far = 1 << 40
        for offset, form, value, words in (
                (40, ">Q", far, "first table"),
                (36, ">I", 1 << 31, "first table"),
                (24, ">Q", 1 << 62, "1 PiB"),
                (24, ">Q", (1 << 50) + 1, "1 PiB"),
                (48, ">Q", far, "reference counts"),
                (56, ">I", 1 << 20, "reference counts"),
                (20, ">I", 63, "clusters of 2^63"),
                (96, ">I", 60, "2^60 bits"),
                (104, ">I", 0x11111111, None)):  # a strange, yet whole header
            with self.subTest(offset=offset, value=value):
                image = self.header(offset, form, value)
                if words:
                    self.refuse(image, "InvalidImage", words)
                    self.assertIn(words, self.inspect(image)["refused"])
                else:
                    self.inspect(image)
        image = self.image("qcow2")
        l1 = struct.unpack(">Q", self.read(image)[40:48])[0]
        self.patch(image, l1, struct.pack(">Q", far))
        self.refuse(image, "InvalidImage", "cut off")
        image = self.image("qcow2")
        os.truncate(image, os.stat(image).st_size // 2)
        self.refuse(image, "InvalidImage", "cut off")

    def test_qcow2_extensions(self):
        image = self.image("qcow2")
        length = struct.unpack(">I", self.read(image)[100:104])[0]
        self.patch(image, length, struct.pack(">II", 0x12345678, 1 << 31))
        self.refuse(image, "InvalidImage", "an extension")
        self.assertIn("an extension", self.inspect(image)["refused"])

    def test_qcow2_snapshots(self):
        def make():
            image = self.image("qcow2")
            qemu_img("snapshot", "-c", "first\x1b[31m", image)
            return image, struct.unpack(">Q", self.read(image)[64:72])[0]

        image, table = make()
        info = self.inspect(image)
        self.assertEqual(info["snapshot-count"], 1)
        snapshot = info["snapshots"][0]
        theirs = json.loads(qemu_img("info", "--output=json", image))["snapshots"][0]
        self.assertEqual(snapshot["id"], theirs["id"])
        self.assertEqual(snapshot["name"], "first\\x1b[31m")
        self.assertEqual(snapshot["date"], theirs["date-sec"])
        self.assertEqual(snapshot["vm-state-size"], 0)
        self.assertEqual(snapshot["disk-size"], SIZE)
        for offset, form, value in ((60, ">I", 65536), (60, ">I", 2), (64, ">Q", 1 << 50),
                                    (table + 36, ">I", 1 << 30), (table + 8, ">I", 1 << 30),
                                    (table, ">Q", 1 << 40), (table + 14, ">H", 65535)):
            with self.subTest(offset=offset, value=value):
                image, again = make()
                self.assertEqual(again, table)
                os.truncate(image, max(table + 200, os.stat(image).st_size))
                self.patch(image, offset, struct.pack(form, value))
                if (offset, value) == (60, 2):  # an entry of zeros behind it, as QEMU takes it
                    os.truncate(image, table + 65)
                self.refuse(image, "InvalidImage", "")
                self.assertIn("refused", self.inspect(image))

    def test_vmdk(self):
        text = ('# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n'
                'createType="monolithicFlat"\nRW 2048 FLAT "/etc/shadow" 0\n')
        self.refuse(self.write("flat.vmdk", text.encode()), "FormatRefused", "in other files")
        self.assertIn("in other files", self.inspect(self.path("flat.vmdk"))["refused"])
        # QEMU takes a capacity of 0 for a mere description
        image = self.image("vmdk")
        self.patch(image, 0x200, text.encode().ljust(1024, b"\0"))
        self.refuse(image, "FormatRefused", "several files")
        self.patch(image, 12, bytes(8))
        self.refuse(image, "FormatRefused", "in other files")
        base = self.image("vmdk", name="base.vmdk")
        over = self.path("over.vmdk")
        qemu_img("create", "-q", "-f", "vmdk", "-b", base, "-F", "vmdk", over)
        self.refuse(over, "FormatRefused", "difference to another image")
        qemu_img("create", "-q", "-f", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", self.path("s.vmdk"),
                 "1M")
        self.refuse(self.path("s.vmdk"), "FormatRefused", "in other files")
        self.refuse(self.path("s-s001.vmdk"), "FormatRefused", "several files")
        for offset, form, value in ((12, "<Q", 1 << 60), (44, "<I", 0), (44, "<I", 1 << 20), (20, "<Q", 3),
                                    (56, "<Q", 1 << 40), (56, "<Q", (1 << 64) - 1)):
            image = self.image("vmdk")
            self.refuse(self.patch(image, offset, struct.pack(form, value)), "InvalidImage", "")

    def test_vdi(self):
        parent = self.patch(self.image("vdi"), 0x1b8, uuid.uuid4().bytes)
        self.refuse(parent, "FormatRefused", "difference to another image")
        self.refuse(self.patch(self.image("vdi"), 0x4c, struct.pack("<I", 4)), "FormatRefused", "difference")
        for offset, form, value in ((0x180, "<I", 0xffffffff), (0x178, "<I", 0), (0x180, "<I", 0),
                                    (0x170, "<Q", 1 << 62), (0x154, "<I", 0xfffffe00)):
            image = self.patch(self.image("vdi"), offset, struct.pack(form, value))
            self.refuse(image, "InvalidImage", "")
        self.refuse(self.patch(self.image("vdi"), 0x44, struct.pack("<I", 2)), "FormatRefused", "version")

    def metadata(self, image):
        data = self.read(image)
        guid = uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e").bytes_le
        region = struct.unpack_from("<Q", data, data.index(guid, 192 << 10) + 16)[0]
        parameters = uuid.UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b").bytes_le
        entry = data.index(parameters, region)
        return region, region + struct.unpack_from("<I", data, entry + 16)[0]

    def test_vhdx(self):
        image = self.image("vhdx")
        region, parameters = self.metadata(image)
        self.patch(image, parameters + 4, struct.pack("<I", 2))
        self.refuse(image, "FormatRefused", "difference to another image")
        image = self.patch(self.image("vhdx"), region, b"x")
        self.refuse(image, "InvalidImage", "metadata")
        image = self.image("vhdx")
        for header in (64 << 10, 128 << 10):
            self.patch(image, header + 48, uuid.uuid4().bytes)
        self.refuse(image, "FormatRefused", "was not closed")
        image = self.patch(self.image("vhdx"), (192 << 10) + 8, struct.pack("<I", 1 << 31))
        self.refuse(image, "InvalidImage", "regions")
        image = self.image("vhdx")
        os.truncate(image, 100 << 10)
        self.refuse(image, "InvalidImage", "cut off")

    def sum_vpc(self, image):
        footer = bytearray(self.read(image)[:512])
        footer[64:68] = bytes(4)
        footer[64:68] = struct.pack(">I", ~sum(footer) & 0xffffffff)
        return self.patch(image, 0, footer)

    def test_vpc(self):
        image = self.sum_vpc(self.patch(self.image("vpc"), 60, struct.pack(">I", 4)))
        self.refuse(image, "FormatRefused", "difference to another image")
        self.refuse(self.patch(self.image("vpc"), 64, bytes(4)), "InvalidImage", "checksum")
        image = self.sum_vpc(self.patch(self.image("vpc"), 48, struct.pack(">Q", 1 << 60)))
        self.refuse(image, "InvalidImage", "")
        image = self.patch(self.image("vpc"), 512 + 16, struct.pack(">Q", 1 << 40))
        self.refuse(image, "InvalidImage", "cut off")
        image = self.patch(self.image("vpc"), 512 + 28, struct.pack(">I", 0xffffffff))
        self.refuse(image, "InvalidImage", "cut off")

    def test_no_image(self):
        self.refuse(self.write("empty", b""), "InvalidImage", "is empty")
        self.refuse(self.write("page", b"<!DOCTYPE html>\n".ljust(512)), "InvalidImage", "HTML")
        self.refuse(self.write("text", b"Hello\n" * 512), "InvalidImage", "is no disk image")
        for magic, word in ((b"\x1f\x8b\x08\0", "gzip"), (b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"),
                            (b"BZh9", "bzip2")):
            self.refuse(self.write("packed", magic.ljust(512)), "Compressed", "compressed by " + word)
        for form in ("qed", "parallels", "qcow"):
            qemu_img("create", "-q", "-f", form, self.path(form), "8M")
            self.refuse(self.path(form), "FormatRefused", "neither taken nor converted")

    def test_no_file(self):
        self.refuse(self.open(self.folder), "InvalidImage", "a directory")
        self.refuse(self.open("/dev/null"), "InvalidImage", "a character device")
        self.refuse(self.open(self.raw(), os.O_WRONLY), "InvalidImage", "not opened for reading")
        self.refuse(self.open(self.raw(), os.O_PATH), "InvalidImage", "not opened for reading")
        r, w = os.pipe()
        self.fds += [r, w]
        self.refuse(w, "InvalidImage", "not opened for reading")

    def test_requests(self):
        raw = self.raw()
        self.expect(self.run_import(raw, {"color": 1}), "UnknownOption", "'color'")
        self.expect(self.run_import(raw, {"format": "qed"}), "InvalidSpec", "'format'")
        self.expect(self.run_import(raw, {"max-size": -1}), "InvalidSpec", "'max-size'")
        for text in (b"", b"{", b"[]", b"{}" + b" " * (1 << 20), b"[" * 100000, b"\xff"):
            self.assertIn("error", self.run_import(raw, text))
        for options in ([], ["nonsense"], ["import"], ["import", "--input"], ["import", "--input", "0"],
                        ["inspect", "--uid", "1", "--input", "3"], ["inspect", "--color", "3"]):
            done = subprocess.run([PROGRAM, *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  timeout=TIMEOUT)
            self.assertEqual(done.returncode, 1)
            self.assertEqual(json.loads(done.stdout)["error"], ERROR + "Failed")
        full = self.path("full")
        shutil.copy(raw, full)
        reply = self.run_image("import", {}, {"input": raw, "output": self.open(full, os.O_RDWR)})
        self.expect(reply, "Failed", "an empty file")
        self.assertEqual(self.read(full), self.read(raw))


class Inspect(Case):
    def test_against_qemu(self):
        for options in ((), ("-o", "compat=0.10"), ("-c", "-o", "compression_type=zstd,cluster_size=4096"),
                        ("-o", "extended_l2=on,lazy_refcounts=on,refcount_bits=64")):
            image = self.image("qcow2", options=options)
            theirs = json.loads(qemu_img("info", "--output=json", image))
            data = theirs["format-specific"]["data"]
            ours = self.inspect(image)
            self.assertEqual(ours["format"], theirs["format"])
            self.assertEqual(ours["virtual-size"], theirs["virtual-size"])
            self.assertEqual(ours["allocated"], theirs["actual-size"])
            self.assertEqual(ours["cluster-size"], theirs["cluster-size"])
            for key in ("compat", "refcount-bits", "compression-type"):
                self.assertEqual(ours[key], data[key])
            for key in ("lazy-refcounts", "extended-l2", "corrupt"):
                self.assertEqual(ours[key], data.get(key, False))
            self.assertEqual((ours["dirty"], ours["encrypted"], ours["snapshots"]), (False, False, []))
            self.assertNotIn("refused", ours)

    def test_raw(self):
        info = self.inspect(self.raw())
        self.assertEqual((info["format"], info["virtual-size"], info["size"]), ("raw", SIZE, SIZE))
        info = self.inspect(self.write("text", b"Hello"))
        self.assertEqual(set(info), {"size", "allocated", "refused"})
        self.assertEqual(info["size"], 5)


class Export(Case):
    def run_export(self, source, source_format, target, form="qcow2", compression="none", env={}):
        os.chmod(source, 0o444)
        files = {"input": source, "output": target, "scratch": self.make("scratch")}
        return self.run_image("export", {"source-format": source_format, "format": form,
                                         "compression": compression}, files, env)

    def do_export(self, *args, **kwargs):
        reply = self.run_export(*args, **kwargs)
        self.assertIn("result", reply, reply)
        return reply["result"]

    def target(self, name="target", flags=os.O_WRONLY):
        return self.open(self.path(name), flags | os.O_CREAT | os.O_TRUNC)

    def test_files(self):
        raw = self.raw()
        sources = {"raw": raw, "qcow2": self.image("qcow2", source=raw)}
        for source_format, source in sources.items():
            for form in ("raw", "qcow2"):
                for compression in ("none", "zstd"):
                    with self.subTest(source=source_format, format=form, compression=compression):
                        self.write("target", b"what was there before" * 10000000)
                        fd = self.open(self.path("target"), os.O_WRONLY)
                        os.lseek(fd, 100, os.SEEK_SET)
                        result = self.do_export(source, source_format, fd, form, compression)
                        self.check(result, source_format, form, compression, raw, self.path("target"))

    def check(self, result, source_format, form, compression, raw, path):
        converted = ["converting"] if form != source_format else []
        self.assertEqual(self.phases, converted + ["exporting"])
        self.assertEqual((result["format"], result["compression"]), (form, compression))
        self.assertEqual(result["virtual-size"], SIZE)
        if compression == "zstd":
            output("zstd", "-q", "-d", "-f", "--sparse", path, "-o", self.path("plain"))
            path = self.path("plain")
        self.assertEqual(result["size"], os.stat(path).st_size)
        self.assertLess(os.stat(path).st_blocks * 512, 6 << 20)
        self.same(path, form, raw)

    def test_pipes(self):
        raw = self.raw()
        sources = {"raw": raw, "qcow2": self.image("qcow2", source=raw)}
        for source_format, source in sources.items():
            for form, compression in (("raw", "none"), ("qcow2", "none"), ("qcow2", "zstd")):
                with self.subTest(source=source_format, format=form, compression=compression):
                    r, w = os.pipe()
                    os.set_blocking(w, False)
                    self.fds.append(r)
                    with subprocess.Popen(["sh", "-c", "exec cat >\"$1\"", "sh", self.path("got")],
                                          stdin=r) as reader:
                        try:
                            result = self.do_export(source, source_format, w, form, compression)
                        finally:
                            os.close(w)
                        self.assertEqual(reader.wait(TIMEOUT), 0)
                    with open(self.path("got"), "rb") as f:  # dense, as it came
                        data = f.read()
                    with open(self.path("sparse"), "wb") as f:
                        for i in range(0, len(data), 65536):
                            if data[i:i + 65536].strip(b"\0"):
                                f.seek(i)
                                f.write(data[i:i + 65536])
                        f.truncate(len(data))
                    self.check(result, source_format, form, compression, raw, self.path("sparse"))

    def test_reader_goes_away(self):
        r, w = os.pipe()
        self.fds.append(w)
        os.close(r)
        self.expect(self.run_export(self.raw(), "raw", w, "raw"), "Canceled", "read by nobody")

    def test_bad_outputs(self):
        raw = self.raw()
        before = self.write("target", b"mine")
        for flags, words in ((os.O_RDONLY, "not opened for writing"), (os.O_PATH, "not opened for writing"),
                             (os.O_WRONLY | os.O_APPEND, "opened for appending")):
            self.expect(self.run_export(raw, "raw", self.open(before, flags)), "InvalidSpec", words)
        self.expect(self.run_export(raw, "raw", self.open("/dev/full", os.O_WRONLY)), "InvalidSpec",
                    "a character device")
        self.assertEqual(self.read(before), b"mine")
        os.chmod(raw, 0o644)
        content = self.read(raw)
        fd = self.open(raw, os.O_RDWR)
        self.expect(self.run_export(raw, "raw", fd, "raw"), "InvalidSpec", "the image itself")
        self.assertEqual(self.read(raw), content)

    def test_bad_requests(self):
        raw = self.raw()
        self.expect(self.run_export(raw, "raw", self.target(), "vmdk"), "InvalidSpec", "raw or qcow2")
        self.expect(self.run_export(raw, "raw", self.target(), "raw", "gzip"), "InvalidSpec", "zstd")
        self.expect(self.run_export(raw, "qcow2", self.target()), "InvalidImage", "given as qcow2")


class QemuImg(Case):
    """A qemu-img that is missing, fails, hangs, or would like to do more."""

    def test_missing(self):
        self.refuse(self.image("vdi"), "QemuMissing", "no qemu-img", {"PATH": "/nonexistent"})

    def test_fails(self):
        image = self.image("vdi")
        message = self.refuse(image, "InvalidImage", "converted: qemu-img failed with status 3: No\\x1b",
                              self.fake("printf '    (1.00/100%%)\\rqemu-img: No\\033[1m\\n' >&2; exit 3"))
        self.assertNotIn("100%", message)
        self.refuse(image, "NoSpace", "the converted image",
                    self.fake("echo x: No space left on device >&2; exit 1"))
        # what it left is looked at like any image
        self.refuse(image, "InvalidImage", "is empty", self.fake(""))

    def test_is_confined(self):
        self.write("seen", b"")
        os.chmod(self.path("seen"), 0o666)
        env = self.fake("""export PATH=/usr/bin:/bin
            { cat /proc/self/status /proc/self/limits; readlink /proc/$$/fd/*
              bash -c ': </dev/tcp/127.0.0.1/1'; } >'%s' 2>&1; exit 1""" % self.path("seen"))
        self.refuse(self.image("vdi"), "InvalidImage", "status 1", env, **{"max-size": 1 << 30})
        seen = self.read(self.path("seen")).decode()
        self.assertIn("NoNewPrivs:\t1\n", seen)
        self.assertIn("socket: Permission denied", seen)
        for line in ("Max file size +%i " % (1 << 30), "Max address space +%i " % (2 << 30),
                     "Max cpu time +14400 ", "Max core file size +0 "):
            self.assertRegex(seen, line)
        self.assertNotIn(self.path("disk.vdi"), seen)
        if ROOT:
            self.assertIn("\t".join(["Uid:"] + [str(UID)] * 4), seen)
            for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
                self.assertIn(name + ":\t0000000000000000", seen)

    def test_killed_in_the_middle(self):
        os.mkfifo(self.path("alive"))
        os.chmod(self.path("alive"), 0o666)
        env = self.fake("exec 9>'%s'; echo $$ >&9; exec sleep 300" % self.path("alive"))
        files = {"input": self.image("vdi"), "output": self.make("output"), "scratch": self.make("scratch")}
        argv, fds, environment = self.command("import", files)
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=fds,
                              env={**environment, **env}) as p:
            self.addCleanup(p.kill)
            p.stdin.write(b"{}")
            p.stdin.close()
            with open(self.path("alive"), "rb") as f:
                self.addCleanup(self.end, int(f.readline()))
                p.kill()
                self.assertEqual(p.wait(TIMEOUT), -signal.SIGKILL)
                # the end of file comes when the last writer is gone
                self.assertTrue(select.select([f], [], [], TIMEOUT)[0], "qemu-img lives on")
                self.assertEqual(f.read(), b"")
            phases = [json.loads(line)["phase"] for line in p.stdout.read().splitlines()]
            self.assertEqual(phases[-1], "converting")

    def end(self, pid):
        """Of the fake qemu-img, where the test failed: its arguments say that it still is that process."""
        try:
            with open("/proc/%i/cmdline" % pid, "rb") as f:
                if f.read() == b"sleep\000300\0":
                    os.kill(pid, signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            pass


@unittest.skipUnless(ROOT, "needs root")
class Space(Case):
    def mount(self, *options):
        os.makedirs(self.path("store"), exist_ok=True)
        output("mount", *options, self.path("store"))
        self.addCleanup(output, "umount", "-l", self.path("store"))
        self.store = self.path("store")

    def test_disk_full(self):
        self.mount("-t", "tmpfs", "-o", "size=2m", "none")
        with open(self.path("dense"), "wb") as f:
            f.write(os.urandom(8 << 20))
        self.refuse(self.path("dense"), "NoSpace", "No space left", format="raw")
        fd, thread = self.feed(self.read(self.path("dense")))
        self.refuse(fd, "NoSpace", "No space left", format="raw")
        self.fds.remove(fd)
        os.close(fd)
        thread.join(TIMEOUT)
        # compressed it fits, converted it does not
        with open(self.path("text"), "wb") as f:
            f.write(b"\x55\xaa" * (4 << 20))
        image = self.image("vmdk", source=self.path("text"), options=("-o", "subformat=streamOptimized"))
        self.refuse(image, "NoSpace", "the converted image")
        out = self.open(self.path("store", "export"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.chmod(self.path("dense"), 0o444)
        for name in ("output", "scratch"):
            os.unlink(self.path("store", name))
        self.store = self.folder
        for compression in ("none", "zstd"):
            reply = self.run_image("export", {"source-format": "raw", "format": "raw",
                                              "compression": compression},
                                   {"input": self.path("dense"), "output": out})
            self.expect(reply, "NoSpace", "No space left")

    def test_from_another_file_system(self):
        """Where the kernel does not copy, zeros that are written become holes."""
        self.mount("-t", "tmpfs", "none")
        raw = self.raw()
        result = self.do_import(raw)
        self.assertEqual(self.read(self.result_path(result)), self.read(raw))
        self.assertLess(result["allocated"], 1300 << 10)
        self.assertLess(result["allocated"], os.stat(raw).st_blocks * 512)

    def test_reflink(self):
        for form in ("xfs", "btrfs"):
            if shutil.which("mkfs." + form):
                break
        else:
            self.skipTest("there is neither mkfs.xfs nor mkfs.btrfs")
        with open(self.path("fs"), "wb") as f:
            f.truncate(512 << 20)
        output("mkfs." + form, "-q", self.path("fs"))
        try:
            self.mount("-o", "loop", self.path("fs"))
        except subprocess.CalledProcessError:
            self.skipTest("no %s can be mounted here" % form)
        raw = os.path.join(self.store, "dense")
        with open(raw, "wb") as f:
            f.write(os.urandom(200 << 20))
            os.fsync(f.fileno())
        free = os.statvfs(self.store).f_bavail * os.statvfs(self.store).f_frsize
        result = self.do_import(raw, format="raw")
        left = os.statvfs(self.store).f_bavail * os.statvfs(self.store).f_frsize
        self.assertLess(free - left, 20 << 20)
        self.assertEqual(self.read(self.result_path(result)), self.read(raw))
        # not by what comes after: the two are files of their own
        self.patch(raw, 0, b"changed")
        self.assertNotEqual(self.read(self.result_path(result))[:7], b"changed")


def main():
    global PROGRAM
    if ROOT and "TEST_IMAGE_UNSHARED" not in os.environ:  # mounts end with the test, however it ends
        os.environ["TEST_IMAGE_UNSHARED"] = "1"
        os.execvp("unshare", ["unshare", "--mount", sys.executable, *sys.argv])
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    unittest.main()


if __name__ == "__main__":
    main()
