#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may do what, as a whole: every method and property of dbus/org.vmctl1.xml, on what is one's own, another's, root's,
shared and nobody's, for each kind of caller; then what appears or is replaced while a call waits for polkit. Run by
access-matrix.sh as root.

access-matrix.py TESTS GUEST URL WWW GATE, the latter three of http-server.py

Things are called after their owner, as "bob-vm" or "shared-bob", so that what is said to somebody can be searched for
names that they must not hear."""

import contextlib
import os
import pwd
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree

import bus

TESTS, GUEST, URL, WWW, GATE = sys.argv[1:]
SERVICE, ROOT_PATH = "org.vmctl1", "/org/vmctl1"
FREEDESKTOP, ERRORS = "org.freedesktop.DBus.", "org.vmctl1.Error."
PROPERTIES = FREEDESKTOP + "Properties"
REFUSED = {FREEDESKTOP + "Error.AccessDenied", FREEDESKTOP + "Error.InteractiveAuthorizationRequired"}
# As sd-bus says it of an object, and of one that only has others below it
UNKNOWN = {FREEDESKTOP + "Error.Unknown" + what for what in ("Object", "Method", "Interface", "Property")}
NAMED = re.compile(r"org\.vmctl1\.Error\.\w+|org\.freedesktop\.DBus\.Error\."
                   r"(AccessDenied|InteractiveAuthorizationRequired|Unknown\w+|PropertyReadOnly|InvalidArgs|LimitsExceeded)")
OWNERS = ("alice", "bob", "dave", "root")
UIDS = {name: pwd.getpwnam(name).pw_uid for name in OWNERS}
VM, IMAGE, JOB, MANAGER = (SERVICE + "." + name for name in ("VM", "Image", "Job", "Manager"))

# What a method needs: "open" to all, "filter" for all, each with what they may see; "create" and "add" for oneself,
# "add" also for the host; the others need the right to the object.
RULES = {
    "Manager": {
        "CreateVM": "create", "CreateVMFromURL": "create", "GetVM": "filter", "GetVMByPID": "filter",
        "ListVMs": "filter", "PullImage": "add", "ImportImage": "add", "InspectImage": "add", "PruneImages": "add",
        "GetImage": "filter", "ListImages": "filter", "GetVersion": "open", "GetCapabilities": "open",
        "GetJob": "filter", "ListJobs": "filter",
    },
    # In an order in which each has something to do
    "VM": {
        "SetLimits": "manage", "UpdateSpec": "manage", "WaitReady": "manage", "Provision": "manage",
        "OpenProvisionLog": "console", "OpenConsoleLog": "console", "Start": "manage", "OpenConsole": "console",
        "Qmp": "debug", "Suspend": "manage", "Resume": "manage", "Reset": "manage", "Stop": "manage", "Kill": "manage",
        "Destroy": "manage",
    },
    "Image": {"Export": "export", "SetShared": "share", "Rename": "manage", "Remove": "manage"},
    "Job": {"Cancel": "manage"},
}
# Properties are for whoever may see the object; the Manager's for everybody.
MANAGER_PROPERTIES = {"Version", "BrokenVMs", "BrokenRecords"}

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
                         ["type='method_call',interface='org.freedesktop.PolicyKit1.Authority',member='CheckAuthorization'",
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


# What is expected

def has_rights(caller):
    """For oneself"""
    return caller.kind in ("session", "group", "root")


def may(caller, rule, thing, member):
    """True, False, or None where that is the administrator's taste"""
    own = thing.owner == caller.name
    if caller.name == "root":
        return True
    if caller.kind == "rule" and thing.name == "bob-ruled":
        return True
    if caller.kind == "rule" and thing.name == "bob-verb" and member == "SetLimits":
        return True
    if rule == "see":
        return own or thing.shared
    if rule in ("manage", "console"):
        return own and has_rights(caller)
    if rule == "export":
        if thing.shared and not own and caller.kind == "group":
            return None
        return (own or thing.shared) and has_rights(caller)
    return False  # debug, share


def judge(caller, thing, reply, expected, asked):
    """What is wrong with a reply, or None"""
    if reply.error == bus.NO_REPLY:
        return "no reply"
    if reply.error and not NAMED.fullmatch(reply.error):
        return "not a named error: %s" % reply
    if not thing.owner:
        if reply.error not in UNKNOWN:
            return "nothing is there, and yet: %s" % reply
        return "polkit was asked about what is not there: %s" % asked if asked else None
    if expected is False and reply.error not in REFUSED:
        return "not refused: %s" % reply
    if expected and reply.error in REFUSED | UNKNOWN:
        return "refused: %s" % reply
    return judge_words(caller, thing, reply) or judge_questions(caller, thing, asked)


