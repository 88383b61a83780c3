#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""vmctl-ssh against a real sshd on loopback, and against everything that only pretends to be one.

test-ssh.py PROGRAM [unittest's options]. As root also what takes mounts and another user."""

import base64
import contextlib
import getpass
import hashlib
import io
import json
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import unittest

PROGRAM = None
ROOT = os.geteuid() == 0
USER = getpass.getuser()
SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
ERROR = "org.vmctl1.Error."
TIMEOUT = 60  # generous: sanitizers, a busy machine
SECOND = 1000000
KEYS = None
PEAK_MAX = 24 << 10  # KiB
OUTPUT_KEPT = 64 << 10  # bytes: each search goes through them all


def output(*argv, **kwargs):
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, timeout=TIMEOUT, **kwargs).stdout


class Keys:
    """Made once: they take time."""

    def __init__(self, folder):
        self.folder = folder
        for name, kind, passphrase in (("user", "ed25519", ""), ("host", "ed25519", ""), ("other", "ed25519", ""),
                                       ("ecdsa", "ecdsa", ""), ("rsa", "rsa", ""), ("locked", "ed25519", "x")):
            output("ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "", "-f", self.path(name))

    def path(self, name):
        return os.path.join(self.folder, name)

    def public(self, name):
        with open(self.path(name + ".pub")) as f:
            return " ".join(f.read().split()[:2])

    def digest(self, name):
        blob = base64.b64decode(self.public(name).split()[1])
        return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


class Worker:
    """A run of it, whose output is collected beside it."""

    def __init__(self, request, key="user", known=None, files=(), port=None, socket_fd=None, read_output=True,
                 log=None):
        self.lines = []
        self.frames = []
        self.output = bytearray()
        self.changed = threading.Condition()
        fds = []
        argv = [PROGRAM]
        if key is not None:
            fds.append(os.open(KEYS.path(key), os.O_RDONLY))
            argv += ["--private-key", str(fds[0])]
        if known is not None:
            fds.append(os.memfd_create("known"))
            os.write(fds[-1], known.encode())
            os.lseek(fds[-1], 0, os.SEEK_SET)
            argv += ["--known-host", str(fds[-1])]
        self.output_fd, fd = os.pipe()
        fds.append(fd)
        argv += ["--output", str(fd)]
        for f in files:
            argv += ["--file", str(f)]
        if socket_fd is not None:
            argv += ["--socket", str(socket_fd)]
        if log is not None:
            argv += ["--log", str(log)]
        keep = fds + list(files) + [fd for fd in (socket_fd, log) if fd is not None]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=keep)
        for fd in fds:
            os.close(fd)
        whole = {"user": USER, "cloud-init": False, **request}
        if port:
            whole["port"] = port
        self.process.stdin.write(json.dumps(whole).encode())
        self.process.stdin.close()
        self.threads = [threading.Thread(target=self.read_lines)]
        if read_output:
            self.threads.append(threading.Thread(target=self.read_frames))
        for t in self.threads:
            t.start()

    def read_lines(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(json.loads(line))
                self.changed.notify_all()
        with self.changed:
            self.lines.append(None)
            self.changed.notify_all()

    def read_frames(self):
        with open(self.output_fd, "rb") as f:
            while header := f.read(8):
                step, stream, length = struct.unpack("=HHI", header)
                data = f.read(length)
                with self.changed:
                    self.frames.append((step, stream, data if length < 4096 else length))
                    self.output += data[-4096:]
                    del self.output[:-OUTPUT_KEPT]
                    self.changed.notify_all()

    def text(self, step=None, stream=1):
        return b"".join(d for n, s, d in self.frames if s == stream and step in (None, n)).decode()

    def wait_for(self, condition):
        with self.changed:
            if not self.changed.wait_for(lambda: condition() or None in self.lines, TIMEOUT):
                raise TimeoutError(self.lines)
        if not condition():
            raise AssertionError(self.lines)

    def wait_for_output(self, pattern):
        self.wait_for(lambda: re.search(pattern, bytes(self.output)))
        return re.search(pattern, bytes(self.output))

    def wait_for_phase(self, name):
        self.wait_for(lambda: any(line and line.get("phase") == name for line in self.lines))

    def finish(self):
        status = self.process.wait(TIMEOUT)
        for t in self.threads:
            t.join(TIMEOUT)
        if len(self.threads) == 1:
            os.close(self.output_fd)
        self.process.stdout.close()
        last = self.lines[-2] if len(self.lines) > 1 else None
        if status >= 0:
            assert status == (1 if "error" in last else 0), (status, last)
            assert sum("error" in line or "result" in line for line in self.lines[:-1]) == 1
        return last

    def phases(self):
        return [line["phase"] for line in self.lines[:-2] if line["phase"] not in ("uploading", "downloading")]


class Case(unittest.TestCase):
    config = ""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="test-ssh-")
        os.chmod(self.folder, 0o755)
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.fds = []
        self.addCleanup(lambda: [os.close(fd) for fd in self.fds])
        self.write("authorized", KEYS.public("user") + "\n" + KEYS.public("ecdsa") + "\n" + KEYS.public("rsa"))
        os.chmod(self.path("authorized"), 0o644)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, name, data, mode=0o644):
        with open(self.path(name), "wb") as f:
            f.write(data if isinstance(data, bytes) else data.encode())
        os.chmod(self.path(name), mode)
        return self.path(name)

    def read(self, *names):
        with open(self.path(*names), "rb") as f:
            return f.read()

    def open(self, path, flags=os.O_RDONLY):
        self.fds.append(os.open(path, flags))
        return self.fds[-1]

    def memfd(self, data):
        self.fds.append(os.memfd_create("file"))
        with open(self.fds[-1], "wb", closefd=False) as f:
            f.write(data)
        return self.fds[-1]

    def write_config(self, extra="", host="host", sftp="internal-sftp"):
        lines = ["HostKey " + KEYS.path(host), "AuthorizedKeysFile " + self.path("authorized"), "StrictModes no",
                 "UsePAM no", "PidFile none", "ListenAddress 127.0.0.1", "PermitRootLogin yes", extra]
        if sftp:
            lines.append("Subsystem sftp " + sftp)
        return self.write("config", "\n".join(lines) + "\n")

    def sshd(self, port=0, **kwargs):
        """A whole sshd. Returns its port."""
        if not port:
            with socket.create_server(("127.0.0.1", 0)) as s:
                port = s.getsockname()[1]
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", self.write_config(**kwargs), "-p", str(port)],
                                   stderr=subprocess.PIPE)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait, TIMEOUT)
        self.addCleanup(process.terminate)
        while b"Server listening" not in (line := process.stderr.readline()):
            self.assertTrue(line, "sshd has ended")
        threading.Thread(target=lambda: [None for _ in process.stderr], daemon=True).start()
        return port

    def server(self, handle):
        """Accepts connections and calls handle(number, connection) for each. Returns its port."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        kept = []

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    kept.append(listener.accept()[0])
                    threading.Thread(target=self.serve, args=(handle, len(kept), kept[-1]), daemon=True).start()

        self.addCleanup(lambda: [c.close() for c in kept])
        self.addCleanup(listener.shutdown, socket.SHUT_RDWR)
        threading.Thread(target=accept, daemon=True).start()
        return listener.getsockname()[1]

    def serve(self, handle, number, connection):
        with contextlib.suppress(OSError):
            handle(number, connection)

    def inetd(self, connection):
        """An sshd for this one connection."""
        subprocess.run([SSHD, "-i", "-f", self.path("config")], stdin=connection, stdout=connection,
                       stderr=subprocess.DEVNULL, timeout=TIMEOUT)
        connection.close()

    def expect(self, request, **kwargs):
        w = Worker(request, **kwargs)
        last = w.finish()
        self.assertIn("result", last)
        w.result = last["result"]
        return w

    def expect_error(self, name, words, request, **kwargs):
        w = Worker(request, **kwargs)
        self.check_error(w.finish(), name, words)
        return w

    def check_error(self, last, name, words):
        self.assertIn("error", last)
        self.assertEqual(last["error"], ERROR + name, last)
        self.assertIn(words, last["message"])
        return last

    def shell(self, text, **more):
        return {"steps": [{"kind": "shell", "inline": text, **more}]}

    def wait_gone(self, pid):
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            self.assertTrue(select.select([fd], [], [], TIMEOUT)[0], "process %i lives on" % pid)
        finally:
            os.close(fd)

    def wait_removed(self, path):
        """By the guest itself."""
        deadline = time.monotonic() + TIMEOUT
        while os.path.exists(path) and time.monotonic() < deadline:
            select.select([], [], [], 0.05)
        self.assertFalse(os.path.exists(path))

    def scripts(self):
        return [n for n in os.listdir("/tmp") if n.startswith("vmctl-provision-")]


class Reach(Case):
    def test_phases(self):
        w = self.expect({}, port=self.sshd())
        self.assertEqual(w.phases(), ["waiting for sshd", "authenticating", "ready"])
        self.assertEqual(w.result["host-key"], KEYS.public("host"))
        self.assertEqual(w.lines[2]["host-key"], KEYS.public("host"))

    def test_no_log_in(self):
        w = self.expect({"log-in": False}, key=None, port=self.sshd())
        self.assertEqual(w.phases(), ["waiting for sshd", "ready"])
        self.assertIsNone(w.result["host-key"])
        self.expect_error("InvalidSpec", "need a log-in", {"log-in": False, **self.shell("true")}, key=None, port=1)
        self.expect_error("Failed", "--private-key", {}, key=None, port=1)

    def test_nobody_listens(self):
        with socket.create_server(("127.0.0.1", 0)) as s:
            port = s.getsockname()[1]
        w = self.expect_error("GuestNotReady", "'waiting for sshd': nothing listens", {"wait-usec": SECOND}, port=port)
        self.assertEqual(w.phases(), ["waiting for sshd"])

    def test_silence(self):
        begin = time.monotonic()
        port = self.server(lambda n, c: c.recv(1))
        self.expect_error("GuestNotReady", "it is silent", {"wait-usec": SECOND}, port=port)
        self.assertLess(time.monotonic() - begin, 10)

    def test_closed_at_once(self):
        counted = []

        def handle(number, connection):
            counted.append(number)
            connection.close()

        self.expect_error("GuestNotReady", "closed at once", {"wait-usec": 3 * SECOND}, port=self.server(handle))
        self.assertIn(len(counted), range(3, 7))  # 0, 0.25, 0.75, 1.75, 2.75 s

    def test_silent_first(self):
        """QEMU's user-mode network: the first connection is never answered."""
        self.write_config()
        port = self.server(lambda n, c: c.recv(1) if n == 1 else self.inetd(c))
        self.expect({}, port=port)

    def test_slow(self):
        """A guest that takes its time with each connection is not given up for ever newer ones."""
        self.write_config()
        closed = threading.Event()
        self.addCleanup(closed.set)
        port = self.server(lambda n, c: closed.wait(12.5) or self.inetd(c))
        self.expect({}, port=port)

    def test_dropped_at_each_stage(self):
        self.write_config()

        def handle(number, connection):
            if number == 1:
                connection.close()
            elif number == 2:
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                connection.recv(10)
                connection.close()
            elif number == 3:  # in the middle of the exchange of keys
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n" + os.urandom(4))
                connection.close()
            else:
                self.inetd(connection)

        w = self.expect({"wait-usec": 60 * SECOND}, port=self.server(handle))
        self.assertEqual(w.phases()[-1], "ready")

    def test_endless_banner(self):
        def handle(number, connection):
            while True:
                connection.sendall(b"SSH-no\r\n" + b"nothing of interest\r\n" * 1000)

        self.expect_error("GuestNotReady", "'authenticating'", {"wait-usec": 3 * SECOND}, port=self.server(handle))

    def test_garbage(self):
        def handle(number, connection):
            connection.sendall(b"SSH-2.0-x\r\n" + b"\xff" * 100000)
            connection.recv(1000000)

        w = Worker({"wait-usec": 2 * SECOND}, port=self.server(handle))
        self.assertIn(w.finish()["error"], (ERROR + "SSHFailed", ERROR + "GuestNotReady"))

    def test_silent_after_greeting(self):
        def handle(number, connection):
            connection.sendall(b"SSH-2.0-x\r\n")
            while connection.recv(10000):
                pass

        self.expect_error("GuestNotReady", "'authenticating'", {"wait-usec": 2 * SECOND}, port=self.server(handle))

    def test_given_socket(self):
        self.write_config()
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        threading.Thread(target=self.inetd, args=(theirs,), daemon=True).start()
        self.assertEqual(self.expect(self.shell("echo $((6 * 7))"), socket_fd=ours.fileno()).text(), "42\n")

    def test_given_socket_is_lost(self):
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        theirs.close()
        self.expect_error("SSHFailed", "connection was lost", {}, socket_fd=ours.fileno())

    def test_cancel(self):
        w = Worker({}, port=self.server(lambda n, c: c.recv(1)))
        w.wait_for_phase("waiting for sshd")
        w.process.terminate()
        self.check_error(w.finish(), "Canceled", "waiting for sshd")


