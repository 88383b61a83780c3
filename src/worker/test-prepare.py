#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""vmctl-prepare as a whole: what vmctld hands it, and what a hostile client could have handed vmctld.

test-prepare.py PROGRAM [unittest's options]. As root also what takes another uid, mounts and devices."""

import json
import os
import resource
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import unittest

import yaml

PROGRAM = None
UID = 61234  # nobody's
ROOT = os.geteuid() == 0
GROUPS = [UID + 1] if ROOT else None
TIMEOUT = 60  # generous: sanitizers, a busy machine
ERROR = "org.vmctl1.Error."
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOsMYh62/wSGUQ256dqeIYa5AHbcAPzWYH+/cx/jvhtD"
REQUEST = {
    "name": "web",
    "instance-id": "i-1",
    "hostname": None,
    "user": None,
    "ssh-key": None,
    "generate-key": False,
    "cloud-init": False,
    "image-format": None,
    "disk-size": 0,
}


def output(*argv, **kwargs):
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, timeout=TIMEOUT, **kwargs).stdout


def qemu_img(*argv):
    output("qemu-img", *[str(a) for a in argv])


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="test-prepare-")
        os.chmod(self.folder, 0o755)  # or "the service" cannot be told from another user
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.fds = []
        self.wrapper = []
        self.addCleanup(lambda: [os.close(fd) for fd in self.fds])

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, name, data):
        with open(self.path(name), "wb") as f:
            f.write(data)
        return self.path(name)

    def read(self, name):
        with open(self.path(name), "rb") as f:
            return f.read()

    def patch(self, path, offset, data):
        with open(path, "r+b") as f:
            f.seek(offset)
            f.write(data)

    def qcow2(self, name="base.qcow2", size="64M", options=()):
        qemu_img("create", "-q", "-f", "qcow2", *options, self.path(name), size)
        return self.path(name)

    def open(self, path, flags=os.O_RDONLY):
        fd = os.open(path, flags | os.O_CLOEXEC)
        self.fds.append(fd)
        return fd

    def make_outputs(self, names, folder):
        fds = {}
        for name in names:
            path = os.path.join(folder, name)
            fds[name] = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            self.fds.append(fds[name])
            if ROOT:
                os.fchown(fds[name], UID, UID)
        return fds

    def command(self, outputs, files, folder):
        """`files` are paths, or descriptors. All output files that are not named are left out."""
        fds = {}
        for name, file in files.items():
            fds[name] = file if isinstance(file, int) else self.open(file)
        fds.update(self.make_outputs(outputs, folder or self.folder))
        argv = [*self.wrapper, PROGRAM]
        if ROOT:
            argv += ["--uid", str(UID), "--gid", str(UID)]
        for name, fd in fds.items():
            argv += ["--" + name, str(fd)]
        env = dict(os.environ)
        if ROOT:  # the leak detector cannot look at a process that changed its uid
            env["ASAN_OPTIONS"] = "detect_leaks=0"
        return argv, list(fds.values()), env

    def run_prepare(self, outputs=(), request={}, files={}, folder=None, env={}):
        argv, fds, environment = self.command(outputs, files, folder)
        text = request if isinstance(request, bytes) else json.dumps({**REQUEST, **request}).encode()
        done = subprocess.run(argv, input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=fds,
                              timeout=TIMEOUT, env={**environment, **env}, extra_groups=GROUPS)
        self.assertEqual(done.stderr, b"")
        self.assertIn(done.returncode, (0, 1))
        reply = json.loads(done.stdout)
        self.assertEqual("error" in reply, done.returncode == 1)
        return reply

    def expect(self, outputs=(), request={}, files={}, **kwargs):
        reply = self.run_prepare(outputs, request, files, **kwargs)
        self.assertEqual(set(reply), {"result"}, reply)
        return reply["result"]

    def expect_error(self, name, words, outputs=("overlay",), request={}, files={}, **kwargs):
        reply = self.run_prepare(outputs, request, files, **kwargs)
        self.assertEqual(reply.get("error"), ERROR + name, reply)
        self.assertIn(words, reply["message"])
        self.assertEqual(set(reply), {"error", "message"})
        return reply["message"]