def judge_words(caller, thing, reply):
    """What belongs to others is not in an error, but for the name that the caller has said."""
    if reply.error not in REFUSED:
        return None
    text = reply.text.replace(thing.name or thing.path, "")
    secrets = [uuid for uuid in (uuids.get(thing.path),) if uuid]
    secrets += ["/var/lib/vmctl", "/run/vmctl", "/srv"]
    secrets += [word for name in OWNERS if name not in (caller.name, "root") for word in (name, str(UIDS[name]))]
    found = [secret for secret in secrets if secret in text]
    return "the message tells %s: %s" % (found, text) if found else None


def judge_questions(caller, thing, asked):
    if caller.name == "root" and asked:
        return "polkit was asked about root: %s" % asked
    if len(asked) > 1:
        return "polkit was asked more than once: %s" % asked
    for action, details in asked:
        if details.get("owner") != str(UIDS[thing.owner]):
            return "polkit was told another owner: %s %s" % (action, details)
        if thing.interface == VM and details.get("vm") != thing.name:
            return "polkit was told another VM: %s %s" % (action, details)
    return None


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


# The checks

def read_interface():
    tree = xml.etree.ElementTree.parse(TESTS + "/../dbus/org.vmctl1.xml")
    return {face.get("name"): ([m.get("name") for m in face.iter("method")], [p.get("name") for p in face.iter("property")])
            for face in tree.iter("interface")}


def check_table(interfaces):
    problems = []
    for interface, (methods, properties) in interfaces.items():
        known = RULES.get(interface.rsplit(".", 1)[1])
        if known is None:
            problems.append("the interface %s is not in this suite" % interface)
            continue
        problems += ["%s.%s has no rule in this suite" % (interface, m) for m in set(methods) - set(known)]
        problems += ["%s.%s is not in the XML" % (interface, m) for m in set(known) - set(methods)]
        if interface == MANAGER and set(properties) != MANAGER_PROPERTIES:
            problems.append("the Manager has other properties than this suite")
    check_all("Every method of the interface has a rule here", problems)


def try_method(caller, thing, member, rule):
    caller.asked()
    with opened("/srv/exported", os.O_RDWR | os.O_CREAT | os.O_TRUNC) as scratch:
        reply = caller.call(thing.path, thing.interface, member, *arguments(thing.interface, member, scratch), seconds=60)
    return judge(caller, thing, reply, may(caller, rule, thing, member), caller.asked())


def check_refusals(callers, things):
    """All that is not allowed, and what is nobody's. What is allowed comes later, as it changes something."""
    for caller in callers:
        for thing in things:
            problems = []
            for member, rule in RULES[thing.interface.rsplit(".", 1)[1]].items():
                if not thing.owner or may(caller, rule, thing, member) is False:
                    problem = try_method(caller, thing, member, rule)
                    problems += ["%s: %s" % (member, problem)] if problem else []
            check_all("%s: methods of %s" % (caller, thing), problems)


def check_bare(caller, thing):
    """A call may leave out the interface."""
    problems = []
    for member, rule in RULES[thing.interface.rsplit(".", 1)[1]].items():
        with opened("/srv/exported", os.O_RDWR | os.O_CREAT | os.O_TRUNC) as scratch:
            reply = caller.call(thing.path, None, member, *arguments(thing.interface, member, scratch))
        if reply.error not in REFUSED | UNKNOWN:
            problems.append("%s: %s" % (member, reply))
    check_all("%s: methods of %s without an interface's name" % (caller, thing), problems)


def check_properties(caller, thing, names):
    """Each one can be read or not, none can be set. What is refused costs a question, so setting is tried with one."""
    expected, problems = may(caller, "see", thing, "Get"), []
    calls = [("GetAll", "s", thing.interface)]
    calls += [("Get", "ss", thing.interface, name) for name in names]
    calls += [("Set", "ssv", thing.interface, name, ("s", "x")) for name in (names if expected else names[:1])]
    caller.asked()
    for call in calls:
        reply = caller.call(thing.path, PROPERTIES, *call)
        problem = judge(caller, thing, reply, expected, caller.asked())
        if not problem and call[0] == "Set" and not reply.error:
            problem = "it can be set"
        problems += ["%s %s: %s" % (call[0], " ".join(call[3:4]), problem)] if problem else []
    check_all("%s: properties of %s" % (caller, thing), problems)


