# SPDX-License-Identifier: GPL-2.0-or-later
"""What the host says of the service, against what the service says: files, processes, control groups. For stress.py."""

import collections
import json
import os
import re

STATE, RUNTIME = "/var/lib/vmctl", "/run/vmctl"
STATES_AT_REST = {"prepared", "running", "suspended", "stopped", "failed"}
UIDS_OF_VMS = 1879048192


def cgroup_dir(pid):
    """In systemd's own hierarchy, or None"""
    try:
        with open("/proc/%d/cgroup" % pid, encoding="ascii") as file:
            lines = file.read().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "name=systemd":
            return "/sys/fs/cgroup/systemd" + path
    return "/sys/fs/cgroup" + lines[-1].split(":", 2)[2]


def read_pids(directory):
    try:
        with open(directory + "/cgroup.procs", encoding="ascii") as file:
            return [int(line) for line in file]
    except (TypeError, OSError):
        return []


def command_line(pid):
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as file:
            return file.read(200).replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "gone"


def descriptors(pid):
    """What they are, with how many of each; but for those of its event loop, which has as many as it needed once"""
    found = collections.Counter()
    for fd in os.listdir("/proc/%d/fd" % pid):
        try:
            found[re.sub(r"\d+", "N", os.readlink("/proc/%d/fd/%s" % (pid, fd)))] += 1
        except FileNotFoundError:
            pass
    loop = ("anon_inode:[timerfd]", "anon_inode:inotify")
    return {what: number for what, number in found.items() if what not in loop}


def resident(pid):
    with open("/proc/%d/status" % pid, encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def processes():
    """Their PID, parent, state, user, command line"""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % pid, encoding="utf-8", errors="replace") as file:
                state, parent = file.read().rsplit(")", 1)[1].split()[:2]
            with open("/proc/%s/cmdline" % pid, "rb") as file:
                line = file.read().split(b"\0")
            yield (int(pid), int(parent), state, os.stat("/proc/" + pid).st_uid,
                   [word.decode(errors="replace") for word in line])
        except (FileNotFoundError, ProcessLookupError):
            pass


def records(folder, file, killed_children):
    """What is on disk by the folders' names, and what should not be there. A folder whose deletion was killed may stay
    until the next start of the service."""
    found, problems, left = {}, [], []
    for name in os.listdir(folder):
        if name.startswith("."):
            left += [name] if name != ".partial" else []
            continue
        try:
            with open("%s/%s/%s" % (folder, name, file), encoding="utf-8") as text:
                found[name] = json.load(text)
        except (OSError, ValueError) as reason:
            problems.append("%s/%s: %s" % (folder, name, reason))
    deleted = [name for name in left if name.startswith((".old-", ".new-"))]
    if len(deleted) <= killed_children:
        left = [name for name in left if name not in deleted]
    return found, problems + ["%s/%s is left" % (folder, name) for name in left]


def compare_vms(vms, killed_children):
    found, problems = records(STATE + "/vms", "vm.json", killed_children)
    on_bus = {(vm["Name"], vm["UUID"], vm["Owner"], vm["Spec"].get("cpu-weight", 0)) for vm in vms}
    on_disk = {(name, vm["uuid"], vm["owner"], vm["spec"].get("cpu-weight", 0)) for name, vm in found.items()}
    if on_bus != on_disk:
        problems.append("VMs on the bus but not on disk: %s; the other way: %s" % (on_bus - on_disk, on_disk - on_bus))
    problems += ["%s is %s" % (vm["Name"], vm["State"]) for vm in vms if vm["State"] not in STATES_AT_REST]
    problems += ["%s/%s belongs to no VM" % (RUNTIME, name) for name in os.listdir(RUNTIME)
                 if name not in found and os.path.isdir(RUNTIME + "/" + name)]
    for key in ("UUID", "UID", "MAC"):
        if len({vm[key] for vm in vms}) != len(vms):
            problems.append("two VMs have the same " + key)
    return problems


def compare_images(images, killed_children):
    found, problems = records(STATE + "/images", "image.json", killed_children)
    on_bus = {(image["UUID"], image["Name"], image["Owner"], image["Shared"]) for image in images}
    on_disk = {(name, image["name"], image["owner"], image.get("shared", False)) for name, image in found.items()}
    if on_bus != on_disk:
        problems.append("images on the bus but not on disk: %s; the other way: %s" % (
            on_bus - on_disk, on_disk - on_bus))
    return problems


def compare_processes(vms, killed_shims):
    """Each VM that runs has a QEMU, and a shim, of its user; there is no other process of such a user, and no zombie."""
    problems, owners = [], {vm["UID"]: vm for vm in vms}
    found = collections.defaultdict(list)
    for pid, parent, state, uid, line in processes():
        if state == "Z" and uid >= UIDS_OF_VMS:
            problems.append("the zombie %d of %d" % (pid, parent))
        elif uid >= UIDS_OF_VMS:
            found[uid].append((pid, os.path.basename(line[0])))
            if uid not in owners:
                problems.append("the process %d of no VM: %s" % (pid, line[:1]))
    for uid, vm in owners.items():
        runs, names = vm["State"] in ("running", "suspended"), sorted(name for _, name in found[uid])
        expected = ["qemu-system-x86_64", "vmctl-shim"] if runs else []
        if names != expected and not (runs and vm["UUID"] in killed_shims and names == expected[:1]):
            problems.append("%s is %s and has the processes %s" % (vm["Name"], vm["State"], found[uid]))
        elif runs and vm["PID"] not in [pid for pid, _ in found[uid]]:
            problems.append("%s has another PID than %d" % (vm["Name"], vm["PID"]))
    return problems
