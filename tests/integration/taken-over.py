#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A vmctld that was taken over: it has the service's user, its socket to the launcher, and no good intentions. Asks for
what vmctld never wants, and says what came of it. Run by taken-over.sh as root, while the service is stopped.

taken-over.py GUEST"""

import array
import ctypes
import fcntl
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time

SOCKET = "/run/vmctl-launch.socket"
GUEST = sys.argv[1]
UID = 1879048192 + 4000  # of UIDRange=
VERSION, FDS_MAX = 1, 250
RUN, KILL, START_SCOPE, SET_LIMITS, STOP_SCOPE, KILL_SCOPE, SIGNAL = range(7)
SHIM, READER, PREPARE, IMAGE, PULL, SSH = range(6)
STARTED, ENDED, ANSWER = range(3)
PTRACE_SEIZE = 0x4206
REQUEST = struct.Struct("@IIQQIIiII%di0QIQQQQQQi0Q" % FDS_MAX)
REPLY = struct.Struct("@IIQiiii0Q")
FAILED = []


def check(name, ok, seen=""):
    print("%s - %s%s" % ("ok" if ok else "not ok", name, "" if ok else ": %s" % (seen,)), flush=True)
    if not ok:
        FAILED.append(name)


def as_user(uid, function):
    """What a child says that has this user's rights alone"""
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        try:
            said = function()
        except OSError as error:
            said = error.strerror
        os.write(writable, str(said).encode())
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as said:
        text = said.read()
    os.waitpid(pid, 0)
    return text


def connect():
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.connect(SOCKET)
    return sock


class Launcher:
    """The connection, which is the service's user's: it was made by a process of theirs."""

    def __init__(self):
        self.sock, self.last_id = connect(), 0

    def send(self, verb, texts=(), fds=(), version=VERSION, n_fds=None, **fields):
        self.last_id += 1
        targets = fields.get("targets", list(range(3, 3 + len(fds))))
        data = REQUEST.pack(version, verb, self.last_id, fields.get("child", 0), fields.get("program", 0),
                            fields.get("uid", UID), 0, fields.get("n_environment", 0), len(fds) if n_fds is None else n_fds,
                            *(targets + [0] * (FDS_MAX - len(targets))), *[fields.get("limit", 0)] * 6,
                            fields.get("timeout", 120000000),
                            fields.get("signal", 0))
        data += b"".join(os.fsencode(text) + b"\0" for text in texts)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.sock.sendmsg([data], ancillary)
        return self.last_id

    def receive(self, seconds=60):
        """event, id, error, pid; None: it has hung up"""
        if not select.select([self.sock], [], [], seconds)[0]:
            return "nothing"
        try:
            data, ancillary, _, _ = self.sock.recvmsg(4096, socket.CMSG_SPACE(4))
        except ConnectionResetError:
            return None
        for _, _, fds in ancillary:
            for fd in array.array("i", fds):
                os.close(fd)
        if not data:
            return None
        _, event, number, error, pid, _, _ = REPLY.unpack(data[:REPLY.size])
        return event, number, error, pid

    def refuses(self, name, verb, *args, **fields):
        """As an error; and it goes on."""
        number = self.send(verb, *args, **fields)
        reply = self.receive()
        expected = ENDED if verb == RUN else ANSWER
        check(name, reply and reply[:2] == (expected, number) and reply[2] < 0, reply)

    def ignores(self, name, verb, *args, **fields):
        """Where there is nothing to be done; and it goes on."""
        number = self.send(verb, *args, **fields)
        reply = self.receive()
        check(name, reply and reply[:2] == (ANSWER, number), reply)

    def hangs_up(self, name, *args, **fields):
        self.send(*args, **fields)
        check(name, self.receive() is None)
        self.sock.close()
        self.__init__()


def launcher_of(sock):
    launcher = Launcher.__new__(Launcher)
    launcher.sock, launcher.last_id = sock, 0
    return launcher