def check_allowed(caller, thing):
    problems = []
    for member, rule in RULES[thing.interface.rsplit(".", 1)[1]].items():
        if may(caller, rule, thing, member):
            problem = try_method(caller, thing, member, rule)
            problems += ["%s: %s" % (member, problem)] if problem else []
            if member == "Rename" and not problem:
                thing = image_thing(thing.owner, "renamed", thing.shared)
    check_all("%s: what is allowed with %s" % (caller, thing), problems)


def check_adding(caller):
    """The Manager's methods that make something for the caller, or for all of the host"""
    me, problems = caller.name, []
    with opened("/srv/disk.raw") as disk:
        cases = [
            ("PullImage", True, "sa{sv}", "file:///srv/%s-pulled.raw" % me, {"shared": ("b", False)}),
            ("PullImage", False, "sa{sv}", "file:///srv/declared.raw",
             {"shared": ("b", True), "name": ("s", "pulled-for-all")}),
            ("ImportImage", True, "sha{sv}", me + "-imported", disk, {"shared": ("b", False)}),
            ("ImportImage", False, "sha{sv}", "imported-for-all", disk, {"shared": ("b", True)}),
            ("InspectImage", True, "ha{sv}", disk, {}),
            ("PruneImages", True, "ta{sv}", 1 << 50, {"dry-run": ("b", True)}),
            ("PruneImages", False, "ta{sv}", 1 << 50, {"all": ("b", True), "dry-run": ("b", True)}),
            ("CreateVMFromURL", True, "ssa{sv}a{sv}", me + "-from-url", "file:///srv/%s-pulled.raw" % me,
             options(), {"name": ("s", me + "-pulled-too"), "shared": ("b", False)}),
        ]
        for member, for_oneself, *args in cases:
            expected = caller.name == "root" or (for_oneself and has_rights(caller))
            problem = judge(caller, Thing(MANAGER, ROOT_PATH, me), manager(caller, member, *args), expected, [])
            problems += ["%s%s: %s" % (member, "" if for_oneself else " for all", problem)] if problem else []
    name = me + "-made"
    caller.asked()
    reply = create(caller, name)
    problem = judge(caller, vm_thing(me, name), reply, has_rights(caller), caller.asked())
    problems += ["CreateVM: %s" % problem] if problem else []
    if not reply.error and value(path_of("vm", name), VM, "Owner") != caller.uid:
        problems.append("CreateVM: it is somebody else's")
    destroy(name)
    check_all("%s: methods of the Manager that make something" % caller, problems)


def found_in(caller, raw):
    return sorted({match.group().decode() for match in caller.forbidden.finditer(raw)})


def check_filters(caller, jobs):
    """Lists show one's own and what is shared, and nothing else is found by name."""
    problems = []
    for member in ("ListVMs", "ListImages", "ListJobs", "GetManagedObjects"):
        interface = FREEDESKTOP + "ObjectManager" if member == "GetManagedObjects" else MANAGER
        reply = caller.call(ROOT_PATH, interface, member)
        names = found_in(caller, reply.raw)
        if reply.error or (names and caller.name != "root"):
            problems.append("%s: %s" % (member, reply.error or "tells " + ", ".join(names)))
        if member == "ListImages" and b"shared-root" not in reply.raw:
            problems.append("ListImages: without what is shared")
        if member == "ListVMs" and ("%s-vm" % caller.name).encode() not in reply.raw:
            problems.append("ListVMs: without the caller's own")
    for kind in ("vm", "image", "job"):
        reply = caller.call("%s/%s" % (ROOT_PATH, kind), FREEDESKTOP + "Introspectable", "Introspect")
        names = found_in(caller, reply.raw)
        if names and caller.name != "root":
            problems.append("Introspect of %s: tells %s" % (kind, ", ".join(names)))
    lookups = [("GetVM", "s", owner + "-vm", owner, "NoSuchVM") for owner in OWNERS]
    lookups += [("GetImage", "s", owner + "-img", owner, "NoSuchImage") for owner in OWNERS]
    lookups += [("GetJob", "u", job.id, owner, "NoSuchJob") for owner, job in jobs.items()]
    lookups += [("GetVMByPID", "u", value(path_of("vm", "root-runs"), VM, "PID"), "root", "NoSuchVM")]
    lookups += [("GetVM", "s", "missing", None, "NoSuchVM"), ("GetImage", "s", "missing", None, "NoSuchImage"),
                ("GetJob", "u", 4000000000, None, "NoSuchJob"), ("GetVMByPID", "u", os.getpid(), None, "NoSuchVM")]
    for member, signature, argument, owner, error in lookups:
        reply = manager(caller, member, signature, argument)
        hidden = owner is None or caller.name not in (owner, "root")
        if reply.error != (ERRORS + error if hidden else None):
            problems.append("%s %s: %s" % (member, argument, reply))
    for member in ("GetVersion", "GetCapabilities"):
        reply = manager(caller, member)
        problems += ["%s: %s" % (member, reply)] if reply.error else []
    for name in MANAGER_PROPERTIES:
        reply = get(caller, ROOT_PATH, MANAGER, name)
        problems += ["%s: %s" % (name, reply)] if reply.error else []
    check_all("%s: lists and look-ups" % caller, problems)