class KeysUsed(Case):
    def test_wrong_key(self):
        self.expect_error("LoginRefused", "refuses to let user '%s'" % USER, {}, key="other", port=self.sshd())

    def test_refused_for_a_while(self):
        """The user's key comes with cloud-init, after sshd."""
        self.write("authorized", "")
        port = self.sshd()
        w = Worker({"auth-retry-usec": 60 * SECOND}, port=port)
        w.wait_for_phase("authenticating")
        self.write("authorized", KEYS.public("user"))
        self.assertIn("result", w.finish())

    def test_refused_for_good(self):
        begin = time.monotonic()
        self.expect_error("LoginRefused", "refuses", {"auth-retry-usec": SECOND}, key="other", port=self.sshd())
        self.assertGreater(time.monotonic() - begin, 1)

    def test_pinned(self):
        port = self.sshd()
        for known in (KEYS.public("host"), "vmctl-web " + KEYS.public("host") + " comment\n",
                      "# x\n\n|1|c2FsdA==|aGFzaA== %s\nother %s\n" % (KEYS.public("host"), KEYS.public("rsa")), "", "\n"):
            self.expect({}, known=known, port=port)

    def test_changed(self):
        w = self.expect_error("HostKeyChanged", KEYS.digest("host"), {}, known="vm " + KEYS.public("other"), port=self.sshd())
        self.assertIn(KEYS.digest("other"), w.lines[-2]["message"])
        self.assertNotIn("ready", w.phases())

    def test_pinned_kind_is_preferred(self):
        """The guest has two; the pinned one is not the one that would be chosen."""
        port = self.sshd(extra="HostKey " + KEYS.path("ecdsa"))
        for name in ("ecdsa", "host"):
            w = self.expect({}, known=KEYS.public(name), port=port)
            self.assertEqual(w.result["host-key"], KEYS.public(name))

    def test_bad_known_hosts(self):
        self.expect_error("InvalidKey", "no key that can be read", {}, known="vm ssh-ed25519 AAAA", port=1)

    def test_revoked_is_no_key(self):
        self.expect_error("InvalidKey", "no key that can be read", {}, known="@revoked * " + KEYS.public("host"), port=1)

    def test_rsa_host_key(self):
        self.expect_error("SSHFailed", "Ed25519 or ECDSA", {}, port=self.sshd(host="rsa"))

    def test_private_keys(self):
        self.expect({}, key="ecdsa", port=self.sshd())
        self.expect_error("InvalidKey", "RSA", {}, key="rsa", port=1)
        self.expect_error("InvalidKey", "passphrase", {}, key="locked", port=1)
        self.expect_error("InvalidKey", "no format", {}, key="user.pub", port=1)


