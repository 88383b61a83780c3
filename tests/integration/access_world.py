# SPDX-License-Identifier: GPL-2.0-or-later
"""What the access suite is about: the callers, each with a connection, what polkit is asked about them, the
objects, and how checks are told. Things are called after their owner, as "bob-vm" or "shared-bob", so that what is
said to somebody can be searched for names that they must not hear."""

import contextlib
import os
import pwd
import re
import signal
import subprocess
import sys

import bus


TESTS, GUEST, URL, WWW, GATE = sys.argv[1:]
SERVICE, ROOT_PATH = "org.vmctl1", "/org/vmctl1"
FREEDESKTOP, ERRORS = "org.freedesktop.DBus.", "org.vmctl1.Error."
PROPERTIES = FREEDESKTOP + "Properties"
REFUSED = {FREEDESKTOP + "Error.AccessDenied", FREEDESKTOP + "Error.InteractiveAuthorizationRequired"}
# As sd-bus says it of an object, and of one that only has others below it
UNKNOWN = {FREEDESKTOP + "Error.Unknown" + what for what in ("Object", "Method", "Interface", "Property")}
NAMED = re.compile(r"org\.vmctl1\.Error\.\w+|org\.freedesktop\.DBus\.Error\.(AccessDenied|LimitsExceeded|"
                   r"InteractiveAuthorizationRequired|Unknown\w+|PropertyReadOnly|InvalidArgs)")
OWNERS = ("alice", "bob", "dave", "root")
UIDS = {name: pwd.getpwnam(name).pw_uid for name in OWNERS}
VM, IMAGE, JOB, MANAGER = (SERVICE + "." + name for name in ("VM", "Image", "Job", "Manager"))

failures = checks = 0


def check(description, problem=None):
    global checks, failures
    checks += 1
    if problem:
        failures += 1
    print("%s %d - %s" % ("not ok" if problem else "ok", checks, description))
    for line in str(problem).splitlines() if problem else ():
        print("# " + line)
    sys.stdout.flush()


def check_all(description, problems):
    check(description, "\n".join(problems))


def finish():
    print("1..%d" % checks)
    sys.exit(failures > 0)


class CannotPrepare(Exception):
    pass


def attempt(function, *args):
    """A group of checks that others do not depend on"""
    try:
        function(*args)
    except CannotPrepare as reason:
        check("%s can be tried" % function.__name__, str(reason))


# The callers

root = bus.Connection()
monitor = bus.Connection()
everybody = [monitor]  # who is read while anybody waits: who reads nothing is kept waiting, with all their clients
questions = []  # that polkit was asked: the unique name of whom it is about, the action, the details


def note_question(message):
    if message.member == "CheckAuthorization":
        subject, action, details = message.body[:3]
        questions.append((subject[1].get("name"), action, details))


class Caller:
    def __init__(self, kind, name, connection):
        self.kind, self.name, self.bus, self.uid = kind, name, connection, UIDS[name]
        self.forbidden = re.compile("|".join(r"\b%s(-|_2d)(?!ruled)\w+" % other for other in OWNERS
                                             if other != name).encode())
        self.heard = []
        connection.on_message = self.note
        connection.company = everybody
        everybody.append(connection)

    def note(self, message):
        if message.type == bus.SIGNAL and message.path and message.path.startswith(ROOT_PATH):
            self.heard.append(message)

    def __str__(self):
        return self.kind

    def send(self, path, interface, member, *args, flags=0):
        return self.bus.send(SERVICE, path, interface, member, *args, flags=flags)

    def call(self, *args, seconds=bus.PATIENCE):
        return self.bus.wait(self.send(*args), seconds)

    def asked(self):
        """The questions about us since the last time"""
        settle_monitor()
        mine = [(action, details) for name, action, details in questions if name == self.bus.name]
        questions[:] = [question for question in questions if question[0] != self.bus.name]
        return mine


def settle_monitor():
    """What was sent before our signal has come when that comes."""
    monitor.signals.clear()
    root.send(None, ROOT_PATH, "org.vmctl1.Test", "Marker", kind=bus.SIGNAL)
    if not bus.pump([monitor], lambda: any(m.member == "Marker" for m in monitor.signals), bus.PATIENCE):
        raise SystemExit("the monitor is deaf")


def watch_polkit():
    monitor.on_message, monitor.is_polite = note_question, False
    reply = monitor.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.Monitoring",
                         "BecomeMonitor", "asu",
                         ["type='method_call',interface='org.freedesktop.PolicyKit1.Authority'",
                          "type='signal',interface='org.vmctl1.Test'"], 0)
    if reply.error:
        raise SystemExit("cannot watch polkit: %s" % reply)


@contextlib.contextmanager
def silent_polkit():
    """polkit says nothing, until the end of this."""
    pid = int(subprocess.check_output(["systemctl", "show", "--property=MainPID", "--value", "polkit"]))
    if pid == 0:
        raise CannotPrepare("polkit does not run")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


administrator = Caller("root", "root", root)
watch_polkit()


# The objects

def path_of(kind, name):
    escaped = "".join(c if c.isalnum() else "_%02x" % ord(c) for c in name)
    return "%s/%s/%s" % (ROOT_PATH, kind, escaped)