class Snapshot:
    """All that there is, for root's eyes; nothing of it may change."""

    def __init__(self):
        self.objects = must(administrator.call(ROOT_PATH, FREEDESKTOP + "ObjectManager", "GetManagedObjects")).body[0]

    def difference(self):
        now, found = Snapshot().objects, []
        passing = {"MemoryCurrent", "MemoryPeak", "CPUUsageNSec"}
        for path in sorted(set(now) | set(self.objects)):
            before, after = self.objects.get(path, {}), now.get(path, {})
            for interface in set(before) | set(after):
                old, new = before.get(interface), after.get(interface)
                if old is None or new is None:
                    found.append("%s has come or gone" % path)
                else:
                    found += ["%s: %s was %s and is %s" % (path, key, old[key], new[key])
                              for key in old if key not in passing and old[key] != new.get(key)]
        return found


# What appears, or is replaced, while a call waits

def send_and_wait(caller, path, interface, member, *args):
    """Sends a call and waits until polkit is asked, or there is a reply: what comes first."""
    caller.asked()
    serial = caller.send(path, interface, member, *args)
    bus.pump([caller.bus, monitor], lambda: serial in caller.bus.replies or
             any(name == caller.bus.name for name, _, _ in questions), bus.PATIENCE)
    return serial


def check_unknown(description, caller, serial, path, interface, wanted, missing=False):
    """The verdict did not count for what is there now: the reply says so, and the object is as it was."""
    reply, problems, asked = caller.bus.wait(serial), [], caller.asked()
    if reply.error not in UNKNOWN:
        problems.append("the reply is %s" % reply)
    if missing and asked:
        problems.append("polkit was asked: %s" % asked)
    for name, before in wanted.items():
        now = value(path, interface, name)
        if now != before:
            problems.append("%s was %s and is %s" % (name, before, now))
    check_all(description, problems)


def traits(path, interface):
    names = {VM: ("UUID", "Owner", "State", "PID", "Spec"), IMAGE: ("UUID", "Owner", "Name", "Shared"),
             JOB: ("Id", "State", "Object")}[interface]
    return {name: value(path, interface, name) for name in names}


def check_vm_appears(caller, member, start):
    path = path_of("vm", "late")
    with silent_polkit():
        serial = send_and_wait(caller, path, VM, member, *arguments(VM, member, -1))
        must(create(administrator, "late", start))
        before = traits(path, VM)
    check_unknown("%s: %s of what appears meanwhile" % (caller, member), caller, serial, path, VM, before, True)
    destroy("late")


def check_vm_appears_at_once(caller):
    """Without polkit: the call and root's CreateVM are under way together."""
    problems = []
    for _ in range(10):
        serial = caller.send(path_of("vm", "late"), VM, "Destroy")
        created = create(administrator, "late")
        reply = caller.bus.wait(serial)
        if created.error or reply.error not in UNKNOWN:
            problems.append("created: %s; destroyed: %s" % (created, reply))
        if destroy("late").error:
            problems.append("it is gone")
    check_all("%s: Destroy of what root makes at this moment" % caller, problems)


def check_vm_replaced(caller, owner, name, start, interface, member, *args):
    """The caller may do this with the owner's VM, and then that is another's."""
    path = path_of("vm", name)
    destroy(name)
    must(create(owner, name))
    with silent_polkit():
        serial = send_and_wait(caller, path, interface, member, *args)
        must(destroy(name))
        must(create(administrator, name, start))
        before = traits(path, VM)
    check_unknown("%s: %s of what is replaced meanwhile" % (caller, member), caller, serial, path, VM, before)
    destroy(name)
    must(create(owner, name))


def check_image_race(caller, member, change, description):
    """change() puts an image of root's where the call has meant nothing, or another."""
    path = path_of("image", "swap")
    with opened("/srv/exported", os.O_RDWR | os.O_CREAT | os.O_TRUNC) as scratch:
        with silent_polkit():
            serial = send_and_wait(caller, path, IMAGE, member, *arguments(IMAGE, member, scratch))
            others = change()
            before = traits(path, IMAGE)
        check_unknown("%s: %s of an image that %s" % (caller, member, description), caller, serial, path, IMAGE,
                      before, description == "appears meanwhile")
        if os.fstat(scratch).st_size > 0:
            check("... and nothing of it was written out", "%d bytes" % os.fstat(scratch).st_size)
    for other in ["swap", "renamed"] + (others or []):
        remove_image(other)