class Log(Case):
    def run_with_log(self, steps):
        log = self.open(self.path("log"), os.O_RDWR | os.O_CREAT)
        w = Worker({"steps": steps}, port=self.sshd(), log=log)
        w.finish()
        return self.read("log")

    def test_steps(self):
        first = self.run_with_log([{"kind": "shell", "inline": "echo one; echo two >&2; printf three"},
                                   {"kind": "shell", "inline": "echo four; exit 7"}]).decode()
        when = r"--- [\d-]{10} [\d:]{8} UTC step "
        self.assertRegex(first, "^" + when + r"1 of 2: shell echo one; .*\n(.*\n)+?" + when +
                         r"1 ended after [\d.]+ s\n" + when + r"2 of 2: .*\nfour\n" + when + r"2 failed with status 7 ")
        for word in ("one\n", "two\n", "three"):
            self.assertIn(word, first.split("UTC")[1])
        second = self.run_with_log([{"kind": "shell", "inline": "echo five"}]).decode()
        self.assertTrue(second.startswith(first) and "\nfive\n" in second)

    def test_bound(self):
        amount = 40 << 20
        log = self.run_with_log([{"kind": "shell", "inline": f"head -c {amount} /dev/zero | tr '\\0' x; echo end"}])
        self.assertGreater(len(log), amount)
        self.assertLess(os.stat(self.path("log")).st_blocks * 512, 18 << 20)
        self.assertIn(b"xend\n", log)
        self.assertEqual(log[:1 << 20].strip(b"\0"), b"")


class CloudInit(Case):
    """`cloud-init` is a script of ours."""

    def fake(self, script, **kwargs):
        os.mkdir(self.path("bin"))
        self.write("bin/cloud-init", "#!/bin/sh\n" + script, 0o755)
        return self.sshd(extra="SetEnv PATH=%s:/usr/bin:/bin" % self.path("bin"), **kwargs)

    def check(self, script, expected):
        w = self.expect({"cloud-init": True}, port=self.fake(script))
        self.assertEqual(w.result["cloud-init"], expected)
        self.assertEqual(w.phases()[-2:], ["waiting for cloud-init", "ready"])
        self.assertEqual(w.lines[-3]["cloud-init"], expected)

    def test_done(self):
        self.check('[ "$*" = "status --wait" ] || exit; printf "....\\nstatus: done\\n"', "done")

    def test_error(self):
        self.check('echo "status: error"; exit 1', "error")

    def test_degraded(self):
        self.check('echo "status: done"; exit 2', "degraded")

    def test_disabled(self):
        self.check('echo "status: disabled"', "disabled")

    def test_nonsense(self):
        self.check('echo "$@"; echo "\033[1mdone"', "unknown")

    def test_absent(self):
        w = self.expect({"cloud-init": True}, port=self.sshd(extra="SetEnv PATH=/usr/bin:/bin"))
        self.assertEqual(w.result["cloud-init"], "absent")

    def test_never_ends(self):
        pid = self.path("pid")
        port = self.fake("echo $$ > %s; exec sleep 300" % pid)
        self.expect_error("GuestNotReady", "'waiting for cloud-init'", {"cloud-init": True, "wait-usec": 3 * SECOND},
                          port=port)
        self.wait_gone(int(self.read("pid")))

    def test_drops_the_connection(self):
        """It may restart sshd; the session of the first time is killed from within."""
        port = self.fake("""[ -e %s ] && exec echo "status: done"
            touch %s; pid=$$
            while read -r name rest < /proc/$pid/comm && [ "${name#sshd}" = "$name" ]; do
                    read -r x x x pid x < /proc/$pid/stat
            done
            kill -9 $pid""" % ((self.path("once"),) * 2))
        w = self.expect({"cloud-init": True, **self.shell("echo run")}, port=port)
        self.assertEqual(w.text(), "run\n")
        self.assertEqual(w.phases().count("waiting for cloud-init"), 2)


