#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""vmctl-build as vmctl runs it: what it makes of good archives, and that it refuses bad ones.

    test-build.py VMCTL_BUILD [TEST...]

Every image has to pass e2fsck, and debugfs looks at what is in it."""

import gzip
import hashlib
import io
import json
import os
import platform
import re
import shutil
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import unittest

PROGRAM = os.path.abspath(sys.argv.pop(1))
UUID = "0c7b4c1e-58a5-4d0e-9f37-1d2a6e1f0b55"
MTIME = 1700000000.5
ENVIRONMENT = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
ROOT_OFFSET = 66 << 20

DIR, LINK, SYMLINK = tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE


def entry(name, data=b"", kind=tarfile.REGTYPE, **fields):
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(data)
    info.mtime = MTIME
    info.mode = 0o755 if kind == DIR else 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def tar(*entries, form=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def digest(data):
    return hashlib.sha256(data).hexdigest()


def descriptor(data, **more):
    return {"digest": "sha256:" + digest(data), "size": len(data), **more}


def oci_files(*layers, architecture=ARCHITECTURE, index=None):
    """The files of an OCI layout with these layers."""
    config = json.dumps({"os": "linux", "architecture": architecture}).encode()
    manifest = json.dumps({"config": descriptor(config), "layers": [descriptor(l) for l in layers]}).encode()
    files = {"blobs/sha256/" + digest(blob): blob for blob in [config, manifest, *layers]}
    files["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
    files["index.json"] = json.dumps(index(manifest) if index else {"manifests": [descriptor(manifest)]}).encode()
    return files


def docker_files(*layers):
    config = json.dumps({"os": "linux", "architecture": ARCHITECTURE}).encode()
    names = [f"{i}/layer.tar" for i in range(len(layers))]
    files = dict(zip(names, layers))
    files["config.json"] = config
    files["manifest.json"] = json.dumps([{"Config": "config.json", "RepoTags": None, "Layers": names}]).encode()
    return files


def tar_of(files):
    return tar(*(entry(name, data) for name, data in files.items()))


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="vmctl-build-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.image = self.path("image")

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, data, mode=0o644):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(data)
        os.chmod(path, mode)
        return path

    def run_build(self, source, *options, image=None, outputs=(), inputs=(), stdin=subprocess.DEVNULL, **environment):
        fds = {"--output": os.open(image or self.image, os.O_RDWR | os.O_CREAT | os.O_TRUNC)}
        for name in outputs:
            fds[name] = os.open(self.path(name[2:]), os.O_RDWR | os.O_CREAT)
        for name, path in dict(inputs).items():
            fds[name] = os.open(path, os.O_RDONLY)
        arguments = [a for name, fd in fds.items() for a in (name, str(fd))]
        try:
            return subprocess.run([PROGRAM, *arguments, *options, source], pass_fds=fds.values(), stdin=stdin,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
                                  env={**ENVIRONMENT, "TMPDIR": self.folder, **environment})
        finally:
            for fd in fds.values():
                os.close(fd)

    def build(self, source, *options, **more):
        """Builds, checks the file system, and returns the result."""
        if isinstance(source, bytes):
            source = self.write("source", source)
        done = self.run_build(source, *options, **more)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(done.returncode, 0, (lines, done.stderr))
        for line in lines[:-1]:
            self.assertEqual(set(line), {"phase", "done", "total", "speed"})
        image = more.get("image") or self.image
        self.offset = f"?offset={ROOT_OFFSET}" if "--bootable" in options else ""
        check = subprocess.run(["e2fsck", "-fn", image + self.offset], env=ENVIRONMENT, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertEqual(check.returncode, 0, check.stdout)
        self.assertEqual(os.path.getsize(image), lines[-1]["result"]["size"])
        return lines[-1]["result"]

    def refuse(self, source, name, pattern, *options, **more):
        if isinstance(source, bytes):
            source = self.write("source", source)
        done = self.run_build(source, *options, **more)
        answer = json.loads(done.stdout.splitlines()[-1])
        self.assertEqual(done.returncode, 1, answer)
        self.assertEqual(answer["error"], "org.vmctl1.Error." + name, answer)
        self.assertRegex(answer["message"], pattern)

    def refuse_tar(self, pattern, *entries, **more):
        self.refuse(tar(*entries, **more), "InvalidArchive", pattern)

    def debugfs(self, command):
        done = subprocess.run(["debugfs", "-R", command, self.image + self.offset], env=ENVIRONMENT,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True)
        self.assertNotIn(b"File not found", done.stderr, command)
        return done.stdout

    def stat(self, path):
        return self.debugfs(f'stat "{path}"').decode()

    def names(self, path="/"):
        listing = self.debugfs(f'ls -p "{path}"').decode("utf-8", "surrogateescape")
        return {line.split("/")[5] for line in listing.splitlines() if line} - {".", "..", "lost+found"}

    def content(self, path):
        return self.debugfs(f'cat "{path}"')

    def inode(self, path):
        return int(re.search(r"Inode: (\d+)", self.stat(path)).group(1))


class Entries(Case):
    def test_metadata(self):
        capability = struct.pack("<IIIII", 0x02000001, 0x400, 0, 0, 0)
        self.build(tar(
            entry("./", kind=DIR, mode=0o711, uid=5),
            entry("./etc", kind=DIR, mode=0o2750, uid=3, gid=4),
            entry("./bin/su", b"x" * 10000, mode=0o4755, uid=100000, gid=70000),
            entry("./bin/again", kind=LINK, linkname="bin/su"),
            entry("./short", kind=SYMLINK, linkname="/etc/passwd"),
            entry("./just", kind=SYMLINK, linkname="a" * 59),
            entry("./block", kind=SYMLINK, linkname="b" * 60),
            entry("./long", kind=SYMLINK, linkname="c/" * 2000),
            entry("./null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
            entry("./nvme", kind=tarfile.BLKTYPE, devmajor=259, devminor=700),
            entry("./fifo", kind=tarfile.FIFOTYPE),
            entry("./empty"),
            entry("./caps", b"c", pax_headers={
                "SCHILY.xattr.security.capability": capability.decode("latin-1"),
                "SCHILY.xattr.user.comment": "hello"}),
            entry("./big", b"e", pax_headers={"SCHILY.xattr.user.large": "v" * 3000}),
            entry("./acl", b"a", pax_headers={
                "SCHILY.acl.access": "user::rw-,user:lisa:rwx:501,group::r--,mask::rwx,other::---"}),
            entry("./old", b"o", mtime=-86400 * 365),
            entry("./future", b"f", mtime=5000000000.25),
            entry("./\u00fcn\u00ef", b"u"),
        ))
        self.assertRegex(self.stat("/"), r"(?s)Mode:  0711.*User:     5.*Links: 5")
        self.assertRegex(self.stat("/etc"), r"(?s)Type: directory +Mode:  02750.*User:     3 +Group:     4")
        self.assertRegex(self.stat("/bin/su"),
                         r"(?s)Mode:  04755.*User: 100000 +Group: 70000.*Size: 10000.*Links: 2")
        self.assertRegex(self.stat("/bin/su"), r"mtime: 0x6553f100:77359400")
        self.assertEqual(self.inode("/bin/su"), self.inode("/bin/again"))
        self.assertRegex(self.stat("/bin"), r"Mode:  0755")
        self.assertIn('"/etc/passwd"', self.stat("/short"))
        self.assertIn("a" * 59, self.stat("/just"))
        self.assertEqual(self.content("/block"), b"b" * 60)
        self.assertEqual(self.content("/long"), b"c/" * 2000)
        self.assertRegex(self.stat("/null"), r"(?s)character special.*number: 01:03")
        self.assertRegex(self.stat("/nvme"), r"(?s)block special.*number: 259:700")
        self.assertIn("Type: FIFO", self.stat("/fifo"))
        self.assertRegex(self.stat("/empty"), r"Size: 0")
        self.assertIn(" ".join(f"{b:02x}" for b in capability), self.debugfs("ea_list /caps").decode())
        self.assertIn('user.comment (5) = "hello"', self.debugfs("ea_list /caps").decode())
        self.assertIn("user.large (3000)", self.debugfs("ea_list /big").decode())
        self.assertIn("system.posix_acl_access:\n    user::rw-\n    user:501:rwx\n",
                      self.debugfs("ea_list /acl").decode() + self.acl())
        self.assertRegex(self.stat("/old"), r"mtime: 0xfe1ecc80:")
        self.assertRegex(self.stat("/future"), r"mtime: 0x2a05f200:3b9aca01 ")
        self.assertIn("\u00fcn\u00ef", {n.encode("latin-1").decode("unicode_escape").encode("latin-1").decode()
                                        if "\\x" in n else n for n in self.names()})

    def acl(self):
        """What debugfs shows of the list as bytes: version 1, and six entries of which two have a number."""
        listing = self.debugfs("ea_list /acl").decode()
        values = bytes.fromhex(re.search(r"posix_acl_access \(\d+\) = ([0-9a-f ]+)", listing).group(1))
        self.assertEqual(values[12 - 4:][:8], struct.pack("<HHI", 2, 7, 501), listing)
        return "system.posix_acl_access:\n    user::rw-\n    user:501:rwx\n"

    def test_sparse(self):
        self.build(tar(entry("zeros", bytes(8 << 20)),
                       entry("mixed", b"a" * 4096 + bytes(2 << 20) + b"b" * 5000 + bytes(3000))))
        self.assertRegex(self.stat("/zeros"), r"(?s)Size: 8388608.*Blockcount: 0")
        self.assertRegex(self.stat("/mixed"), r"(?s)Size: 2109248.*Blockcount: 24")
        self.assertEqual(self.content("/mixed"), b"a" * 4096 + bytes(2 << 20) + b"b" * 5000 + bytes(3000))

    def test_gnu_sparse_entries(self):
        with open(self.path("holes"), "wb") as f:
            f.truncate(1 << 30)
            f.seek(512 << 20)
            f.write(b"middle")
        for form in ("gnu", "posix"):
            subprocess.run(["tar", "-cSf", self.path("sparse.tar"), f"--format={form}", "-C", self.folder, "holes"],
                           check=True)
            result = self.build(self.path("sparse.tar"))
            self.assertLess(result["size"], 128 << 20)
            self.assertRegex(self.stat("/holes"), r"(?s)Size: 1073741824.*Blockcount: 8")

    def test_large_file(self):
        data = os.urandom(1 << 20) * 40 + b"end"
        self.build(tar(entry("large", data)))
        self.assertEqual(digest(self.content("/large")), digest(data))
        self.assertLess(self.stat("/large").count("):"), 3, "it lies in few pieces")

    def test_many_files(self):
        count = 20000
        self.build(tar(*(entry(f"d/{'n' * (i % 200)}{i}", b"%d" % i) for i in range(count))))
        self.assertEqual(len(self.names("/d")), count)
        self.assertEqual(self.content(f"/d/{'n' * (19999 % 200)}19999"), b"19999")

    def test_many_folders(self):
        self.build(tar(*(entry(f"d/{i}", kind=DIR) for i in range(65001))))
        self.assertIn("Links: 1 ", self.stat("/d"))

    def test_later_entries_win(self):
        self.build(tar(entry("a", b"first"), entry("b", kind=LINK, linkname="a"), entry("a", b"second!"),
                       entry("c", b"gone"), entry("c", kind=SYMLINK, linkname="a"),
                       entry("d", kind=DIR, mode=0o700), entry("d/x", b"x"), entry("d", kind=DIR, mode=0o711),
                       entry("e", kind=DIR), entry("e", b"file"), entry("f", b"file"), entry("f", kind=DIR),
                       entry("f/g", b"below")))
        self.assertEqual(self.content("/a"), b"second!")
        self.assertEqual(self.content("/b"), b"first")
        self.assertIn("Links: 1 ", self.stat("/b"))
        self.assertIn("Type: symlink", self.stat("/c"))
        self.assertIn("Mode:  0711", self.stat("/d"))
        self.assertEqual(self.content("/d/x"), b"x")
        self.assertEqual(self.content("/e"), b"file")
        self.assertEqual(self.content("/f/g"), b"below")

    def test_lost_and_found(self):
        self.build(tar(entry("lost+found", kind=DIR, mode=0o700), entry("lost+found/x", b"kept")))
        self.assertEqual(self.content("/lost+found/x"), b"kept")
        self.refuse_tar("lost.found", entry("lost+found", b"a file"))

    def test_no_whiteouts_in_plain_tars(self):
        self.build(tar(entry("a", b"a"), entry(".wh.a", b"")))
        self.assertEqual(self.names(), {"a", ".wh.a"})

    def test_compressions(self):
        plain = tar(entry("x", b"content"))
        for command in (["gzip"], ["xz"], ["bzip2"], ["zstd", "-q"]):
            packed = subprocess.run(command, input=plain, stdout=subprocess.PIPE, check=True).stdout
            self.build(packed)
            self.assertEqual(self.content("/x"), b"content")
        with open(self.write("source", gzip.compress(plain)), "rb") as f:
            pipe = subprocess.Popen(["cat"], stdin=f, stdout=subprocess.PIPE)
        with pipe:
            self.build("-", stdin=pipe.stdout)
        self.assertEqual(self.content("/x"), b"content")


class Hostile(Case):
    def test_paths(self):
        self.refuse_tar("'/etc/passwd' is refused: its path is absolute", entry("/etc/passwd"))
        self.refuse_tar(r"'\.\./x' is refused: it has '\.\.'", entry("../x"))
        self.refuse_tar(r"'a/\.\./\.\./x'", entry("a/../../x"))
        self.refuse_tar(r"'a/\.\./'", entry("a/..", kind=DIR))
        self.refuse_tar("longer than 255", entry("n" * 256))
        self.refuse_tar("longer than 4095", entry("n/" * 2048 + "x"))
        self.refuse_tar(r"'a\\x0ab'.*'\.\.'".replace(".*", r"/\.\.' is refused: .*").replace("'/", "/"),
                        entry("a\nb/.."))

    def test_below_what_is_no_folder(self):
        self.refuse_tar("'a/x' is refused: 'a' above it is a symbolic link",
                        entry("a", kind=SYMLINK, linkname="/etc"), entry("a/x", b"x"))
        self.refuse_tar("'a' above it is no folder", entry("a", b"f"), entry("a/x", b"x"))
        self.refuse_tar("'a' above it is a symbolic link", entry("b", b"b"),
                        entry("a", kind=SYMLINK, linkname="."), entry("c", kind=LINK, linkname="a/b"))
        self.refuse_tar("not empty", entry("a/x", b"x"), entry("a", kind=SYMLINK, linkname="/etc"))
        self.refuse_tar("not empty", entry(".", kind=SYMLINK, linkname="/etc"))

    def test_hard_links(self):
        self.refuse_tar("of what it links to: its path is absolute", entry("a", kind=LINK, linkname="/etc/shadow"))
        self.refuse_tar(r"of what it links to: it has '\.\.'", entry("a", kind=LINK, linkname="../../etc/shadow"))
        self.refuse_tar("what is not there", entry("a", kind=LINK, linkname="b"), entry("b", b"b"))
        self.refuse_tar("what is not there", entry("a", kind=LINK, linkname="a"))
        self.refuse_tar("no file", entry("d", kind=DIR), entry("a", kind=LINK, linkname="d"))
        self.refuse_tar("more than 65000", entry("f", b"f"),
                        *(entry(f"l{i}", kind=LINK, linkname="f") for i in range(65000)))

    def test_values(self):
        self.refuse_tar("links to nothing", entry("a", kind=SYMLINK, linkname=""))
        self.refuse_tar("links to nothing, or to more", entry("a", kind=SYMLINK, linkname="x" * 4096))
        self.refuse_tar("attributes are larger", entry("a", pax_headers={"SCHILY.xattr.user.x": "v" * 5000}))
        self.refuse_tar("attribute that is too large", entry("a", pax_headers={"SCHILY.xattr.user.x": "v" * 70000}))
        self.refuse_tar("owner", entry("a", uid=1 << 40))
        self.refuse_tar("numbers of users", entry("a", pax_headers={
            "SCHILY.acl.access": "user::rw-,user:lisa:rwx,group::r--,mask::rwx,other::---"}))

    def test_sizes(self):
        huge, _ = entry("a")
        huge.size = 1 << 50
        self.refuse(huge.tobuf(tarfile.PAX_FORMAT), "InvalidArchive", "absurd")
        huge.size = 1 << 40
        self.refuse(huge.tobuf(tarfile.PAX_FORMAT), "InvalidArchive", "(?i)truncated|cannot be read")
        archive = tar(entry("a", os.urandom(100000)))
        for cut in (50000, 600):
            self.refuse(archive[:cut], "InvalidArchive", "(?i)truncated")
            self.refuse(gzip.compress(archive)[:cut], "InvalidArchive", "cannot be read")

    def test_what_is_no_archive(self):
        for junk in (b"", b"junk" * 1000, os.urandom(5000), b"\x1f\x8b" + b"x" * 100):
            self.refuse(junk, "InvalidArchive", "cannot be read")
        self.refuse("/dev/null", "InvalidArchive", "cannot be read")
        self.refuse("/nowhere", "IO", "No such file")

    def test_nothing_is_left(self):
        self.refuse_tar("absolute", entry("/x"))
        self.assertEqual(sorted(os.listdir(self.folder)), ["image", "source"])
        self.assertEqual(os.stat(self.image).st_blocks, 0)


class Sizes(Case):
    def test_too_small(self):
        archive = tar(entry("a", os.urandom(30 << 20)))
        self.refuse(archive, "ImageTooSmall", "16 MiB is too small for the files, which need 4[0-9] MiB",
                    "--size", str(16 << 20))

    def test_the_size_that_is_named_suffices(self):
        archive = tar(entry("a", os.urandom(30 << 20)), *(entry(f"d{i}/f", b"x") for i in range(3000)))
        source = self.write("source", archive)
        done = self.run_build(source, "--size", "1000000")
        needed = int(re.search(r"need (\d+) MiB", done.stdout.decode()).group(1))
        self.build(source, "--size", str(needed << 20))

    def test_free_space(self):
        self.build(tar(entry("a", os.urandom(10 << 20))))
        stats = self.debugfs("stats").decode()
        free = int(re.search(r"Free blocks: +(\d+)", stats).group(1))
        self.assertGreaterEqual(free * 4096, 64 << 20)
        self.assertLess(os.stat(self.image).st_blocks * 512, 14 << 20, "the rest of the image is a hole")

    @unittest.skipIf(os.getuid() != 0, "mounts")
    def test_disk_full(self):
        """The host's disk, that is."""
        source = self.write("source", tar(entry("a", os.urandom(30 << 20)), entry("b", b"b")))
        os.mkdir(self.path("small"))
        script = 'mount -t tmpfs -o size=20m none "$1" && exec "$2" --output 3 "$3" 3<>"$1/image"'
        done = subprocess.run(["unshare", "--mount", "sh", "-c", script, "-", self.path("small"), PROGRAM, source],
                              stdout=subprocess.PIPE, env=ENVIRONMENT, timeout=60)
        answer = json.loads(done.stdout.splitlines()[-1])
        self.assertEqual((done.returncode, answer["error"]), (1, "org.vmctl1.Error.NoSpace"), answer)
        self.assertIn("/a", answer["message"])

    def test_label_and_uuid(self):
        result = self.build(tar(entry("a")), "--label", "my-root", "--uuid", UUID.upper())
        self.assertEqual((result["label"], result["uuid"]), ("my-root", UUID))
        self.assertRegex(self.debugfs("stats").decode(), f"(?s)my-root.*{UUID}")
        self.refuse(tar(entry("a")), "InvalidSpec", "UUID", "--uuid", "junk")
        self.refuse(tar(entry("a")), "InvalidSpec", "label", "--label", "x" * 17)

    def test_reproducible(self):
        archive = tar(entry("a", b"a"), entry("d/b", os.urandom(100000)), entry("l", kind=SYMLINK, linkname="a"))
        for options in ((), ("--bootable",)):
            source = self.write("source", tar_of(kernel_files(b"k")) if options else archive)
            images = [self.path("one"), self.path("two")]
            for image in images:
                self.build(source, "--uuid", UUID, *options, image=image, SOURCE_DATE_EPOCH="1600000000")
            digests = {digest(open(image, "rb").read()) for image in images}
            self.assertEqual(len(digests), 1, options)