def check_images_race(caller):
    path = path_of("image", "swap")

    def appear():
        prepare_image(administrator, "swap")

    def replace():
        must(administrator.call(path, IMAGE, "Remove"))
        prepare_image(administrator, "swap")

    def rename():
        uuid = value(path, IMAGE, "UUID")
        must(administrator.call(path, IMAGE, "Rename", "s", "moved"))
        prepare_image(administrator, "swap")
        return ["moved"] if uuid else None
    for member in ("Remove", "Rename", "Export"):
        check_image_race(caller, member, appear, "appears meanwhile")
        for change, description in ((replace, "is replaced meanwhile"), (rename, "gets another name meanwhile")):
            prepare_image(caller, "swap")
            check_image_race(caller, member, change, description)


def check_job_appears(caller):
    last = EndlessJob(administrator, "root-job-before")
    last.end()
    path = "%s/job/%d" % (ROOT_PATH, last.id + 1)
    with silent_polkit():
        serial = send_and_wait(caller, path, JOB, "Cancel")
        job = EndlessJob(administrator, "root-job-late")
        before = traits(job.path, JOB)
    if job.path != path:
        check("The number of a job can be foretold", "%s is not %s" % (job.path, path))
    check_unknown("%s: Cancel of a job that appears meanwhile" % caller, caller, serial, path, JOB, before, True)
    job.end()


# Names

def check_names(first, second):
    """A name is its owner's from the call on, until that has failed."""
    pull = ("ssa{sv}a{sv}", "held", URL + "/gate/held.raw", options(), {"name": ("s", "held-image")})
    problems = []
    with closed_gate():
        job = must(manager(first, "CreateVMFromURL", *pull))
        for other in (second, administrator):
            reply = create(other, "held")
            if reply.error != ERRORS + "VMExists":
                problems.append("%s: %s" % (other, reply))
            if not reply.error:
                destroy("held")
            if first.name in reply.text or str(first.uid) in reply.text:
                problems.append("%s is told whose it is: %s" % (other, reply.text))
        check_all("A name is taken while its VM is still being made", problems)
        must(administrator.call(job.body[0], JOB, "Cancel"))
        wait_job(first, job)
    reply = create(second, "held")
    check("... and free when that has failed", reply.error and str(reply))
    destroy("held")

    problems = []
    for _ in range(5):
        callers = (first, second, administrator)
        serials = [send_create(caller, "race") for caller in callers]
        replies = [caller.bus.wait(serial, 60) for caller, serial in zip(callers, serials)]
        winners = [caller for caller, reply in zip(callers, replies) if not reply.error]
        errors = {reply.error for reply in replies if reply.error}
        if len(winners) != 1 or errors != {ERRORS + "VMExists"}:
            problems.append("; ".join(str(reply) for reply in replies))
        elif value(path_of("vm", "race"), VM, "Owner") != winners[0].uid:
            problems.append("it is not the winner's")
        destroy("race")
    check_all("Of three who make a VM of one name at once, one succeeds and owns it", problems)


def check_declared(caller):
    refusals = {ERRORS + "VMExists", FREEDESKTOP + "Error.AccessDenied"}
    url = ("ssa{sv}a{sv}", "declared", "file:///srv/declared.raw", options(), {})
    problems = []
    for make in (lambda: create(caller, "declared"), lambda: manager(caller, "CreateVMFromURL", *url)):
        reply = make()
        if reply.error not in refusals:
            problems.append(str(reply))
            if not reply.error and "/job/" in reply.body[0]:
                wait_job(caller, reply)
        elif not re.search(r"/etc/vmctl|declared by|reserved|administrator", reply.text):
            problems.append("does not say why: %s" % reply)
        destroy("declared")
    check_all("%s: a name that /etc/vmctl declares is root's" % caller, problems)
    reply = create(administrator, "declared")
    check("... who may make it", reply.error and str(reply))
    destroy("declared")


def vm_from_image(caller, name, key, image):
    plain = {k: v for k, v in options().items() if k != "append"}
    return manager(caller, "CreateVM", "sa{sv}", name, {**plain, key: ("s", image)}, seconds=60)