class Shell(Case):
    def run_shell(self, text, **more):
        return self.expect(self.shell(text, **more), port=self.sshd())

    def test_streams(self):
        w = self.run_shell("echo out; echo err >&2; printf '\\033[1m\\377'")
        self.assertEqual(w.text(stream=2), "err\n")
        self.assertEqual(b"".join(d for _, s, d in w.frames if s == 1), b"out\n\x1b[1m\xff")
        self.assertEqual(w.frames[-1], (1, 1, b""))
        self.assertEqual(w.phases()[-2:], ["step", "step-done"])

    def test_input_is_closed(self):
        self.assertEqual(self.run_shell("cat; echo end").text(), "end\n")

    def test_environment(self):
        env = {"A": "x'y\"z", "B": "$HOME `id` \\n \\", "C": "two\nlines\n", "D": "", "E": "'", "_F1": "ä ☃", "G": "-n !x"}
        names = " ".join('"$%s"' % name for name in env)
        w = self.run_shell("printf '%s\\0' " + names, env=env)
        self.assertEqual(w.text().split("\0")[:-1], list(env.values()))

    def test_environment_is_not_on_the_command_line(self):
        w = self.run_shell("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -c [S]ECRET1234; true",
                           env={"X": "SECRET1234"})
        self.assertEqual(w.text().strip(), "0")

    def test_scripts(self):
        text = "set -e\nfor i in 1 2; do\n\techo \"it's $i\"\ndone # '\n"
        self.assertEqual(self.run_shell(text).text(), "it's 1\nit's 2\n")
        self.assertEqual(self.run_shell("x=%s; echo ${#x}" % ("'" + "y" * 90000 + "'")).text(), "90000\n")

    def test_failure_in_the_middle(self):
        mark = self.path("mark")
        steps = [{"kind": "shell", "inline": "echo one"}, {"kind": "shell", "inline": "echo two; printf '\\033]0;x'; exit 7"},
                 {"kind": "shell", "inline": "touch " + mark}]
        w = self.expect_error("ProvisionFailed", "Step 2 of 3 (shell 'echo two", {"steps": steps}, port=self.sshd())
        last = w.lines[-2]
        self.assertEqual((last["step"], last["status"]), (2, 7))
        self.assertIn("status 7", last["message"])
        self.assertIn("two", last["message"])
        self.assertNotIn("\x1b", last["message"])
        self.assertNotIn("one", last["message"])
        self.assertFalse(os.path.exists(mark))

    def test_signal(self):
        w = self.expect_error("ProvisionFailed", "signal KILL", self.shell("kill -KILL $$"), port=self.sshd())
        self.assertEqual(w.lines[-2]["signal"], "KILL")
        self.assertNotIn("status", w.lines[-2])

    def test_tail_is_bounded(self):
        w = self.expect_error("ProvisionFailed", "last line", self.shell(
            "yes '\u2603\u001b' | head -n 100000; echo last line; exit 1"), port=self.sshd())
        self.assertLess(len(w.lines[-2]["message"]), 20000)

    def test_what_is_left_running(self):
        """A daemon that let go of its output outlives the step."""
        pid = int(self.run_shell("sleep 300 >/dev/null 2>&1 & echo $!").text())
        with open("/proc/%i/cmdline" % pid) as f:
            self.assertEqual(f.read(), "sleep\000300\000")
        os.kill(pid, signal.SIGKILL)

    def test_timeout(self):
        w = self.expect_error("ProvisionFailed", "did not end in time", self.shell(
            "echo pid=$$; exec sleep 300", **{"timeout-usec": SECOND}), port=self.sshd())
        self.wait_gone(int(re.search(rb"pid=(\d+)", w.output)[1]))

    def start_sleeper(self, text="echo pid=$$,$PPID; sleep 300; true", **kwargs):
        w = Worker(self.shell(text), port=self.sshd(), **kwargs)
        found = w.wait_for_output(rb"pid=(\d+),(\d+)")
        return w, int(found[1]), int(found[2])

    def test_cancel(self):
        w, pid, _ = self.start_sleeper()
        w.process.terminate()
        self.check_error(w.finish(), "Canceled", "Step 1 of 1")
        self.wait_gone(pid)

    def test_cancel_of_the_stubborn(self):
        w, pid, _ = self.start_sleeper("trap '' TERM HUP INT; echo pid=$$,0; while :; do sleep 1; done")
        w.process.terminate()
        self.check_error(w.finish(), "Canceled", "")
        self.wait_gone(pid)

    def test_worker_is_killed(self):
        w, pid, _ = self.start_sleeper()
        w.process.kill()
        w.finish()
        self.wait_gone(pid)

    def test_connection_is_lost(self):
        w, pid, session = self.start_sleeper()
        os.kill(session, signal.SIGKILL)
        last = w.finish()
        self.check_error(last, "ProvisionFailed", "connection was lost")
        self.assertEqual(last["step"], 1)
        self.assertEqual(w.phases().count("waiting for sshd"), 1)
        self.wait_gone(pid)

    def peak(self, pid):
        with open("/proc/%i/status" % pid) as f:
            return int(re.search(r"VmHWM:\s+(\d+) kB", f.read())[1])

    def test_much_output(self):
        size = 256 << 20
        w = Worker(self.shell("head -c %i /dev/zero; echo; echo pid=; exec sleep 300" % size), port=self.sshd())
        w.wait_for_output(b"pid=")
        peak = self.peak(w.process.pid)
        w.process.terminate()
        w.finish()
        self.assertEqual(sum(d if isinstance(d, int) else len(d) for _, s, d in w.frames), size + 6)
        self.assertLess(peak, PEAK_MAX)

    def test_slow_reader(self):
        """Nobody reads: so the guest's command does not get on, and nothing is kept."""
        count = self.write("count", "")
        w = Worker(self.shell("while :; do head -c 1048576 /dev/zero; echo >> %s; done" % count), port=self.sshd(),
                   read_output=False)
        w.wait_for_phase("step")
        last = -1
        while (now := os.path.getsize(count)) == 0 or now != last:  # until it does not grow for a second
            last = now
            select.select([], [], [], 1)
        self.assertLess(now, 30)
        self.assertLess(self.peak(w.process.pid), PEAK_MAX)
        w.process.terminate()
        self.check_error(w.finish(), "Canceled", "")

    def test_reader_is_gone(self):
        w = Worker(self.shell("echo x; sleep 1; yes"), port=self.sshd(), read_output=False)
        os.close(w.output_fd)
        w.threads.append(threading.Thread())
        w.threads[-1].start()
        self.check_error(w.finish(), "ProvisionFailed", "Broken pipe")

    def test_no_commands(self):
        self.expect_error("ProvisionFailed", "status 1", self.shell("true"), port=self.sshd(extra="ForceCommand exit 1"))