class Folders(Case):
    def make(self):
        root = self.path("root")
        self.write("root/etc/file", b"text", 0o640)
        self.write("root/usr/bin/tool", b"#!", 0o4755)
        os.link(self.path("root/usr/bin/tool"), self.path("root/usr/bin/same"))
        os.symlink("/etc/shadow", self.path("root/link"))
        os.mkfifo(self.path("root/fifo"))
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(self.path("root/socket"))
        with open(self.path("root/holes"), "wb") as f:
            f.truncate(1 << 30)
            f.seek(300 << 20)
            f.write(b"x")
        return root

    def test_folder(self):
        root = self.make()
        if os.getuid() == 0:
            os.chown(self.path("root/etc/file"), 12, 34)
            os.mknod(self.path("root/null"), 0o600 | 0o020000, os.makedev(1, 3))
        os.utime(self.path("root/etc/file"), ns=(1, 1234567890123456789))
        result = self.build(root)
        self.assertLess(result["size"], 200 << 20)
        self.assertEqual(self.content("/etc/file"), b"text")
        self.assertRegex(self.stat("/etc/file"), r"mtime: 0x499602d2:1d6f3454")
        self.assertEqual(self.inode("/usr/bin/tool"), self.inode("/usr/bin/same"))
        self.assertIn('"/etc/shadow"', self.stat("/link"))
        self.assertIn("Type: socket", self.stat("/socket"))
        self.assertRegex(self.stat("/holes"), r"(?s)Size: 1073741824.*Blockcount: 8")
        if os.getuid() == 0:
            self.assertRegex(self.stat("/etc/file"), r"User:    12 +Group:    34")
            self.assertIn("number: 01:03", self.stat("/null"))
            self.build(root, "--root-owned")
            self.assertRegex(self.stat("/etc/file"), r"User:     0 +Group:     0")

    def test_reproducible(self):
        names = ["a", "b", "c/d", "c/e"]
        for root, order in (("one", names), ("two", names[::-1])):
            for name in order:
                self.write(f"{root}/{name}", name.encode() * 5000)
            for name in [*names, "c", "."]:
                os.utime(self.path(f"{root}/{name}"), (MTIME, MTIME))
            self.build(self.path(root), "--uuid", UUID, image=self.path(root + ".img"),
                       SOURCE_DATE_EPOCH="1600000000")
        self.assertEqual(*(digest(open(self.path(n), "rb").read()) for n in ("one.img", "two.img")))

    def test_names_that_are_no_text(self):
        os.makedirs(os.fsencode(self.path("root")) + b"/\xff\n")
        self.build(self.path("root"))
        self.refuse(self.path("\udcfe"), "IO", r"\\xfe': No such file")
        self.refuse_tar(r"'\\xff' above it", entry("\udcff", b"f"), entry("\udcff/x", b"x"),
                        form=tarfile.GNU_FORMAT)

    def test_unreadable(self):
        self.refuse(self.path("nothing"), "IO", "nothing")