def check_root_uses(owner):
    """Root manages all, and uses only what is root's or shared."""
    url, problems = "file:///srv/%s-only.raw" % owner.name, []
    must_be_done(owner, manager(owner, "PullImage", "sa{sv}", url, {}))
    os.remove("/srv/%s-only.raw" % owner.name)
    for key, image in (("image-name", owner.name + "-img"), ("image-url", url)):
        reply = vm_from_image(administrator, "root-uses", key, image)
        if reply.error != ERRORS + "NoSuchImage":
            problems.append("%s: %s" % (key, reply))
        destroy("root-uses")
    result = wait_job(administrator, manager(administrator, "CreateVMFromURL", "ssa{sv}a{sv}", "root-uses", url,
                                             {k: v for k, v in options().items() if k != "append"}, {}))
    if result != "failed":
        problems.append("CreateVMFromURL: %s" % result)
    destroy("root-uses")
    check_all("Root's VMs are not made from a user's private images", problems)
    reply = vm_from_image(administrator, "root-uses", "image-name", "shared-root")
    check("... but from shared ones", reply.error and str(reply))
    destroy("root-uses")


@contextlib.contextmanager
def closed_gate():
    """What is pulled from /gate stays in the middle, until the end of this."""
    os.mkfifo(GATE)
    try:
        yield
    finally:
        # Whoever has the FIFO open reads its end, and whoever comes later finds none.
        fd = os.open(GATE, os.O_RDWR)
        os.remove(GATE)
        os.close(fd)


def write_served(name):
    with open(os.path.join(WWW, name), "wb") as file, open("/srv/disk.raw", "rb") as disk:
        file.write(disk.read()[:512] + os.urandom(1 << 18))


def pull(caller, url, **more):
    return manager(caller, "PullImage", "sa{sv}", url, {"name": ("s", "wanted"), **more})


def judge_pull(first, result, uuid, job):
    """result is of somebody else's import under the name that a pull of first's was about, uuid what it has made."""
    pulled, path = wait_job(first, job), path_of("image", "wanted")
    if result == "done":
        now = value(path, IMAGE, "UUID")
        return None if now == uuid else "the import was done, its image is gone; the pull: %s" % pulled
    if "ImageExists" not in result:
        return "the import: %s" % result
    if pulled != "done" or value(path, IMAGE, "Owner") != first.uid:
        return "the pull: %s" % pulled
    return None


def check_pulls(first, second):
    """Whoever comes to a name while a pull is under way either hears that it is taken, or keeps it."""
    path = path_of("image", "wanted")
    for number, other in enumerate((administrator, second)):
        url = "%s/gate/wanted-%d.raw" % (URL, number)
        write_served("wanted-%d.raw" % number)
        with closed_gate():
            job = must(pull(first, url))
            result = import_image(other, "wanted")
            uuid = value(path, IMAGE, "UUID")
        check("A pull displaces nothing that %s puts under its name meanwhile" % other.name,
              judge_pull(first, result, uuid, job))

        remove_image("wanted")
        must_be_done(first, pull(first, url))
        write_served("wanted-%d.raw" % number)
        with closed_gate():
            job = must(pull(first, url, refresh=("b", True)))
            must(first.call(path, IMAGE, "Remove"))
            result = import_image(other, "wanted")
            uuid = value(path, IMAGE, "UUID")
        check("... nor does one that renews an image that is gone by then", judge_pull(first, result, uuid, job))
        remove_image("wanted")

        write_served("wanted-%d.raw" % number)
        with closed_gate():
            job = must(pull(first, url))
            again = pull(first, url, format=("s", "raw"))
            missing = pull(second, URL + "/plain/missing")
            if missing.error is None:
                wait_job(second, missing)
            result = import_image(other, "wanted")
            uuid = value(path, IMAGE, "UUID")
        problem = judge_pull(first, result, uuid, job)
        if not problem and "ImageExists" not in result:
            problem = "the name was free: %s after %s" % (result, again)
        check("Further pulls that fail leave the first one its name, as %s sees" % other.name, problem)
        remove_image("wanted")


def must_be_done(caller, reply):
    result = wait_job(caller, reply)
    if result != "done":
        raise CannotPrepare(result)