class Script(Case):
    def script(self, text, **more):
        return {"steps": [{"kind": "script", "file": 0, "name": "setup.sh", **more}]}, [self.memfd(text)]

    def test_runs(self):
        request, files = self.script(b"#!/bin/sh\necho \"$0 $A\"; stat -c %a $0; cat\n", env={"A": "b c"})
        os.lseek(files[0], 0, os.SEEK_END)
        w = self.expect(request, files=files, port=self.sshd())
        self.assertRegex(w.text(), r"^/tmp/vmctl-provision-1-[0-9a-f]{16}/script b c\n700\n$")
        self.assertFalse(os.path.exists(w.text().split()[0]))
        self.assertEqual([line["name"] for line in w.lines[:-2] if line["phase"] == "step"], ["setup.sh"])

    def test_is_removed(self):
        port = self.sshd()
        before = self.scripts()
        request, files = self.script(b"#!/bin/sh\nexit 3\n")
        w = self.expect_error("ProvisionFailed", "script 'setup.sh'", request, files=files, port=port)
        self.assertEqual(w.lines[-2]["status"], 3)
        self.assertEqual(self.scripts(), before)

    def start(self, text):
        request, files = self.script(b"#!/bin/sh\n" + text)
        w = Worker(request, files=files, port=self.sshd())
        found = w.wait_for_output(rb"pid=(\d+),([^,]*),(\d+)")
        self.assertTrue(os.path.exists(found[2]))
        return w, int(found[1]), found[2].decode(), int(found[3])

    def test_is_removed_when_canceled(self):
        for text in (b"echo pid=$$,$0,0; exec sleep 300\n",
                     b"trap '' TERM HUP INT; echo pid=$$,$0,0; while :; do sleep 1; done\n"):
            for end in (signal.SIGTERM, signal.SIGKILL):
                with self.subTest(text=text, end=end):
                    w, pid, path, _ = self.start(text)
                    w.process.send_signal(end)
                    w.finish()
                    self.wait_gone(pid)
                    self.wait_removed(path)
                    self.wait_removed(os.path.dirname(path))

    def test_is_removed_when_it_kills_its_group(self):
        before = self.scripts()
        request, files = self.script(b"#!/bin/sh\nkill -KILL 0\n")
        self.expect_error("ProvisionFailed", "signal KILL", request, files=files, port=self.sshd())
        self.assertEqual(self.scripts(), before)

    def test_is_removed_when_the_connection_is_lost(self):
        w, pid, path, session = self.start(b"trap '' TERM HUP INT; echo pid=$$,$0,$PPID; while :; do sleep 1; done\n")
        os.kill(session, signal.SIGKILL)
        self.check_error(w.finish(), "ProvisionFailed", "connection was lost")
        self.wait_gone(pid)
        self.wait_removed(path)
        self.wait_removed(os.path.dirname(path))

    def test_is_removed_when_the_upload_is_cut_off(self):
        before = self.scripts()
        for end in (signal.SIGTERM, signal.SIGKILL):
            request, files = self.script(b"")
            os.ftruncate(files[0], 512 << 20)
            w = Worker(request, files=files, port=self.sshd())
            w.wait_for_phase("uploading")
            made = set(self.scripts()) - set(before)
            self.assertEqual(len(made), 1)
            w.process.send_signal(end)
            w.finish()
            self.wait_removed(os.path.join("/tmp", made.pop()))

    def test_interpreter(self):
        request, files = self.script(b"#!/usr/bin/env python3\nimport sys; print(sys.argv[0][:5]); sys.exit(4)\n")
        w = self.expect_error("ProvisionFailed", "status 4", request, files=files, port=self.sshd())
        self.assertEqual(w.text(), "/tmp/\n")

    def test_not_a_file(self):
        request, _ = self.script(b"")
        self.expect_error("ProvisionFailed", "no regular file", request, files=[self.open("/dev/zero")], port=self.sshd())


class File(Case):
    def step(self, destination=None, **more):
        return {"steps": [{"kind": "file", "file": 0, "destination": destination or self.path("to"), **more}]}

    def put(self, data, *args, **more):
        return self.expect(self.step(*args, **more), files=[self.memfd(data)], port=self.sshd())

    def test_content_and_mode(self):
        data = os.urandom(3000001)
        self.assertEqual(self.put(data, mode="0604").result["bytes"], len(data))
        self.assertEqual(self.read("to"), data)
        self.assertEqual(os.stat(self.path("to")).st_mode & 0o7777, 0o604)
        self.assertEqual(os.listdir(self.folder).count("to"), 1)

    def test_mode_of_the_source(self):
        path = self.write("from", "x", 0o750)
        self.expect(self.step(), files=[self.open(path)], port=self.sshd())
        self.assertEqual(os.stat(self.path("to")).st_mode & 0o7777, 0o750)

    def test_replaces_at_once(self):
        self.write("to", "old")
        with open(self.path("to")) as old:
            self.put(b"new")
            self.assertEqual(old.read(), "old")
        self.assertEqual(self.read("to"), b"new")
        self.assertFalse([n for n in os.listdir(self.folder) if n.startswith(".vmctl")])

    def test_names(self):
        for name in ("it's", "a b\"$x", "-n", "ä☃"):
            self.write(name, "old")
            self.put(b"new", self.path(name))
            self.assertEqual(self.read(name), b"new")

    def refuse(self, words, *args, **more):
        w = self.expect_error("ProvisionFailed", words, self.step(*args, **more), files=[self.memfd(b"x")],
                              port=self.sshd())
        self.assertFalse([n for n in os.listdir(self.folder) if n.startswith(".vmctl")])
        return w

    def test_folders(self):
        self.refuse("is a folder", self.folder)
        self.refuse("does not exist", self.path("a", "b", "c"))
        self.put(b"x", self.path("a", "b c", "d"), parents=True)
        self.assertEqual(self.read("a", "b c", "d"), b"x")

    def test_no_sftp(self):
        self.expect_error("ProvisionFailed", "does not offer SFTP", self.step(), files=[self.memfd(b"x")],
                          port=self.sshd(sftp=None))

    @unittest.skipUnless(ROOT, "needs root")
    def test_disk_full(self):
        os.mkdir(self.path("small"))
        output("mount", "-t", "tmpfs", "-o", "size=1m", "none", self.path("small"))
        self.addCleanup(output, "umount", "-l", self.path("small"))
        self.expect_error("ProvisionFailed", "no space is left in the guest", self.step(self.path("small", "x")),
                          files=[self.memfd(bytes(8 << 20))], port=self.sshd())
        self.assertEqual(os.listdir(self.path("small")), [])

    def test_cancel(self):
        reader, writer = os.pipe()
        self.fds += [reader, writer]
        request = {"copy": {"direction": "to", "file": 0, "path": self.path("to"), "name": "x"}}
        w = Worker(request, files=[reader], port=self.sshd())
        os.write(writer, b"begin")
        w.wait_for_phase("uploading")
        w.process.terminate()
        self.check_error(w.finish(), "Canceled", "")
        self.assertFalse([n for n in os.listdir(self.folder) if n.startswith(".vmctl") or n == "to"])

    def test_worker_is_killed(self):
        """Nothing is left beside the destination."""
        fd = self.memfd(b"")
        os.ftruncate(fd, 512 << 20)
        w = Worker(self.step(), files=[fd], port=self.sshd())
        w.wait_for_phase("uploading")
        made = [n for n in os.listdir(self.folder) if n.startswith(".vmctl")]
        self.assertEqual(len(made), 1)
        w.process.kill()
        w.finish()
        self.wait_removed(self.path(made[0]))
        self.assertEqual(sorted(os.listdir(self.folder)), ["authorized", "config"])

    def tar(self, names):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as t:
            for name, content in names.items():
                info = tarfile.TarInfo(name)
                info.size, info.mode, info.uid = len(content), 0o640, 12345
                t.addfile(info, io.BytesIO(content))
        return data.getvalue()

    def test_directory(self):
        data = self.tar({"a": b"1", "b/c": os.urandom(300000)})
        request = {"steps": [{"kind": "directory", "file": 0, "destination": self.path("it's", "new")}]}
        self.expect(request, files=[self.memfd(data)], port=self.sshd())
        self.assertEqual(self.read("it's", "new", "a"), b"1")
        self.assertEqual(len(self.read("it's", "new", "b", "c")), 300000)
        self.assertEqual(os.stat(self.path("it's", "new", "a")).st_uid, os.getuid())

    def test_directory_by_pipe(self):
        data = self.tar({"a": os.urandom(3 << 20)})
        reader, writer = os.pipe()
        request = {"steps": [{"kind": "directory", "file": 0, "destination": self.path("new")}]}
        w = Worker(request, files=[reader], port=self.sshd())
        os.close(reader)
        with open(writer, "wb") as f:
            f.write(data)
        self.assertIn("result", w.finish())
        self.assertEqual(len(self.read("new", "a")), 3 << 20)

    def test_directory_fails(self):
        request = {"steps": [{"kind": "directory", "file": 0, "destination": self.path("new")}]}
        self.expect_error("ProvisionFailed", "tar", request, files=[self.memfd(os.urandom(3 << 20))], port=self.sshd())