class Containers(Case):
    base = tar(entry("etc/", kind=DIR), entry("etc/a", b"a"), entry("etc/b", b"b"), entry("dir/low", b"low"),
               entry("dir/sub/low", b"low"), entry("gone/x", b"x"), entry("link", kind=SYMLINK, linkname="etc"))
    upper = tar(entry("etc/a", b"new"), entry("etc/.wh.b"), entry("dir/high", b"high"), entry("dir/.wh..wh..opq"),
                entry("dir/sub/high", b"h"), entry(".wh.gone"), entry(".wh.never"), entry("hard", kind=LINK,
                                                                                         linkname="etc/a"))

    def check_layers(self):
        self.assertEqual(self.names(), {"etc", "dir", "link", "hard"})
        self.assertEqual(self.names("/etc"), {"a"})
        self.assertEqual(self.names("/dir"), {"high", "sub"})
        self.assertEqual(self.names("/dir/sub"), {"high"})
        self.assertEqual(self.content("/etc/a"), b"new")
        self.assertEqual(self.inode("/etc/a"), self.inode("/hard"))

    def put(self, files):
        for name, data in files.items():
            self.write("layout/" + name, data)
        return self.path("layout")

    def zstd(self, data):
        return subprocess.run(["zstd", "-q"], input=data, stdout=subprocess.PIPE, check=True).stdout

    def test_oci_folder(self):
        self.build(self.put(oci_files(gzip.compress(self.base), self.zstd(self.upper))))
        self.check_layers()

    def test_oci_archive(self):
        archive = tar_of(oci_files(gzip.compress(self.base), self.upper))
        self.build(archive)
        self.check_layers()
        self.build(gzip.compress(archive))
        self.check_layers()

    def test_docker_archive(self):
        self.build(tar_of(docker_files(self.base, self.upper)))
        self.check_layers()

    def test_platforms(self):
        other = b'{"layers":[]}'

        def index(manifest):
            return {"manifests": [
                descriptor(other, platform={"os": "linux", "architecture": "s390x"}),
                descriptor(manifest, platform={"os": "linux", "architecture": ARCHITECTURE}),
                descriptor(other, platform={"os": "unknown", "architecture": "unknown"})]}
        self.build(tar_of(oci_files(self.base, self.upper, index=index)))
        self.check_layers()
        self.refuse(tar_of(oci_files(self.base, index=lambda m: {"manifests": index(m)["manifests"][::2]})),
                    "InvalidArchive", "nothing for this machine")
        self.refuse(tar_of(oci_files(self.base, architecture="s390x")), "InvalidArchive", "linux/s390x")
        self.refuse(tar_of(oci_files(self.base, index=lambda m: {"manifests": [index(m)["manifests"][1]] * 2})),
                    "InvalidArchive", "several images")

    def test_replacing_folders(self):
        lower = tar(entry("a/b/c", b"c"), entry("f", b"f"))
        self.build(tar_of(oci_files(lower, tar(entry("a", b"file"), entry("f", kind=DIR), entry("f/x", b"x")))))
        self.assertEqual(self.content("/a"), b"file")
        self.assertEqual(self.content("/f/x"), b"x")

    def test_hostile(self):
        good = oci_files(self.base)
        layer = next(n for n in good if digest(self.base) in n)
        self.refuse(tar_of({**good, layer: self.base + b"x"}), "DigestMismatch", "has the digest [0-9a-f]{64} instead")
        self.refuse(tar_of({n: d for n, d in good.items() if n != layer}), "InvalidArchive", "cannot be read")
        self.refuse(tar_of({**good, "index.json": b"{"}), "InvalidArchive", "not JSON")
        self.refuse(tar_of({**good, "index.json": b"[]"}), "InvalidArchive", "no manifests")
        bad = json.dumps({"manifests": [{"digest": "sha256:../../../etc/passwd"}]}).encode()
        self.refuse(tar_of({**good, "index.json": bad}), "InvalidArchive", "SHA-256")
        loop = json.dumps({"manifests": []})
        self.refuse(tar_of({**good, "index.json": loop.encode()}), "InvalidArchive", "nothing for this machine")
        docker = docker_files(self.base)
        for path in ("/etc/passwd", "../x", "a/../../x"):
            docker["manifest.json"] = json.dumps([{"Layers": [path]}]).encode()
            self.refuse(tar_of(docker), "InvalidArchive", r"absolute path|\.\.")
        docker["manifest.json"] = json.dumps([{"Layers": ["0/layer.tar"]}] * 2).encode()
        self.refuse(tar_of(docker), "InvalidArchive", "several images")
        self.refuse(tar_of(oci_files(self.base, tar(entry("link/x", b"x")))), "InvalidArchive", "symbolic link")
        self.refuse(tar_of(oci_files(self.base, tar(entry("../.wh.x")))), "InvalidArchive", r"'\.\.'")

    def test_folder_with_links_out(self):
        files = oci_files(self.base)
        layout = self.put(files)
        layer = next(n for n in files if digest(self.base) in n)
        os.rename(os.path.join(layout, layer), self.path("outside"))
        os.symlink(self.path("outside"), os.path.join(layout, layer))
        self.refuse(layout, "InvalidArchive", "cannot be read")