def file(content=b""):
    fd = os.memfd_create("file")
    os.write(fd, content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def shim(*options, command=("/usr/bin/qemu-system-x86_64",)):
    """What is enough for a shim, and these options"""
    return ["--control=3", "--serial=20", "--console-log=4", "--console-log-old=5", "--console-log-max=1048576",
            "--qemu-log=6", "--qemu-log-max=65536", "--exit-record=7", "--private-network", *options, "--", *command]


def owner_of(pid):
    try:
        return os.stat("/proc/%d" % pid).st_uid
    except FileNotFoundError:
        return None


def wait_until_read(writable):
    """By a worker, which has given up its rights by then"""
    os.write(writable, b" " * fcntl.fcntl(writable, fcntl.F_SETPIPE_SZ, 4096))
    select.select([], [writable], [], 60)


def end(child):
    try:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def tasks_max():
    return subprocess.check_output(["systemctl", "show", "--property=TasksMax", "--value", "vmctl-taken-over.scope"],
                                   text=True).strip()


def wait_for_end(pid):
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended = bool(select.select([fd], [], [], 60)[0])
    os.close(fd)
    return ended


check("Whoever is not the service does not get in", as_user(65534, connect) == "Permission denied")
service = __import__("pwd").getpwnam("vmctld").pw_uid
check("The service does", "SEQPACKET" in as_user(service, connect) or "socket" in as_user(service, connect))
launcher = Launcher()
files = [socket.socketpair()[1].detach()] + [file() for _ in range(4)]

for uid in (0, 1, 1000, UID - 4001, 1879113728, 0xffffffff):
    launcher.refuses("Nobody becomes %d" % uid, RUN, shim(), files, program=SHIM, uid=uid)
    launcher.refuses("... nor does a worker", RUN, [], files, program=SSH, uid=uid)
for option in ("--uid=0", "--ui=0", "--gid=0", "--group=6", "--device=/dev/sda", "--dev=/dev/sda", "--bind-ro=/root",
               "--debug", "--cat", "--helper=/bin/sh", "--helper=/usr/bin/passt.avx2/../sh", "--privat", "-h", "x"):
    launcher.refuses("The shim gets no %s" % option, RUN, shim(option), files, program=SHIM)
for command in (["/bin/sh"], ["/usr/bin/qemu-system-x86_64 "], [], ["../usr/bin/qemu-system-x86_64"]):
    launcher.refuses("... and executes no %s" % (command or "nothing"), RUN, shim(command=command), files, program=SHIM)
launcher.refuses("A shim has options", RUN, [], files, program=SHIM)
launcher.refuses("A reader gets no option of a shim", RUN, ["--console-log=3", "--file=9:r:1:1:1:1:1:/etc/shadow"], files,
                 program=READER)
launcher.refuses("A worker gets no user from us", RUN, ["import", "--uid", "0"], files, program=IMAGE)
for variable in ("PATH=/tmp", "LD_PRELOAD=/tmp/x.so", "http_proxyx=1", "http_prox=1", "=", ""):
    launcher.refuses("A worker's environment has no %s" % variable, RUN, [variable], files, program=PULL, n_environment=1)
launcher.refuses("More variables are said than come", RUN, ["http_proxy=1"], files, program=PULL, n_environment=2)
launcher.refuses("There is no program 6", RUN, [], files, program=6)
launcher.refuses("... nor 4294967295", RUN, [], files, program=0xffffffff)
launcher.refuses("A descriptor has its place", RUN, [], files, program=SSH, targets=[-1, 3, 4, 5, 6])
launcher.refuses("... below 1024", RUN, [], files, program=SSH, targets=[1 << 30, 3, 4, 5, 6])
launcher.refuses("More are said than come", RUN, [], files, program=SSH, n_fds=6)
launcher.refuses("Fewer are said than come", RUN, [], files, program=SSH, n_fds=4)

for unit in ("ssh.service", "vmctl.slice", "vmctl-.scope", "vmctl-../x.scope", "vmctl-a.service", "init.scope", "",
             "vmctl-a.scope/../../system.slice", "vmctl--a.scope", "vmctl-" + "a" * 65 + ".scope", "vmctl-a\n.scope"):
    launcher.refuses("No limits for %r" % unit, SET_LIMITS, [unit])
    launcher.refuses("... and no such scope", START_SCOPE, [unit])
    for verb in (STOP_SCOPE, KILL_SCOPE):
        launcher.refuses("... nor is it ended", verb, [unit])
launcher.refuses("A scope is made around no stranger", START_SCOPE, ["vmctl-a.scope"], child=4711)
launcher.refuses("... and has one name", START_SCOPE, ["vmctl-a.scope", "vmctl-b.scope"])

victim = os.fork()
if victim == 0:
    signal.pause()
for pid, unit in ((victim, "vmctl-a.scope"), (victim, "ssh.service"), (1, "init.scope"), (1, "vmctl-a.scope")):
    pidfd = os.pidfd_open(pid)
    launcher.ignores("%s is not killed in %s" % ("PID 1" if pid == 1 else "A stranger", unit), SIGNAL, [unit], [pidfd],
                     signal=signal.SIGKILL)
    os.close(pidfd)
launcher.refuses("What is no process is not killed", SIGNAL, ["vmctl-a.scope"], [files[1]], signal=signal.SIGKILL)
check("The stranger lives", os.waitpid(victim, os.WNOHANG) == (0, 0))
end(victim)

# A user's own manager may have a unit of this name.
groups = [group + "/vmctl-a.scope" for hierarchy in ("", "/systemd", "/unified") if os.path.isdir(
    group := "/sys/fs/cgroup%s/user.slice/user-1000.slice/user@1000.service" % hierarchy)]
check("There is a user's manager", groups)
victim = os.fork()
if victim == 0:
    signal.pause()
for group in groups:
    os.mkdir(group)
    with open(group + "/cgroup.procs", "w") as procs:
        procs.write(str(victim))
pidfd = os.pidfd_open(victim)
launcher.ignores("A user's VM is not killed", SIGNAL, ["vmctl-a.scope"], [pidfd], signal=signal.SIGKILL)
check("... but lives", os.waitpid(victim, os.WNOHANG) == (0, 0))
os.close(pidfd)
end(victim)
for group in groups:
    os.rmdir(group)

launcher.hangs_up("Another build is not listened to", RUN, version=VERSION + 1)
launcher.hangs_up("There is no verb 7", 7)
launcher.sock.send(b"x")
check("... nor half a request", launcher.receive() is None)
launcher = Launcher()

# What it may do
readable, writable = os.pipe()
number = launcher.send(RUN, ["--console-log=3", "--console-log-old=4", "--tail=-1"], [file(b"said\n"), file(), writable],
                       program=READER, targets=[3, 4, 1])
os.close(writable)
first, second = launcher.receive(), launcher.receive()
check("A log is read", first[:2] == (STARTED, number) and second[:3] == (ENDED, number, 0), (first, second))
check("... to the end", os.read(readable, 100) == b"said\n")

readable, writable = os.pipe()
number = launcher.send(RUN, [], [readable], program=SSH, targets=[0])
_, _, _, pid = launcher.receive()
check("A worker is run", owner_of(pid) in (UID, 0), owner_of(pid))
launcher.refuses("... of which there is no scope", START_SCOPE, ["vmctl-a.scope"], child=number)
launcher.refuses("... nor a second one of its number", RUN, [], program=READER, uid=0)

ours, theirs = socket.socketpair()
number = launcher.send(RUN, shim(), [theirs.detach()] + files[1:], program=SHIM)
event, _, error, shim_pid = launcher.receive()
check("A shim is run", event == STARTED and error == 0, (event, error))
launcher.refuses("... in no scope that never ends", START_SCOPE, ["vmctl-taken-over.scope"], child=number,
                 timeout=0xffffffffffffffff)
launcher.send(START_SCOPE, ["vmctl-taken-over.scope"], child=number)
event, _, error, _ = launcher.receive()
check("... in a scope", event == ANSWER and error == 0, (event, error))
launcher.sock.close()
check("What it has run for a client ends with the service", wait_for_end(pid))
launcher = Launcher()
launcher.refuses("Whoever comes next is listened to", SET_LIMITS, ["ssh.service"])
check("... and finds VMs running", owner_of(shim_pid) is not None)
launcher.refuses("... which are nobody's child any more", START_SCOPE, ["vmctl-b.scope"], child=number)

# What was asked by one who has gone is not begun.
main_pid = int(subprocess.check_output(["systemctl", "show", "--property=MainPID", "--value", "vmctl-launch"]))
os.kill(main_pid, signal.SIGSTOP)
launcher.send(SET_LIMITS, ["vmctl-taken-over.scope"], limit=5000)
launcher.sock.close()
os.kill(main_pid, signal.SIGCONT)
launcher = Launcher()
launcher.refuses("A stopped launcher goes on", SET_LIMITS, ["ssh.service"])
check("... and sets no limits for one who has given it up", tasks_max() == "infinity", tasks_max())
launcher.send(SET_LIMITS, ["vmctl-taken-over.scope"], limit=5000)
reply = launcher.receive()
check("... but for one who is there", reply[0] == ANSWER and tasks_max() == "5000", (reply, tasks_max()))

ours.close()
check("A shim without a service ends, if it was not told to go on", wait_for_end(shim_pid))

# Whoever it has handed the connection to, as to a VM that lives on, keeps nobody else away.
launcher.sock.close()
readable, writable = os.pipe()
servant = os.fork()
if servant == 0:
    held = [connect(), connect()]  # the second one waits for its turn
    launcher_of(held[0]).refuses("A servant is listened to", SET_LIMITS, ["ssh.service"])
    sys.stdout.flush()
    if os.fork() == 0:
        os.read(readable, 1)
    os._exit(0)
os.waitpid(servant, 0)
launcher = Launcher()
launcher.refuses("The next one is, too, though somebody holds the connection", SET_LIMITS, ["ssh.service"])
os.close(writable)
launcher.sock.close()

# Nor does one that lives, asks, and never reads what is answered.
readable, writable = os.pipe()
servant = os.fork()
if servant == 0:
    held = Launcher()
    os.close(writable)  # it is first
    try:
        while True:
            held.send(SET_LIMITS, ["ssh.service"])
    except BrokenPipeError:
        os._exit(0)
os.close(writable)
os.read(readable, 1)
launcher = Launcher()
launcher.refuses("Nobody is waited for who does not read", SET_LIMITS, ["ssh.service"])
end(servant)
launcher.sock.close()

# One that is nobody's unit
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
child = os.fork()
if child == 0:
    os.set_inheritable(theirs.fileno(), True)
    os.execv("/usr/lib/vmctl/vmctl-launch", ["vmctl-launch", "--socket=%d" % theirs.fileno()])
theirs.close()
launcher = launcher_of(ours)
readable, writable = os.pipe()
launcher.send(RUN, [], [readable], program=SSH, targets=[0])
_, _, _, pid = launcher.receive()
wait_until_read(writable)
check("A worker has no rights when it reads", owner_of(pid) == UID, owner_of(pid))
end(child)
os.close(readable)
check("A launcher that is killed takes its workers along", wait_for_end(pid))
os.close(writable)

readable, writable = os.pipe()
launcher = Launcher()

# One that cannot end: who traces it keeps its parent from reaping it, as a file system does that does not answer.
launcher.send(RUN, [], [readable], program=SSH, targets=[0])
event, _, error, pid = launcher.receive()
check("A worker is run again", event == STARTED, (event, error))
libc = ctypes.CDLL(None, use_errno=True)
check("A worker is traced", libc.ptrace(PTRACE_SEIZE, pid, None, None) == 0, os.strerror(ctypes.get_errno()))
launcher.sock.close()
launcher = Launcher()
launcher.refuses("A worker that hangs keeps nobody from the launcher", SET_LIMITS, ["ssh.service"])
check("... and is hanging still", os.path.exists("/proc/%d" % pid))
os.waitpid(pid, 0)
launcher.refuses("... nor does its end", SET_LIMITS, ["ssh.service"])
print("1..1")
sys.exit(bool(FAILED))