def check_adoption(owner):
    """What is made of a VMFile is made for who does it: somebody else's VM is left alone, whatever it says it is."""
    os.mkdir("/root/project")
    for file, name in (("/root/project/VMFile.kdl", "project"), ("/etc/vmctl/unit.kdl", "unit")):
        must(create(owner, name, origin=("s", file)))
        with open(file, "w", encoding="utf-8") as vmfile:
            vmfile.write('vm "%s" { kernel "%s/vmlinuz"; initrd "%s/initrd"; memory 192; network "none"; display "none"; '
                         'accel "tcg"; }\n' % (name, GUEST, GUEST))
    must(create(owner, "moved", origin=("s", "/nowhere/VMFile.kdl")))
    with open("/root/project/moved.kdl", "w", encoding="utf-8") as vmfile:
        vmfile.write('vm "moved" { kernel "%s/vmlinuz"; memory 192; network "none"; accel "tcg"; }\n' % GUEST)
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    for name, command in (("project", ["vmctl", "up", "--file", "/root/project/VMFile.kdl"]),
                          ("moved", ["vmctl", "up", "--file", "/root/project/moved.kdl"]),
                          ("unit", ["systemctl", "start", "vm@unit.service"])):
        before = traits(path_of("vm", name), VM)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        after, problems = traits(path_of("vm", name), VM), []
        if before != after:
            problems.append("it was %s and is %s" % (before, after))
        if done.returncode == 0:
            problems.append("it succeeds: " + done.stdout)
        check_all("Root's '%s' leaves a VM of %s alone" % (" ".join(command[:2]), owner.name), problems)
        subprocess.run(["systemctl", "stop", "vm@unit.service"], check=False)
        destroy(name)


# Jobs and signals

def job_signals(caller, path):
    """Which of a job's signals have come"""
    caller.bus.drain()
    found = set()
    for message in caller.heard:
        if message.member in ("JobNew", "JobRemoved") and message.body[1] == path:
            found.add(message.member)
        if message.member == "PropertiesChanged" and message.path == path:
            found.add("finished" if message.body[1].get("State") == "finished" else "changed")
    return found


def check_job_heard(description, path, hearers, others):
    """The end of the job, as root hears it, has been sent to all."""
    bus.pump([administrator.bus], lambda: "JobRemoved" in job_signals(administrator, path), 30)
    problems = []
    for caller in hearers:
        missing = {"JobNew", "JobRemoved", "finished"} - job_signals(caller, path)
        problems += ["%s (%s) does not hear %s" % (caller, caller.name, ", ".join(sorted(missing)))] if missing else []
    for caller in others:
        heard = job_signals(caller, path)
        problems += ["%s (%s) hears %s" % (caller, caller.name, ", ".join(sorted(heard)))] if heard else []
    check_all(description, problems)


def check_jobs(session, group, ruled):
    with opened("/srv/exported", os.O_RDWR | os.O_CREAT | os.O_TRUNC) as file:
        reply = must(session.call(path_of("image", "shared-bob"), IMAGE, "Export", "ha{sv}", file, {}))
    check_job_heard("The end of an export is heard by who wanted it and the image's owner", reply.body[0],
                    (session, group), (ruled,))

    path = path_of("vm", "bob-ruled")
    must(administrator.call(path, VM, "Start", "a{sv}", {}, seconds=60))
    reply = must(ruled.call(path, VM, "Stop", "t", 1000000))
    job, problems = reply.body[0], []
    for caller, expected in ((ruled, True), (group, True), (session, False)):
        told = caller.call(job, PROPERTIES, "GetAll", "s", JOB)
        if (told.error in REFUSED) == expected or (expected and told.error):
            problems.append("%s reads the job: %s" % (caller, told))
        found = manager(caller, "GetJob", "u", int(job.rsplit("/", 1)[1]))
        if found.error != (None if expected else ERRORS + "NoSuchJob"):
            problems.append("%s looks it up: %s" % (caller, found))
    check_all("A job is seen by who wanted it and by the owner of its VM", problems)
    check_job_heard("... and so is its end heard", job, (ruled, group), (session,))


def check_signals(callers):
    for caller in callers:
        caller.bus.drain()
        found = sorted({"%s %s tells %s" % (m.path, m.member, ", ".join(found_in(caller, m.raw)))
                        for m in caller.heard if found_in(caller, m.raw)})
        problems = found if caller.name != "root" else []
        if not caller.heard:
            problems.append("nothing at all was heard")
        check_all("%s: signals are about what they may see" % caller, problems)


# The world in which all this happens

def prepare_owner(caller):
    me = caller.name
    must(create(caller, me + "-vm"))
    if me == "bob":
        must(create(caller, "bob-ruled"))
        must(create(caller, "bob-verb"))
    prepare_image(caller, me + "-img")
    if me in ("bob", "root"):
        prepare_image(caller, "shared-" + me)
        must(administrator.call(path_of("image", "shared-" + me), IMAGE, "SetShared", "b", True))
        must(vm_from_image(caller, me + "-on-shared", "image-name", "shared-root" if me == "root" else "shared-bob"))


administrator = Caller("root", "root", root)
watch_polkit()
uuids = {}