class Copy(Case):
    def copy(self, direction, fd, path, name="x", **more):
        return {"copy": {"direction": direction, "file": 0, "path": path, "name": name, **more}}, [fd]

    def make_tree(self):
        os.makedirs(self.path("tree", "sub", "empty"))
        self.write("tree/a", "1", 0o600)
        self.write("tree/sub/b", os.urandom(1000000), 0o755)
        self.write("tree/sub/it's", "")
        os.symlink("../a", self.path("tree", "sub", "up"))
        os.symlink("sub/b", self.path("tree", "down"))
        os.mkfifo(self.path("tree", "fifo"))
        os.utime(self.path("tree", "a"), (1000000000, 1100000000))

    def check_tree(self, *names):
        self.assertEqual(self.read(*names, "a"), b"1")
        self.assertEqual(self.read(*names, "sub", "b"), self.read("tree", "sub", "b"))
        self.assertEqual(self.read(*names, "sub", "up"), b"1")
        self.assertEqual(os.readlink(self.path(*names, "down")), "sub/b")
        self.assertEqual(os.listdir(self.path(*names, "sub", "empty")), [])
        self.assertFalse(os.path.lexists(self.path(*names, "fifo")))
        for name, mode in (("a", 0o600), ("sub/b", 0o755), ("sub", 0o755)):
            self.assertEqual(os.stat(self.path(*names, name)).st_mode & 0o777, mode, name)
        self.assertEqual(os.stat(self.path(*names, "a")).st_mtime, 1100000000)

    def test_tree_to(self):
        self.make_tree()
        os.mkdir(self.path("guest"))
        port = self.sshd()
        for _ in range(2):  # again over what is there
            request, files = self.copy("to", self.open(self.path("tree")), self.path("guest"), "copied", preserve=True)
            w = self.expect(request, files=files, port=port)
            self.check_tree("guest", "copied")
            self.assertEqual(w.result["skipped"], 1)
            self.assertEqual(w.result["files"], 8)
        request, files = self.copy("to", self.open(self.path("tree")), self.path("guest", "named"), preserve=True)
        self.expect(request, files=files, port=port)
        self.check_tree("guest", "named")

    def test_tree_from(self):
        self.make_tree()
        os.mkdir(self.path("mine"))
        port = self.sshd()
        for _ in range(2):
            request, files = self.copy("from", self.open(self.path("mine")), self.path("tree"), "copied", preserve=True)
            w = self.expect(request, files=files, port=port)
            self.check_tree("mine", "copied")
            self.assertEqual(w.result["skipped"], 1)

    def test_file_from(self):
        data = os.urandom(5 << 20)
        self.write("from", data, 0o640)
        os.mkdir(self.path("mine"))
        request, files = self.copy("from", self.open(self.path("mine")), self.path("from"))
        w = self.expect(request, files=files, port=self.sshd())
        self.assertEqual(self.read("mine", "x"), data)
        self.assertEqual(w.result["bytes"], len(data))
        self.assertTrue(any(line["phase"] == "downloading" and line["total"] == len(data) for line in w.lines[:-2]))

    def test_streams(self):
        data = os.urandom(3 << 20)
        reader, writer = os.pipe()
        request, files = self.copy("to", reader, self.path("to"))
        w = Worker(request, files=files, port=self.sshd())
        os.close(reader)
        with open(writer, "wb") as f:
            f.write(data)
        self.assertIn("result", w.finish())
        self.assertEqual(self.read("to"), data)
        reader, writer = os.pipe()
        request, files = self.copy("from", writer, self.path("to"))
        w = Worker(request, files=files, port=self.sshd())
        os.close(writer)
        with open(reader, "rb") as f:
            self.assertEqual(f.read(), data)
        self.assertIn("result", w.finish())

    def test_unsized(self):
        os.mkdir(self.path("mine"))
        request, files = self.copy("from", self.open(self.path("mine")), "/proc/version")
        self.expect(request, files=files, port=self.sshd())
        with open("/proc/version", "rb") as f:
            self.assertEqual(self.read("mine", "x"), f.read())

    def test_missing(self):
        request, files = self.copy("from", self.open(self.folder), self.path("none"))
        self.expect_error("Failed", "There is no", request, files=files, port=self.sshd())

    def test_place(self):
        os.mkdir(self.path("guest"))
        self.write("tree", "1")
        port = self.sshd()

        def send(path, place):
            request, files = self.copy("to", self.open(self.path("tree")), path, place=place)
            return request, {"files": files, "port": port}

        for path, place in ((self.path("none"), "inside"), (self.path("none/"), "inside"), (self.path("tree"), "inside"),
                            (self.path("guest"), "itself")):
            request, more = send(path, place)
            self.expect_error("Failed", "folder", request, **more)
        request, more = send(self.path("guest"), "inside")
        self.expect(request, **more)
        request, more = send(self.path("guest/x"), "itself")
        self.expect(request, **more)
        self.assertEqual(os.listdir(self.path("guest")), ["x"])
        self.assertFalse(os.path.exists(self.path("none")))

    def test_folder_itself(self):
        self.make_tree()
        os.mkdir(self.path("guest"))
        request, files = self.copy("to", self.open(self.path("tree")), self.path("guest"), place="itself", preserve=True)
        self.expect(request, files=files, port=self.sshd())
        self.check_tree("guest")

    def test_not_recursive(self):
        os.mkdir(self.path("tree"))
        request, files = self.copy("from", self.open(self.folder), self.path("tree"), recursive=False)
        self.expect_error("Failed", "is a folder", request, files=files, port=self.sshd())
        self.assertFalse(os.path.exists(self.path("x")))

    def test_folder_is_no_stream(self):
        request, files = self.copy("from", self.open("/dev/null", os.O_WRONLY), self.folder)
        self.expect_error("Failed", "no stream", request, files=files, port=self.sshd())

    @unittest.skipUnless(ROOT, "needs root")
    def test_disk_full_here(self):
        self.write("from", bytes(8 << 20))
        os.mkdir(self.path("small"))
        output("mount", "-t", "tmpfs", "-o", "size=1m", "none", self.path("small"))
        self.addCleanup(output, "umount", "-l", self.path("small"))
        request, files = self.copy("from", os.open(self.path("small"), os.O_RDONLY), self.path("from"))
        self.expect_error("NoSpace", "No space left", request, files=files, port=self.sshd())
        os.close(files[0])
        self.assertEqual(os.listdir(self.path("small")), [])