class Containerfiles(Case):
    def tools(self, **scripts):
        """A PATH that has these tools and what they need, but no real builder."""
        for name, script in scripts.items():
            self.write(f"bin/{name}", b"#!/bin/sh\n" + script.encode(), 0o755)
        return self.path("bin")

    def context(self):
        self.write("context/Containerfile", b"FROM scratch\n")
        return self.path("context")

    def fake(self, **names):
        archive = self.write("saved.tar", tar_of(docker_files(Containers.base)))
        log = self.path("log")
        return self.tools(**{name: f'echo "$0 $*" >> {log}\ncase $1 in build|bud) echo step; echo sha256:abc ;;\n'
                                   f'save|push) /bin/cat {archive} ;; esac\n' for name in names})

    def test_builders(self):
        for name, words in (("podman", ["build --quiet --file", "save --quiet --format=oci-archive sha256:abc"]),
                            ("buildah", ["bud --quiet", "push --quiet sha256:abc docker-archive:/dev/stdout"]),
                            ("docker", ["build --quiet", "save sha256:abc"])):
            tools = self.fake(**{name: True})
            if name == "buildah" or name == "docker":
                if shutil.which("podman", path=SYSTEM_PATH) or (
                        name == "docker" and shutil.which("buildah", path=SYSTEM_PATH)):
                    continue
            self.build(self.context(), PATH=tools)
            with open(self.path("log"), encoding="utf-8") as f:
                log = f.read()
            for word in words:
                self.assertIn(f"/{name} {word}", log)
            self.assertEqual(self.content("/etc/a"), b"a")
            shutil.rmtree(tools)
            os.unlink(self.path("log"))

    def test_file_option(self):
        os.mkdir(self.path("plain"))
        other = self.write("Other", b"FROM scratch\n")
        self.build(self.path("plain"), "--file", other, PATH=self.fake(podman=True))
        with open(self.path("log"), encoding="utf-8") as f:
            self.assertIn(f"--file {other} -- {self.path('plain')}", f.read())
        self.refuse(self.path("plain"), "IO", "nowhere", "--file", "/nowhere")

    def test_failures(self):
        self.refuse(self.context(), "Failed", "'podman' failed with exit status 3", PATH=self.tools(podman="exit 3"))
        self.refuse(self.context(), "Failed", "did not say", PATH=self.tools(podman="echo"))
        self.refuse(self.context(), "Failed", "did not say", PATH=self.tools(podman="echo --rm"))
        os.unlink(self.path("bin/podman"))
        if not any(shutil.which(b, path=SYSTEM_PATH) for b in ("podman", "buildah", "docker")):
            self.refuse(self.context(), "ToolMissing", "podman, buildah or docker", PATH=self.tools(other=""))