class Whole(Case):
    """A VM as 'vmctl create' makes it, read back by other people's programs."""

    def test_create(self):
        base = self.qcow2(size="1G")
        st = os.stat(base)
        request = {"generate-key": True, "cloud-init": True, "disk-size": 3 << 30}
        reply = self.expect(("overlay", "seed", "private-key", "public-key"), request, {"image": base})
        image = reply["image"]
        self.assertEqual(image["path"], base)
        self.assertEqual(image["ino"], st.st_ino)
        self.assertEqual(image["size"], st.st_size)
        self.assertEqual(image["mtime"], st.st_mtime_ns)
        self.assertEqual(image["ctime"], st.st_ctime_ns)
        self.assertGreaterEqual(image["btime"], 0)
        self.assertEqual(image["format"], "qcow2")
        self.assertEqual(image["virtual-size"], 1 << 30)
        self.assertEqual(reply["disk-size"], 3 << 30)
        self.assertNotIn("kernel", reply)
        self.check_overlay(base, "qcow2", 3 << 30)
        self.check_keys(reply["public-key"])
        self.check_seed(reply["public-key"])

    def check_overlay(self, base, base_format, size):
        info = json.loads(output("qemu-img", "info", "--output=json", self.path("overlay")))
        self.assertEqual(info["format"], "qcow2")
        self.assertEqual(info["virtual-size"], size)
        self.assertEqual(info.get("full-backing-filename"), base)
        self.assertEqual(info.get("backing-filename-format"), base_format)
        output("qemu-img", "check", "-q", self.path("overlay"))

    def check_keys(self, public):
        if ROOT:
            os.chown(self.path("private-key"), 0, 0)  # ssh-keygen looks at the mode of its own files alone
        derived = output("ssh-keygen", "-y", "-P", "", "-f", self.path("private-key"))
        self.assertEqual(derived.decode().strip(), public)
        self.assertEqual(self.read("public-key").decode(), public + "\n")
        self.assertTrue(public.endswith(" vmctl:web"))
        # both halves belong together
        signature = output("ssh-keygen", "-q", "-Y", "sign", "-n", "x", "-f", self.path("private-key"),
                           input=b"x", stderr=subprocess.DEVNULL)
        self.write("signature", signature)
        output("ssh-keygen", "-q", "-Y", "check-novalidate", "-n", "x", "-s", self.path("signature"),
               input=b"x")
        self.assertIn("(ED25519)", output("ssh-keygen", "-l", "-f", self.path("public-key")).decode())

    def seed_file(self, name):
        return output("isoinfo", "-R", "-i", self.path("seed"), "-x", "/" + name)

    def check_seed(self, public):
        label = output("blkid", "-p", "-s", "LABEL", "-s", "TYPE", "-o", "value", self.path("seed")).decode()
        self.assertEqual(label.split(), ["cidata", "iso9660"])
        self.assertEqual(output("isoinfo", "-R", "-f", "-i", self.path("seed")).split(),
                         [b"/meta-data", b"/user-data"])
        self.assertEqual(sorted(output("isoinfo", "-J", "-f", "-i", self.path("seed")).split()),
                         [b"/meta-data", b"/user-data"])
        listing = output("isoinfo", "-R", "-l", "-i", self.path("seed")).decode()
        self.assertEqual(listing.count("-r--------"), 2, listing)
        text = self.seed_file("user-data")
        self.assertTrue(text.startswith(b"#cloud-config\n"))
        config = yaml.safe_load(text)
        self.assertEqual(config["hostname"], "web")
        self.assertIs(config["disable_root"], True)
        self.assertEqual(config["users"], [{
            "name": "vm",
            "sudo": "ALL=(ALL) NOPASSWD:ALL",
            "shell": "/bin/bash",
            "lock_passwd": True,
            "ssh_authorized_keys": [public],
        }])
        self.assertEqual(yaml.safe_load(self.seed_file("meta-data")),
                         {"instance-id": "i-1", "local-hostname": "web"})

    def test_given_keys(self):
        lines = [KEY + ' "it\'s": #mine', KEY + " two"]
        reply = self.expect(("seed",), {"cloud-init": True, "ssh-key": "\r\n".join(["# keys", *lines]),
                                        "user": "joe", "hostname": "www.example.org"})
        self.assertNotIn("public-key", reply)
        self.assertEqual(reply["disk-size"], 0)
        config = yaml.safe_load(self.seed_file("user-data"))
        self.assertEqual(config["users"][0]["name"], "joe")
        self.assertEqual(config["users"][0]["ssh_authorized_keys"], lines)
        self.assertEqual(yaml.safe_load(self.seed_file("meta-data"))["local-hostname"], "www.example.org")

    def test_own_user_data(self):
        data = b"#cloud-config\n" + os.urandom((1 << 20) - 14)
        self.write("mine", data)
        self.expect(("seed",), {"cloud-init": True}, {"user-data": self.path("mine")})
        self.assertEqual(self.seed_file("user-data"), data)
        # read from the start wherever the client stopped reading
        fd = self.open(self.path("mine"))
        os.lseek(fd, 100, os.SEEK_SET)
        self.expect(("seed",), {"cloud-init": True}, {"user-data": fd})
        self.assertEqual(self.seed_file("user-data"), data)

    def test_raw_image(self):
        output("mkfs.ext4", "-q", self.path("disk"), "8M", stderr=subprocess.DEVNULL)
        reply = self.expect(("overlay",), {}, {"image": self.path("disk")})
        self.assertEqual(reply["image"]["format"], "raw")
        self.assertEqual(reply["disk-size"], 8 << 20)
        self.check_overlay(self.path("disk"), "raw", 8 << 20)

    def test_odd_size(self):
        """A qcow2 disk can end within a sector; its overlay ends behind it."""
        base = self.qcow2()
        self.patch(base, 24, struct.pack(">Q", (64 << 20) - 100))
        reply = self.expect(("overlay",), {}, {"image": base})
        self.assertEqual(reply["image"]["virtual-size"], (64 << 20) - 100)
        self.assertEqual(reply["disk-size"], 64 << 20)

    def test_kernel(self):
        kernel = bytearray(4096)
        kernel[0x1FE:0x200] = b"\x55\xaa"
        kernel[0x202:0x206] = b"HdrS"
        self.write("vmlinuz", kernel)
        self.write("initrd", b"x")
        files = {"kernel": self.path("vmlinuz"), "initrd": self.path("initrd")}
        reply = self.expect((), {}, files)
        self.assertEqual(reply["kernel"]["path"], self.path("vmlinuz"))
        self.assertEqual(reply["kernel"]["size"], 4096)
        self.assertEqual(reply["initrd"]["size"], 1)
        self.assertEqual(reply["disk-size"], 0)
        # an empty disk of its own
        reply = self.expect(("overlay",), {"disk-size": 1 << 30}, files)
        self.assertEqual(reply["disk-size"], 1 << 30)
        self.check_overlay(None, None, 1 << 30)
        # any content is a raw disk then
        self.write("disk", bytes(4096))
        reply = self.expect(("overlay",), {}, {**files, "image": self.path("disk")})
        self.assertEqual(reply["image"]["format"], "raw")

    def test_firmware_vars(self):
        data = os.urandom(540672)
        self.write("OVMF_VARS.fd", data)
        self.expect(("vars",), {}, {"firmware-vars-template": self.path("OVMF_VARS.fd")})
        self.assertEqual(self.read("vars"), data)

    def test_unnamed_format_and_stated_format(self):
        base = self.qcow2()
        self.expect(("overlay",), {"image-format": "qcow2"}, {"image": base})
        self.expect_error("FormatRefused", "given as raw", request={"image-format": "raw"},
                          files={"image": base})
        self.write("zeros", bytes(1 << 20))
        self.expect(("overlay",), {"image-format": "raw"}, {"image": self.path("zeros")})
        self.expect_error("InvalidImage", "given as qcow2", request={"image-format": "qcow2"},
                          files={"image": self.path("zeros")})

    def test_odd_paths(self):
        for name in ("with space", "quote's \"here\"", "a,b=c", "fat:rw:x", "json:{}", "new\nline",
                     "tab\t$(x);`y`", "gr\u00fc\u00dfe", "-b", "x (deleted)", "%s%n"):
            with self.subTest(name=name):
                os.mkdir(self.path(name))
                base = self.qcow2(os.path.join(name, name))
                reply = self.expect(("overlay",), {}, {"image": base})
                self.assertEqual(reply["image"]["path"], base)
                self.check_overlay(base, "qcow2", 64 << 20)

    def test_symbolic_links(self):
        """The service remembers where the file is, not how the user came there."""
        os.mkdir(self.path("real"))
        base = self.qcow2("real/base.qcow2")
        os.symlink("real", self.path("folder"))
        os.symlink("folder/base.qcow2", self.path("link"))
        for name in ("folder/base.qcow2", "link"):
            reply = self.expect(("overlay",), {}, {"image": self.path(name)})
            self.assertEqual(reply["image"]["path"], base)