# A server for SFTP that says what SCRIPT makes it say: listing(path) gives names and modes, content(path, offset)
# bytes or None, size(path) a number, link(path) a target.
SERVER = r'''#!/usr/bin/env python3
import os, struct, sys
DIR, FILE, LINK = 0o040755, 0o100644, 0o120777
def size(path): return 10
def content(path, offset): return b"x" * 10 if offset == 0 else None
def link(path): return "/etc/passwd"
def mode(path): return DIR
def listing(path): return []
exec(open(sys.argv[1]).read())
def string(s): s = s if isinstance(s, bytes) else s.encode(); return struct.pack(">I", len(s)) + s
def attrs(m, path): return struct.pack(">IQI", 5, size(path), m)
def send(kind, body): sys.stdout.buffer.write(struct.pack(">IB", len(body) + 1, kind) + body); sys.stdout.buffer.flush()
handles, listed = {}, {}
while True:
    head = sys.stdin.buffer.read(5)
    if len(head) < 5: break
    n, kind = struct.unpack(">IB", head)
    body = sys.stdin.buffer.read(n - 1)
    if kind == 1: send(2, struct.pack(">I", 3)); continue
    rid, rest = body[:4], body[4:]
    n, = struct.unpack(">I", rest[:4])
    name = rest[4:4 + n].decode(errors="replace")
    status = lambda code: send(101, rid + struct.pack(">I", code) + string("") + string(""))
    if kind in (7, 17): send(105, rid + attrs(mode(name), name))
    elif kind == 8: path = handles[name]; send(105, rid + attrs(FILE, path))
    elif kind in (3, 11):
        h = str(len(handles)); handles[h] = name; listed[h] = iter(listing(name) if kind == 11 else ()); send(102, rid + string(h))
    elif kind == 12:
        batch = [x for _, x in zip(range(50), listed[name])]
        if not batch: status(1); continue
        send(104, rid + struct.pack(">I", len(batch)) + b"".join(
            string(x) + string(b"l") + attrs(m, handles[name] + "/x") for x, m in batch))
    elif kind == 5:
        offset, length = struct.unpack(">QI", rest[4 + n:4 + n + 12])
        data = content(handles[name], offset)
        status(1) if data is None else send(103, rid + string(data[:length]))
    elif kind == 19: send(104, rid + struct.pack(">I", 1) + string(link(name)) + string(b"") + attrs(LINK, name))
    else: status(0)
'''


class HostileCopy(Case):
    def fetch(self, script):
        os.makedirs(self.path("outer", "mine"), exist_ok=True)
        self.write("server", SERVER, 0o755)
        self.write("script", script)
        port = self.sshd(sftp="%s %s" % (self.path("server"), self.path("script")))
        request = {"copy": {"direction": "from", "file": 0, "path": "/guest", "name": "x"}}
        w = Worker(request, files=[self.open(self.path("outer", "mine"))], port=port)
        self.last = w.finish()
        self.assertEqual(os.listdir(self.path("outer")), ["mine"])
        return self.last

    def test_works(self):
        self.fetch("def listing(path): return [('a', FILE)]")
        self.assertIn("result", self.last)
        self.assertEqual(self.read("outer", "mine", "x", "a"), b"x" * 10)

    def test_names(self):
        for i, name in enumerate((r"../out", r"/tmp/out", r"a/b", "", r"a\0b", "n" * 300)):
            with self.subTest(name=name):
                self.fetch("def listing(path): return [(%s, FILE)]" % ("'%s'" % name))
                if name == r"a\0b":
                    self.assertEqual(os.listdir(self.path("outer", "mine", "x")), ["a"] if "result" in self.last else [])
                elif name:
                    self.assertIn("error", self.last)
                    self.assertEqual(os.listdir(self.path("outer", "mine", "x")), [])
                shutil.rmtree(self.path("outer"))

    def test_links(self):
        targets = ["/etc/passwd", "..", "../x", "a/../../..", "../../outer", "", ".", "sub/..", "ok", "./ok/../.."]
        self.fetch("""
targets = %r
def listing(path): return [(str(i), LINK) for i in range(len(targets))]
def link(path): return targets[int(path.split('/')[-1])]
""" % targets)
        made = {n: os.readlink(self.path("outer", "mine", "x", n)) for n in os.listdir(self.path("outer", "mine", "x"))}
        self.assertEqual(sorted(made.values()), [".", "ok"])
        self.assertEqual(self.last["result"]["skipped"], len(targets) - 2)

    def test_link_then_folder(self):
        """First a link of that name, then a folder, through which the next file would be written elsewhere."""
        self.fetch("""
def listing(path): return [('real', DIR), ('l', LINK), ('l', DIR)] if path == '/guest' else [('f', FILE)]
def link(path): return 'real'
""")
        self.assertIn("error", self.last)
        self.assertTrue(os.path.islink(self.path("outer", "mine", "x", "l")))

    def test_existing_link_is_not_followed(self):
        os.makedirs(self.path("outer", "mine"))
        os.mkdir(self.path("target"))
        os.symlink(self.path("target"), self.path("outer", "mine", "x"))
        self.fetch("def listing(path): return [('a', FILE)]")
        self.assertIn("error", self.last)
        self.assertEqual(os.listdir(self.path("target")), [])

    def test_depth(self):
        self.fetch("def listing(path): return [('d', DIR)]")
        self.assertIn("64 folders", self.last["message"])

    def test_sizes_that_lie(self):
        self.fetch("""
def mode(path): return FILE
def size(path): return 1000
def content(path, offset): return b'y' * 100000
""")
        self.assertIn("result", self.last)
        self.assertEqual(self.read("outer", "mine", "x"), b"y" * 1000)

    def test_endless_without_size(self):
        self.fetch("""
def mode(path): return FILE
def size(path): return 0
def content(path, offset): return b'y' * 30000
""")
        self.assertLessEqual(os.path.getsize(self.path("outer", "mine", "x")), 16 << 20)

    def test_oversized_packet(self):
        self.fetch("def listing(path): return [('a' * 10000000, FILE)]")
        self.assertIn("error", self.last)

    def test_dies(self):
        self.fetch("def listing(path): os._exit(1)")
        self.assertIn("error", self.last)