def main():
    interfaces = read_interface()
    check_table(interfaces)
    people = {name: bus.User(TESTS, name, UIDS[name]) for name in ("alice", "bob", "dave")}
    plain, group, ruled = (Caller(kind, name, people[name].bus)
                           for kind, name in (("no rights", "alice"), ("group", "bob"), ("rule", "dave")))
    for caller in (administrator, plain, group, ruled):
        must(manager(caller, "ListVMs"))
    visitor = bus.User(TESTS, "dave", UIDS["dave"], session=True)
    visiting = Caller("session", "dave", visitor.bus)
    must(manager(visiting, "ListVMs"))
    prepare_owner(visiting)
    visitor.leave()
    everybody.remove(visitor.bus)
    seat = bus.User(TESTS, "alice", UIDS["alice"], session=True)
    session = Caller("session", "alice", seat.bus)
    must(manager(session, "ListVMs"))
    for caller in (session, group, administrator):
        prepare_owner(caller)
    must(create(administrator, "root-runs", start=True))
    callers = (plain, session, group, ruled, administrator)
    users = callers[:-1]

    jobs = {"alice": EndlessJob(session, "alice-job"), "bob": EndlessJob(group, "bob-job"),
            "root": EndlessJob(administrator, "root-job")}
    vms = [vm_thing(owner, owner + "-vm") for owner in OWNERS]
    vms += [vm_thing("bob", "bob-ruled"), vm_thing("bob", "bob-verb"), vm_thing("root", "root-runs")]
    images = [image_thing(owner, owner + "-img") for owner in OWNERS]
    images += [image_thing(owner, "shared-" + owner, True) for owner in ("bob", "root")]
    job_things = [Thing(JOB, job.path, owner) for owner, job in jobs.items()]
    missing = [Thing(VM, path_of("vm", "missing"), None), Thing(VM, path_of("vm", "alice-vm") + "/more", None),
               Thing(VM, path_of("vm", "")[:-1], None), Thing(IMAGE, path_of("image", "missing"), None),
               Thing(JOB, ROOT_PATH + "/job/4000000000", None), Thing(JOB, ROOT_PATH + "/job/x", None)]
    for thing in vms + images:
        uuids[thing.path] = value(thing.path, thing.interface, "UUID")
    before = Snapshot()

    check_refusals(users, vms + images + job_things)
    check_refusals(callers, missing)
    for thing in (vms[1], vms[6], images[1], job_things[1]):
        check_bare(plain, thing)
    for caller in callers:
        for thing in vms[:5] + images + job_things + missing:
            # One of each owner's is enough for all of them.
            names = interfaces[thing.interface][1]
            check_properties(caller, thing, names if thing in (vms[1], vms[3], vms[4], images[1], images[3], images[4]) or
                             thing.owner in (caller.name, None) else names[:2])
        check_filters(caller, jobs)
    check_all("All this has changed nothing", before.difference())
    for job in jobs.values():
        job.end()

    for member, start in (("Destroy", False), ("OpenConsole", True), ("Kill", True), ("UpdateSpec", False)):
        for caller in users:
            attempt(check_vm_appears, caller, member, start)
        for caller, owner, name in ((session, session, "alice-vm"), (group, group, "bob-vm"), (ruled, group, "bob-ruled")):
            attempt(check_vm_replaced, caller, owner, name, start, VM, member, *arguments(VM, member, -1))
    attempt(check_vm_replaced, ruled, group, "bob-ruled", False, PROPERTIES, "Get", "ss", VM, "Spec")
    attempt(check_vm_appears_at_once, session)
    attempt(check_images_race, session)
    attempt(check_job_appears, session)
    attempt(check_names, session, group)
    attempt(check_declared, session)
    attempt(check_root_uses, session)
    attempt(check_pulls, session, group)
    attempt(check_adoption, session)
    attempt(check_jobs, session, group, ruled)

    for caller in callers:
        check_adding(caller)
    for caller, job_name in ((session, "alice-job"), (group, "bob-job"), (administrator, "bob-job")):
        job = EndlessJob(group if job_name == "bob-job" else session, job_name)
        check_allowed(caller, Thing(JOB, job.path, "alice" if job_name == "alice-job" else "bob"))
        job.end()
    allowed = ((session, vms[0]), (group, vms[1]), (ruled, vms[4]), (ruled, vms[5]), (administrator, vms[3]),
               (administrator, vms[2]))
    for caller, thing in allowed:
        check_allowed(caller, thing)
    for caller, thing in ((session, images[0]), (group, images[1]), (session, images[5]), (administrator, images[2]),
                          (administrator, images[3])):
        check_allowed(caller, thing)
    check_signals(callers)


started = time.monotonic()
main()
print("# %d checks, %d failed, in %d s" % (checks, failures, time.monotonic() - started))
print("1..%d" % checks)
sys.exit(failures > 0)