def kernel_files(kernel, version="6.1.0-9"):
    return {f"boot/vmlinuz-{version}": kernel, f"boot/initrd.img-{version}": b"initrd of " + kernel}


class BootFiles(Case):
    def take(self, files, *links, inputs=()):
        source = tar(*(entry(n, d) for n, d in files.items()),
                     *(entry(n, kind=SYMLINK, linkname=t) for n, t in links))
        result = self.build(source, outputs=("--kernel-output", "--initrd-output"), inputs=inputs)
        with open(self.path("kernel-output"), "rb") as k, open(self.path("initrd-output"), "rb") as i:
            return result["kernel"], result["initrd"], k.read(), i.read()

    def test_newest(self):
        files = {**kernel_files(b"nine"), **kernel_files(b"ten", "6.1.0-10"), **kernel_files(b"old", "6.9.0.old"),
                 **kernel_files(b"rescue", "9-rescue-1")}
        self.assertEqual(self.take(files), ("/boot/vmlinuz-6.1.0-10", "/boot/initrd.img-6.1.0-10", b"ten",
                                            b"initrd of ten"))

    def test_modules_folder(self):
        self.assertEqual(self.take({"usr/lib/modules/6.5/vmlinuz": b"m", "boot/initramfs-6.5.img": b"i"},
                                   ("lib", "usr/lib")),
                         ("/usr/lib/modules/6.5/vmlinuz", "/boot/initramfs-6.5.img", b"m", b"i"))

    def test_links(self):
        self.assertEqual(self.take({"boot/kernel": b"k", "boot/ram": b"r"}, ("vmlinuz", "../../boot/kernel"),
                                   ("initrd.img", "/boot/ram")), ("/boot/kernel", "/boot/ram", b"k", b"r"))
        self.refuse(tar(entry("vmlinuz", kind=SYMLINK, linkname="vmlinuz")), "KernelMissing", "no kernel",
                    outputs=("--kernel-output",))
        self.refuse(tar(entry("vmlinuz", kind=SYMLINK, linkname="/../../../../../../proc/version")), "KernelMissing",
                    "no kernel", outputs=("--kernel-output",))

    def test_names_that_are_no_text(self):
        for name in ("b'oot/kernel", "b\noot/kernel"):
            self.refuse(tar(entry(name, b"k"), entry("boot/vmlinuz-1", kind=SYMLINK, linkname="/" + name)),
                        "KernelMissing", "no kernel", "--bootable")

    def test_given(self):
        kernel = self.write("given", b"given")
        self.assertEqual(self.take(kernel_files(b"k"), inputs={"--kernel": kernel}), (None, None, b"given", b""))

    def test_none(self):
        self.assertEqual(self.build(tar(entry("a")))["kernel"], None)
        self.refuse(tar(entry("a")), "KernelMissing", "neither /boot", "--bootable")