class Request(Case):
    def test_bad_requests(self):
        for request, name, words in (
                ({"nonsense": 1}, "UnknownOption", "nonsense"),
                ({"port": 0}, "InvalidSpec", "port"),
                ({"port": 65536}, "InvalidSpec", "port"),
                ({"host": "example.org", "port": 1}, "InvalidSpec", "host"),
                ({"user": ""}, "InvalidSpec", "user"),
                ({}, "InvalidSpec", "port"),
                ({"steps": {}}, "InvalidSpec", "steps"),
                ({"steps": [{}]}, "InvalidSpec", "kind"),
                ({"steps": [{"kind": "shell"}]}, "InvalidSpec", "inline"),
                ({"steps": [{"kind": "shell", "inline": "x" * 100000}]}, "InvalidSpec", "inline"),
                ({"steps": [{"kind": "shell", "inline": "x", "env": {"A=B": "x"}}]}, "InvalidSpec", "env"),
                ({"steps": [{"kind": "shell", "inline": "x", "env": {"A": 1}}]}, "InvalidSpec", "env"),
                ({"steps": [{"kind": "shell", "inline": "x", "mode": "1"}]}, "UnknownOption", "mode"),
                ({"steps": [{"kind": "script", "file": 0}]}, "InvalidSpec", "file 0 of 0"),
                ({"steps": [{"kind": "script"}]}, "InvalidSpec", "file"),
                ({"steps": [{"kind": "file", "file": 0, "destination": "x"}]}, "InvalidSpec", "destination"),
                ({"steps": [{"kind": "file", "file": 0, "destination": "/x\ny"}]}, "InvalidSpec", "destination"),
                ({"steps": [{"kind": "file", "file": 0, "destination": "/x", "mode": "888"}]}, "InvalidSpec", "mode"),
                ({"steps": [{"kind": "file", "file": 0, "destination": "/x", "mode": "10000"}]}, "InvalidSpec", "mode"),
                ({"copy": {"direction": "in"}}, "InvalidSpec", "direction"),
                ({"copy": {"direction": "to", "file": 0, "path": "x", "name": "a/b"}}, "InvalidSpec", "name"),
                ({"copy": {"direction": "to", "file": 0, "path": "x", "name": ".."}}, "InvalidSpec", "name"),
                ({"copy": {"direction": "to", "place": "elsewhere"}}, "InvalidSpec", "place")):
            with self.subTest(request=request):
                self.expect_error(name, words, request)

    def test_bad_options(self):
        for options in ([], ["--nonsense", "3"], ["--private-key"], ["--private-key", "0"], ["--private-key", "x"],
                        ["--private-key", "9", "--private-key", "9"], ["--private-key", "9", "--uid", "1"]):
            done = subprocess.run([PROGRAM, *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=TIMEOUT)
            self.assertEqual(done.returncode, 1)
            self.assertEqual(json.loads(done.stdout)["error"], ERROR + "Failed")

    @unittest.skipUnless(ROOT, "needs root")
    def test_is_confined(self):
        port = self.server(lambda n, c: c.recv(1))
        key = self.open(KEYS.path("user"))
        p = subprocess.Popen([PROGRAM, "--uid", "61234", "--gid", "61234", "--private-key", str(key)], pass_fds=[key],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        p.stdin.write(json.dumps({"user": "x", "port": port}).encode())
        p.stdin.close()
        p.stdout.readline()
        with open("/proc/%i/status" % p.pid) as f:
            lines = f.read().splitlines()
        p.terminate()
        self.assertIn("Canceled", p.stdout.read().decode())
        p.stdout.close()
        p.wait(TIMEOUT)
        for line in ("NoNewPrivs:\t1", "Uid:" + "\t61234" * 4, "Gid:" + "\t61234" * 4, "CapEff:\t0000000000000000"):
            self.assertIn(line, lines)


def main():
    global PROGRAM, KEYS, PEAK_MAX
    if ROOT and "TEST_SSH_UNSHARED" not in os.environ:  # mounts end with the test, however it ends
        os.environ["TEST_SSH_UNSHARED"] = "1"
        os.execvp("unshare", ["unshare", "--mount", sys.executable, *sys.argv])
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    if ROOT:  # sshd's own, which it wants for its separation of privileges
        output("mount", "-t", "tmpfs", "-o", "mode=755", "none", "/run")
        os.mkdir("/run/sshd", 0o755)
    with tempfile.TemporaryDirectory(prefix="test-ssh-keys-") as folder:
        KEYS = Keys(folder)
        with open(PROGRAM, "rb") as f:
            sanitized = b"__asan_init" in f.read()
        if sanitized:
            PEAK_MAX *= 20
            with open(KEYS.path("suppressions"), "w") as f:
                f.write("leak:libssh2.so\n")  # 1.10 forgets the numbers of each ECDSA signature
            os.environ["LSAN_OPTIONS"] = "suppressions=%s:print_suppressions=0" % KEYS.path("suppressions")
            os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":fast_unwind_on_malloc=0"
        unittest.main()


if __name__ == "__main__":
    main()