def manager(caller, member, *args, seconds=bus.PATIENCE):
    return caller.call(ROOT_PATH, MANAGER, member, *args, seconds=seconds)


def get(caller, path, interface, name):
    return caller.call(path, PROPERTIES, "Get", "ss", interface, name)


def value(path, interface, name):
    """A property as root has it, or None"""
    reply = get(administrator, path, interface, name)
    return None if reply.error else reply.body[0]


def must(reply):
    if reply.error:
        raise CannotPrepare(str(reply))
    return reply


def options(start=False):
    """A VM's, with descriptors that the caller of this closes by leaving the with block"""
    return {"append": ("s", "console=ttyS0 quiet"), "memory": ("t", 128 << 20), "display": ("s", "none"),
            "network": ("s", "none"), "accel": ("s", "tcg"), "cloud-init": ("b", False), "start": ("b", start)}


@contextlib.contextmanager
def opened(path, flags=os.O_RDONLY):
    fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def send_create(caller, name, start=False, **more):
    with opened(GUEST + "/vmlinuz") as kernel, opened(GUEST + "/initrd") as initrd:
        files = {"kernel": ("h", kernel), "initrd": ("h", initrd)}
        return caller.send(ROOT_PATH, MANAGER, "CreateVM", "sa{sv}", name, {**options(start), **files, **more})


def create(caller, name, start=False, **more):
    return caller.bus.wait(send_create(caller, name, start, **more), 60)


def vm_from_image(caller, name, key, image):
    plain = {k: v for k, v in options().items() if k != "append"}
    return manager(caller, "CreateVM", "sa{sv}", name, {**plain, key: ("s", image)}, seconds=60)


def destroy(name):
    return administrator.call(path_of("vm", name), VM, "Destroy", seconds=60)


def wait_job(caller, reply):
    """How a job ends: its result"""
    if reply.error:
        return str(reply)
    path, ended = reply.body[0], []

    def look():
        ended.extend(m.body[3] for m in caller.heard if m.member == "JobRemoved" and m.body[1] == path)
        return bool(ended)
    return ended[0] if bus.pump([caller.bus], look, 30) else "no end of " + path


def send_import(caller, name, fd, shared=False):
    return caller.send(ROOT_PATH, MANAGER, "ImportImage", "sha{sv}", name, fd, {"shared": ("b", shared)})


def import_image(caller, name, shared=False, file="/srv/disk.raw"):
    with opened(file) as fd:
        return wait_job(caller, caller.bus.wait(send_import(caller, name, fd, shared)))


def prepare_image(caller, name, shared=False):
    result = import_image(caller, name, shared)
    if result != "done":
        raise CannotPrepare("image %s: %s" % (name, result))


def remove_image(name):
    """And what else may bear its name by then"""
    for _ in range(3):
        if administrator.call(path_of("image", name), IMAGE, "Remove").error:
            break


class EndlessJob:
    """An import from a pipe to which nothing is written"""

    def __init__(self, caller, name):
        reading, self.writing = os.pipe()
        reply = must(caller.bus.wait(send_import(caller, name, reading)))
        os.close(reading)
        self.path = reply.body[0]
        self.id = int(self.path.rsplit("/", 1)[1])
        # From here on nothing changes by itself.
        bus.pump([caller.bus], lambda: self.waits_for_data(caller), 10)

    def waits_for_data(self, caller):
        return any(m.path == self.path and m.member == "PropertiesChanged" and m.body[1].get("Phase") == "importing"
                   for m in caller.heard)

    def end(self):
        administrator.call(self.path, JOB, "Cancel")
        os.close(self.writing)


class Thing:
    """An object, and whose it is: somebody's name, "shared" or None where there is nothing"""

    def __init__(self, interface, path, owner, name=None, shared=False):
        self.interface, self.path, self.owner, self.name, self.shared = interface, path, owner, name, shared

    def __str__(self):
        return "%s of %s" % (self.name or self.path, self.owner or "nobody")


def vm_thing(owner, name):
    return Thing(VM, path_of("vm", name), owner, name)


def image_thing(owner, name, shared=False):
    return Thing(IMAGE, path_of("image", name), owner, name, shared)


def arguments(interface, member, scratch):
    """Valid ones, as signature and values; scratch is a file for what is exported."""
    return {
        "Start": ("a{sv}", {}), "Stop": ("t", 1000000), "WaitReady": ("sta{sv}", "running", 1000000, {}),
        "Provision": ("aa{sv}a{sv}", [{"kind": ("s", "shell"), "inline": ("s", "true")}],
                      {"timeout-usec": ("t", 1000000)}),
        "OpenConsoleLog": ("a{sv}", {}), "UpdateSpec": ("a{sv}", {"user": ("s", "nobody")}),
        "SetLimits": ("a{sv}", {"cpu-weight": ("t", 77)}), "Qmp": ("s", '{"execute":"query-status"}'),
        "Rename": ("s", "renamed"), "SetShared": ("b", False), "Export": ("ha{sv}", scratch, {}),
    }.get(member, ("",))


def found_in(caller, raw):
    return sorted({match.group().decode() for match in caller.forbidden.finditer(raw)})