class Bootable(Case):
    def test_disk(self):
        result = self.build(tar_of(kernel_files(b"k" * 5000)), "--bootable", "--uuid", UUID, "--append",
                            "console=ttyS0  quiet;x")
        table = json.loads(subprocess.run(["sfdisk", "--json", self.image], env=ENVIRONMENT, check=True,
                                          stdout=subprocess.PIPE).stdout)["partitiontable"]
        self.assertEqual(table["label"], "gpt")
        bios, esp, root = table["partitions"]
        self.assertEqual(root["type"], "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709")
        self.assertEqual(root["uuid"].lower(), result["partition-uuid"])
        self.assertEqual(root["start"] * 512, ROOT_OFFSET)
        self.assertEqual(self.content("/boot/grub/grub.cfg").decode(),
                         "set timeout=0\nlinux '/boot/vmlinuz-6.1.0-9' "
                         f"root=PARTUUID={result['partition-uuid']} ro 'console=ttyS0' 'quiet;x'\n"
                         "initrd '/boot/initrd.img-6.1.0-9'\nboot\n")
        self.assertIn("normal.mod", self.names("/boot/grub/i386-pc"))
        self.assertIn("normal.mod", self.names("/boot/grub/x86_64-efi"))
        with open(self.image, "rb") as f:
            self.assertEqual(f.read(512)[510:], b"\x55\xaa")
            f.seek(bios["start"] * 512 + 0x1f4)
            self.assertEqual(struct.unpack("<Q", f.read(8))[0], bios["start"] + 1)
        efi = subprocess.run(["mdir", "-b", "-i", f"{self.image}@@{esp['start'] * 512}", "::/EFI/BOOT"], check=True,
                             stdout=subprocess.PIPE, env={**ENVIRONMENT, "MTOOLS_SKIP_CHECK": "1"}).stdout
        self.assertIn(b"BOOTX64.EFI", efi)

    def test_own_configuration(self):
        files = {**kernel_files(b"k"), "boot/grub/grub.cfg": b"# own\n"}
        self.build(tar_of(files), "--bootable")
        self.assertEqual(self.content("/boot/grub/grub.cfg"), b"# own\n")
        self.build(tar_of(files), "--bootable", "--append", "quiet")
        self.assertIn(b"'quiet'", self.content("/boot/grub/grub.cfg"))

    def test_own_modules(self):
        files = kernel_files(b"k")
        for name in ("i386-pc", "x86_64-efi"):
            for module in os.listdir(f"/usr/lib/grub/{name}"):
                path = f"/usr/lib/grub/{name}/{module}"
                if os.path.isfile(path):
                    with open(path, "rb") as f:
                        files[path[1:]] = f.read()
            files[f"usr/lib/grub/{name}/own.mod"] = b"of the tree"
        self.build(tar_of(files), "--bootable")
        self.assertEqual(self.content("/boot/grub/i386-pc/own.mod"), b"of the tree")
        files["usr/lib/grub/i386-pc/kernel.img"] = b"junk"
        self.refuse(tar_of(files), "Failed", "grub-mkimage", "--bootable")
        self.assertEqual([n for n in os.listdir(self.folder) if n.startswith("vmctl-grub")], [])

    def test_given_kernel(self):
        kernel, initrd = self.write("k", b"given kernel"), self.write("i", b"given initrd")
        self.build(tar_of({"boot/grub/grub.cfg": b"# own\n"}), "--bootable",
                   inputs={"--kernel": kernel, "--initrd": initrd})
        self.assertEqual(self.content("/boot/vmlinuz-given"), b"given kernel")
        self.assertIn(b"initrd '/boot/initrd.img-given'", self.content("/boot/grub/grub.cfg"))

    def test_append(self):
        for append in ("a'b", 'a="b c"', "a\\b", "a\nb", "\u00fc"):
            self.refuse(tar_of(kernel_files(b"k")), "InvalidSpec", "--append", "--bootable", "--append", append)
        self.refuse(tar(entry("a")), "InvalidSpec", "--bootable", "--append", "x")


SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

if __name__ == "__main__":
    unittest.main()
