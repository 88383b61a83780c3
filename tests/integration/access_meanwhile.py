# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens while something is under way: a call waits for polkit and its object appears or is replaced, names are
taken while others make things of them, and who hears of a job."""

import contextlib
import os
import re
import subprocess

import bus
from access_world import (CannotPrepare, ERRORS, EndlessJob, FREEDESKTOP, GATE, GUEST, IMAGE, JOB,
                          PROPERTIES, REFUSED, ROOT_PATH, UNKNOWN, URL, VM, WWW, administrator, arguments,
                          check, check_all, create, destroy, import_image, manager, monitor, must, opened,
                          options, path_of, prepare_image, questions, remove_image, send_create,
                          silent_polkit, value, vm_from_image, wait_job)


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
    """Without polkit: the call and root's CreateVM are under way together. dbus-broker keeps no order between what two
    send, so the VM may be there first."""
    problems = []
    for _ in range(10):
        serial = caller.send(path_of("vm", "late"), VM, "Destroy")
        created = create(administrator, "late")
        reply = caller.bus.wait(serial)
        if created.error or reply.error not in UNKNOWN | REFUSED:
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

    def replace(shared=False):
        must(administrator.call(path, IMAGE, "Remove"))
        prepare_image(administrator, "swap", shared)

    def replace_with_shared():
        replace(True)

    def rename():
        uuid = value(path, IMAGE, "UUID")
        must(administrator.call(path, IMAGE, "Rename", "s", "moved"))
        prepare_image(administrator, "swap")
        return ["moved"] if uuid else None
    for member in ("Remove", "Rename", "Export"):
        check_image_race(caller, member, appear, "appears meanwhile")
        for change, description in ((replace, "is replaced meanwhile"), (rename, "gets another name meanwhile"),
                                    (replace_with_shared, "is replaced by one for all meanwhile")):
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
    definition = 'vm "%s" { kernel "%s/vmlinuz"; initrd "%s/initrd"; memory 192; network "none"; accel "tcg"; }\n'
    os.mkdir("/root/project")
    for file, name in (("/root/project/VMFile.kdl", "project"), ("/etc/vmctl/unit.kdl", "unit")):
        must(create(owner, name, origin=("s", file)))
        with open(file, "w", encoding="utf-8") as vmfile:
            vmfile.write(definition % (name, GUEST, GUEST))
    must(create(owner, "moved", origin=("s", "/nowhere/VMFile.kdl")))
    with open("/root/project/moved.kdl", "w", encoding="utf-8") as vmfile:
        vmfile.write(definition % ("moved", GUEST, GUEST))
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