class Images(Case):
    """Images that are not taken."""

    def refuse(self, path, name, words, **request):
        message = self.expect_error(name, words, request=request, files={"image": path})
        self.assertEqual(self.read("overlay"), b"")
        return message

    def test_other_formats(self):
        for name in ("vmdk", "vdi", "vhdx", "vpc", "qed", "parallels", "qcow"):
            with self.subTest(format=name):
                qemu_img("create", "-q", "-f", name, self.path(name), "8M")
                self.refuse(self.path(name), "FormatRefused", self.path(name))
        self.refuse(self.write("luks", b"LUKS\xba\xbe" + bytes(4090)), "FormatRefused", "LUKS")

    def test_qcow2_that_needs_another_file(self):
        self.qcow2()
        overlay = self.qcow2("o", "1M", ("-b", self.path("base.qcow2"), "-F", "qcow2"))
        self.refuse(overlay, "FormatRefused", "'%s'" % self.path("base.qcow2"))
        shadow = self.qcow2("s", "1M", ("-u", "-b", "/etc/shadow", "-F", "raw"))
        self.refuse(shadow, "FormatRefused", "'/etc/shadow'")
        data = self.qcow2("d", "1M", ("-o", "data_file=%s,data_file_raw=on" % self.path("raw")))
        self.refuse(data, "FormatRefused", "keeps its data in another file")

    def test_encrypted(self):
        base = self.qcow2()
        self.patch(base, 32, struct.pack(">I", 2))
        self.refuse(base, "FormatRefused", "encrypted")

    def test_corrupt(self):
        base = self.qcow2()
        self.patch(base, 72, struct.pack(">Q", 2))
        self.refuse(base, "InvalidImage", "corrupt")

    def test_cut_off(self):
        """A download that broke off, at various places, compressed or not."""
        self.write("raw", os.urandom(6 << 20))
        for option in ((), ("-c",), ("-o", "extended_l2=on")):
            whole = self.path("whole")
            qemu_img("convert", "-q", *option, "-f", "raw", "-O", "qcow2", self.path("raw"), whole)
            self.expect(("overlay",), {}, {"image": whole})
            size = os.stat(whole).st_size
            for keep in (50, 4096, 200000, size // 2, size - (1 << 20)):
                with self.subTest(option=option, keep=keep):
                    shutil.copy(whole, self.path("part"))
                    os.truncate(self.path("part"), keep)
                    # "is cut off: it ends at", "ends within its qcow2 header"
                    self.refuse(self.path("part"), "InvalidImage", " ends ")

    def test_no_image(self):
        self.refuse(self.write("empty", b""), "InvalidImage", "is empty")
        self.refuse(self.write("zeros", bytes(4096)), "InvalidImage", "is no disk image")
        self.refuse(self.write("text", b"Hello\n" * 512), "InvalidImage", "is no disk image")
        self.refuse(self.write("odd", bytes(1000)), "InvalidImage", "1000 bytes", **{"image-format": "raw"})
        self.refuse(self.write("page", b"<!DOCTYPE html>\n"), "InvalidImage", "HTML")
        self.refuse(self.write("packed", b"\x1f\x8b\x08\0"), "Compressed", "gzip")

    def test_escapes(self):
        path = self.write("red\x1b[31m", b"")
        self.assertIn("red\\x1b[31m'", self.refuse(path, "InvalidImage", "is empty"))

    def test_sizes(self):
        base = self.qcow2(size="64M")
        message = self.expect_error("InvalidSpec", "cannot hold", request={"disk-size": 1 << 20},
                                    files={"image": base})
        self.assertIn("A disk of 1 MiB cannot hold the image, which has 64 MiB", message)
        self.expect_error("InvalidSpec", "1 PiB", request={"disk-size": (1 << 50) + 1},
                          files={"image": base})

    def test_kernels(self):
        for data in (b"", b"x" * 4096, b"\x7fELF\2\1\1" + bytes(100)):
            self.write("k", data)
            self.expect_error("InvalidImage", self.path("k"), files={"kernel": self.path("k")})
        kernel = bytearray(4096)
        kernel[0x1FE:0x206] = b"\x55\xaa\0\0HdrS"
        self.write("k", kernel)
        self.write("i", b"")
        self.expect_error("InvalidImage", "is empty",
                          files={"kernel": self.path("k"), "initrd": self.path("i")})
        self.expect_error("InvalidSpec", "needs a kernel", files={"initrd": self.path("k")})
        self.refuse(self.path("k"), "InvalidImage", "a Linux kernel")


class Descriptors(Case):
    """What else a client could hand over in place of a file, or with it."""

    def refuse_everywhere(self, fd, words):
        for role in ("image", "kernel", "initrd"):
            self.expect_error("InvalidImage", words, files={role: fd})
        self.expect_error("InvalidSpec", words, ("seed",), {"cloud-init": True}, {"user-data": fd})

    def test_no_regular_file(self):
        os.mkfifo(self.path("fifo"))
        self.refuse_everywhere(self.open(self.path("fifo"), os.O_RDWR), "a FIFO")
        self.refuse_everywhere(self.open(self.folder), "a directory")
        self.refuse_everywhere(self.open("/dev/null"), "a character device")
        with socket.socket(socket.AF_UNIX) as s:
            self.refuse_everywhere(s.fileno(), "a socket")
        with select.epoll() as e:
            self.refuse_everywhere(e.fileno(), "regular file")

    @unittest.skipUnless(ROOT, "needs root")
    def test_block_device(self):
        os.mknod(self.path("disk"), stat.S_IFBLK | 0o600, os.makedev(7, 200))
        self.refuse_everywhere(self.open(self.path("disk"), os.O_PATH), "a block device")

    def test_rights(self):
        """A descriptor that anybody gets of a file that he may not read."""
        base = self.qcow2()
        self.refuse_everywhere(self.open(base, os.O_PATH), "not opened for reading")
        self.refuse_everywhere(self.open(base, os.O_WRONLY), "not opened for reading")
        self.refuse_everywhere(self.open(base, 3), "not opened for reading")  # for ioctl() alone
        self.expect(("overlay",), {}, {"image": self.open(base, os.O_RDWR)})

    def test_client_cannot_steer_reading(self):
        base = self.qcow2()
        fd = self.open(base)
        os.lseek(fd, 1 << 20, os.SEEK_SET)
        self.expect(("overlay",), {}, {"image": fd})
        try:
            fd = self.open(base, os.O_DIRECT)
        except OSError:
            return  # this file system has none
        self.expect(("overlay",), {}, {"image": fd})

    def test_gone(self):
        base = self.qcow2()
        fd = self.open(base)
        os.rename(base, base + "2")
        self.assertEqual(self.expect(("overlay",), {}, {"image": fd})["image"]["path"], base + "2")
        os.unlink(base + "2")
        self.expect_error("ImageMissing", "is a deleted file", files={"image": fd})
        with open(self.qcow2(), "rb") as f:
            os.unlink(base)
            self.write("base.qcow2", f.read())  # another file of that name
            self.expect_error("ImageMissing", "is a deleted file", files={"image": f.fileno()})
        fd = os.memfd_create("disk")
        self.fds.append(fd)
        self.expect_error("ImageMissing", "is a deleted file", files={"image": fd})

    def test_path_that_is_no_text(self):
        path = os.fsencode(self.folder) + b"/\xff"
        qemu_img("create", "-q", "-f", "qcow2", self.path("x"), "1M")
        os.rename(self.path("x"), path)
        message = self.expect_error("InvalidImage", "not UTF-8", files={"image": self.open(path)})
        self.assertIn("\\xff", message)

    def test_path_too_long_for_qcow2(self):
        folder = self.folder
        while len(folder) < 1000:
            folder = os.path.join(folder, "d" * 100)
            os.mkdir(folder)
        base = os.path.join(folder, "b" * 100)
        qemu_img("create", "-q", "-f", "qcow2", base, "1M")
        self.expect_error("InvalidImage", "only 1023 fit", files={"image": base})

    @unittest.skipUnless(ROOT, "needs root")
    def test_mount_of_another_namespace(self):
        """As with PrivateTmp= of the client's session, or of the service."""
        os.mkdir(self.path("private"))
        script = """mount -t tmpfs none "$1" && qemu-img create -q -f qcow2 "$1/base" 1M || exit
                    echo ready; read x"""
        with subprocess.Popen(["unshare", "-m", "sh", "-c", script, "sh", self.path("private")],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
            self.assertEqual(p.stdout.readline(), b"ready\n")
            fd = self.open("/proc/%i/root%s/base" % (p.pid, self.path("private")))
            self.expect_error("ImageMissing", "(No such file or directory)", files={"image": fd})
            p.stdin.close()

    @unittest.skipUnless(ROOT, "needs root")
    def test_covered_by_a_mount(self):
        """There is a file at that path, on the same file system even, but not this one."""
        fd = self.open(self.qcow2())
        other = self.qcow2("other.qcow2")
        output("mount", "--bind", other, self.path("base.qcow2"))
        self.addCleanup(output, "umount", self.path("base.qcow2"))
        self.expect_error("ImageMissing", "(but another file)", files={"image": fd})

    @unittest.skipUnless(ROOT, "needs root")
    def test_reads_with_clients_right(self):
        """The client could read it when it opened it; that the worker's own uid cannot is no matter."""
        base = self.qcow2()
        os.chmod(base, 0)
        self.expect(("overlay",), {}, {"image": base})


class Requests(Case):
    def test_user_data(self):
        cases = (
            (b"", "is empty"),
            (b"users: []\n", "'users: []'"),
            (b"\x1b]0;x\x07", "'\\x1b]0;x\\x07'"),
            (b"#cloud-config\n" + bytes(1 << 20), "larger than 1 MiB"),
        )
        for data, words in cases:
            self.write("u", data)
            self.expect_error("InvalidSpec", words, ("seed",), {"cloud-init": True},
                              {"user-data": self.path("u")})
        self.write("u", b"#cloud-config\n")
        for request in ({"ssh-key": KEY}, {"generate-key": True}):
            self.expect_error("InvalidSpec", "no SSH key", ("seed", "private-key", "public-key"),
                              {"cloud-init": True, **request}, {"user-data": self.path("u")})
        self.expect_error("InvalidSpec", "exclude", ("seed",), {}, {"user-data": self.path("u")})

    def test_keys(self):
        private = "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n"
        cases = ((private, "private key"), ("", "empty"), ("x", "Line 1"), ("ssh-rsa AAAA", "damaged"))
        for text, words in cases:
            request = {"cloud-init": True, "ssh-key": text}
            message = self.expect_error("InvalidKey", words, ("seed",), request)
            self.assertNotIn("c2VjcmV0", message)

    def test_bad_requests(self):
        self.expect_error("UnknownOption", "'color'", request={"color": 1})
        self.expect_error("InvalidSpec", "Host name 'a_b'", request={"hostname": "a_b"})
        large = b'{"name":"a"}' + b" " * (1 << 20)
        for text in (b"", b"{", b"[]", b'{"name":1}', large, b"[" * 100000, b"\xff"):
            self.assertIn("error", self.run_prepare((), text))

    def test_missing_outputs(self):
        base = self.qcow2()
        self.expect_error("Failed", "for the disk", (), files={"image": base})
        self.expect_error("Failed", "for the seed", (), {"cloud-init": True})
        self.expect_error("Failed", "for the key pair", ("private-key",), {"generate-key": True})
        self.expect_error("Failed", "firmware", ("vars",))

    def test_bad_options(self):
        for options in (["--nonsense", "3"], ["--image"], ["--image", "x"], ["--image", "0"], ["--uid", "1"],
                        ["--seed", "4", "--seed", "4"], ["extra"]):
            done = subprocess.run([PROGRAM, *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  timeout=TIMEOUT)
            self.assertEqual(done.returncode, 1)
            self.assertEqual(json.loads(done.stdout)["error"], ERROR + "Failed")
        done = subprocess.run([PROGRAM, "--image", "999"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              timeout=TIMEOUT)
        self.assertEqual(json.loads(done.stdout)["error"], ERROR + "IO")


class QemuImg(Case):
    """A qemu-img that is missing, fails or hangs."""

    def fake(self, script):
        os.makedirs(self.path("bin"), exist_ok=True)
        self.write("bin/qemu-img", b"#!/bin/sh\n" + script.encode())
        os.chmod(self.path("bin/qemu-img"), 0o755)
        return {"PATH": self.path("bin")}

    def refuse(self, name, words, env):
        return self.expect_error(name, words, request={"disk-size": 1 << 30}, env=env)

    def test_missing(self):
        self.refuse("QemuMissing", "no qemu-img", {"PATH": "/nonexistent::relative"})

    def test_not_executable(self):
        env = self.fake("")
        self.write("bin/qemu-img", b"\0nonsense")
        self.assertIn("Exec format error", self.refuse("IO", "Failed to start", env))

    def test_fails(self):
        message = self.refuse("Failed", "qemu-img failed with status 3: Could not\\x1b[1m", self.fake(
            "printf 'qemu-img: Could not\\033[1m' >&2; exit 3"))
        self.assertNotIn("\x1b", message)
        self.refuse("Failed", "ended by signal 9", self.fake("kill -9 $$"))
        self.refuse("NoSpace", "No space left on device", self.fake(
            "echo x: No space left on device >&2; exit 1"))

    def test_talks_without_end(self):
        env = self.fake("PATH=/usr/bin:/bin; head -c 10000000 /dev/zero | tr '\\0' x >&2; exit 1")
        message = self.refuse("Failed", "xxxx", env)
        self.assertLess(len(message), 1000)

    def test_is_confined(self):
        if ROOT:  # what a change of the uid does not take away
            self.wrapper = [shutil.which("setpriv"), "--inh-caps", "+sys_admin"]
        self.write("seen", b"")
        os.chmod(self.path("seen"), 0o666)
        env = self.fake("""export PATH=/usr/bin:/bin
            { cat /proc/self/status; readlink /proc/$$/fd/*; } >'%s'; true""" % self.path("seen"))
        self.expect(("overlay", "seed"), {"disk-size": 1 << 30, "cloud-init": True}, env=env)
        seen = self.read("seen").decode().splitlines()
        self.check_status(seen)
        self.assertIn(self.path("overlay"), seen)
        self.assertNotIn(self.path("seed"), seen)

    def check_status(self, lines):
        self.assertIn("NoNewPrivs:\t1", lines)
        if ROOT:
            self.assertIn("\t".join(["Uid:"] + [str(UID)] * 4), lines)
            self.assertIn("\t".join(["Gid:"] + [str(UID)] * 4), lines)
            self.assertIn("Groups:", [line.strip() for line in lines])
            for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
                self.assertIn(name + ":\t0000000000000000", lines)

    def check_limits(self, text):
        for name, value in (("cpu time", 20), ("core file size", 0), ("file size", 64 << 20)):
            self.assertRegex(text, "Max %s +%i " % (name, value))

    def test_killed_in_the_middle(self):
        """vmctld's deadline: nothing of it stays behind, qemu-img least of all."""
        os.mkfifo(self.path("alive"))
        os.chmod(self.path("alive"), 0o666)
        env = self.fake("exec 9>'%s'; echo $$ >&9; exec sleep 300" % self.path("alive"))
        argv, fds, environment = self.command(("overlay",), {}, None)
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=fds,
                              env={**environment, **env}, extra_groups=GROUPS) as p:
            self.addCleanup(p.kill)
            p.stdin.write(json.dumps({**REQUEST, "disk-size": 1 << 30}).encode())
            p.stdin.close()
            with open(self.path("alive"), "rb") as f:
                pid = int(f.readline())
                self.addCleanup(self.end, pid)
                with open("/proc/%i/status" % p.pid) as status, open("/proc/%i/limits" % p.pid) as limits:
                    self.check_status(status.read().splitlines())
                    self.check_limits(limits.read())
                p.kill()
                self.assertEqual(p.wait(TIMEOUT), -signal.SIGKILL)
                # the end of file comes when the last writer is gone
                self.assertTrue(select.select([f], [], [], TIMEOUT)[0], "qemu-img lives on")
                self.assertEqual(f.read(), b"")
            self.assertEqual(p.stdout.read(), b"")

    def end(self, pid):
        """Of the fake qemu-img, where the test failed: its arguments say that it still is that process."""
        try:
            with open("/proc/%i/cmdline" % pid, "rb") as f:
                if f.read() == b"sleep\000300\0":
                    os.kill(pid, signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            pass

    def test_error_ends_it(self):
        """An error found beside it does not wait for a qemu-img that hangs."""
        env = self.fake("exec sleep 300")
        self.expect_error("InvalidKey", "Line 1", ("overlay", "seed"),
                          {"disk-size": 1 << 30, "cloud-init": True, "ssh-key": "x"}, env=env)


@unittest.skipUnless(ROOT, "needs root")
class Space(Case):
    def setUp(self):
        super().setUp()
        os.mkdir(self.path("vm"))

    def mount(self, size):
        output("mount", "-t", "tmpfs", "-o", "mode=755,size=%i" % size, "none", self.path("vm"))
        self.addCleanup(output, "umount", "-l", self.path("vm"))

    def test_little(self):
        self.mount(2 << 20)
        message = self.expect_error("NoSpace", "2 MiB are free", ("overlay",), {"disk-size": 1 << 30},
                                    folder=self.path("vm"))
        self.assertIn("4 MiB are needed", message)

    def test_qemu_img_fills_it(self):
        """The tables of 1 PiB have 16 MiB."""
        self.mount(6 << 20)
        self.expect_error("NoSpace", "No space left on device", ("overlay",), {"disk-size": 1 << 50},
                          folder=self.path("vm"))


def main():
    global PROGRAM
    if ROOT and "TEST_PREPARE_UNSHARED" not in os.environ:  # mounts end with the test, however it ends
        os.environ["TEST_PREPARE_UNSHARED"] = "1"
        os.execvp("unshare", ["unshare", "--mount", sys.executable, *sys.argv])
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    unittest.main()


if __name__ == "__main__":
    main()
