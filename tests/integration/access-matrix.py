#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may do what, as a whole: every method and property of dbus/org.vmctl1.xml, on what is one's own, another's,
root's, shared and nobody's, for each kind of caller; then what access_meanwhile.py has. Run by access-matrix.sh as
root.

access-matrix.py TESTS GUEST URL WWW GATE, the latter three of http-server.py"""

import os
import xml.etree.ElementTree

import bus
from access_meanwhile import (check_adoption, check_declared, check_images_race, check_job_appears,
                              check_jobs, check_names, check_pulls, check_root_uses, check_vm_appears,
                              check_vm_appears_at_once, check_vm_replaced)
from access_world import (Caller, ERRORS, EndlessJob, FREEDESKTOP, IMAGE, JOB, MANAGER, NAMED, OWNERS,
                          PROPERTIES, REFUSED, ROOT_PATH, TESTS, Thing, UIDS, UNKNOWN, VM, administrator,
                          arguments, attempt, check_all, create, destroy, everybody, finish, found_in, get,
                          image_thing, manager, must, opened, options, path_of, prepare_image, value,
                          vm_from_image, vm_thing)


# What a method needs: "open" to all, "filter" for all, each with what they may see; "create" and "add" for oneself,
# "add" also for the host; "broken" for who may manage all; the others need the right to the object.
RULES = {
    "Manager": {
        "CreateVM": "create", "CreateVMFromURL": "create", "GetVM": "filter", "GetVMByPID": "filter",
        "ListVMs": "filter", "PullImage": "add", "ImportImage": "add", "InspectImage": "add", "PruneImages": "add",
        "GetImage": "filter", "ListImages": "filter", "GetVersion": "open", "GetCapabilities": "open",
        "GetJob": "filter", "ListJobs": "filter", "GetUsage": "filter", "RemoveBrokenRecord": "broken",
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


# The checks

def read_interface():
    tree = xml.etree.ElementTree.parse(TESTS + "/../dbus/org.vmctl1.xml")

    def names(face, what):
        return [node.get("name") for node in face.iter(what)]
    return {face.get("name"): (names(face, "method"), names(face, "property")) for face in tree.iter("interface")}


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
        values = arguments(thing.interface, member, scratch)
        reply = caller.call(thing.path, thing.interface, member, *values, seconds=60)
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
    usage = must(caller.call(ROOT_PATH, MANAGER, "GetUsage")).body[0]
    uids = {uid for uid, *_ in usage}
    if not uids or (uids != {caller.bus.uid} and caller.name != "root"):
        problems.append("GetUsage: tells of %s" % uids)
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
    for kind, name, error in [("vm", "missing", "NoSuchVM"), ("image", "missing", "NoSuchImage"),
                              ("vm", "root-vm", "NoSuchVM")]:  # is not broken
        reply = manager(caller, "RemoveBrokenRecord", "ss", kind, name)
        problems += [] if reply.error == ERRORS + error else ["RemoveBrokenRecord %s: %s" % (name, reply)]
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


uuids = {}  # by path, of what others may not hear


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
    # With these all properties are tried, which is a question to polkit each
    one_of_a_kind = (vms[1], vms[3], vms[4], images[1], images[3], images[4])
    before = Snapshot()

    check_refusals(users, vms + images + job_things)
    check_refusals(callers, missing)
    for thing in (vms[1], vms[6], images[1], job_things[1]):
        check_bare(plain, thing)
    for caller in callers:
        for thing in vms[:5] + images + job_things + missing:
            names = interfaces[thing.interface][1]
            whole = thing in one_of_a_kind or thing.owner in (caller.name, None)
            check_properties(caller, thing, names if whole else names[:2])
        check_filters(caller, jobs)
    check_all("All this has changed nothing", before.difference())
    for job in jobs.values():
        job.end()

    for member, start in (("Destroy", False), ("OpenConsole", True), ("Kill", True), ("UpdateSpec", False)):
        for caller in users:
            attempt(check_vm_appears, caller, member, start)
        for caller, owner, name in ((session, session, "alice-vm"), (group, group, "bob-vm"),
                                    (ruled, group, "bob-ruled")):
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


main()
finish()
