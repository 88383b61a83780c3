#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Rounds of all kinds of calls, of those that succeed, fail, are called off, and whose clients leave in the middle.
Run by charges.sh as the user whose account is looked at.

charges.py ROUNDS KERNEL INITRD

Prints how often what was answered: a line "COUNT MEMBER ERROR", with "done" for what was no error."""

import collections
import os
import random
import select
import sys

import bus

SERVICE, ROOT_PATH, MANAGER = "org.vmctl1", "/org/vmctl1", "org.vmctl1.Manager"
VM, IMAGE, JOB, PROPERTIES = "org.vmctl1.VM", "org.vmctl1.Image", "org.vmctl1.Job", "org.freedesktop.DBus.Properties"
answers = collections.Counter()
# The same calls in each run
rng = random.Random(1)


def path(kind, name):
    return "%s/%s/%s" % (ROOT_PATH, kind, name)


class Rounds:
    def __init__(self, kernel, initrd):
        self.bus = bus.Connection()
        self.kernel, self.initrd = (os.open(name, os.O_RDONLY) for name in (kernel, initrd))
        self.pipe = os.pipe()[0]  # from which nothing ever comes
        self.names = 0

    def call(self, where, interface, member, *args):
        reply = self.bus.call(SERVICE, where, interface, member, *args)
        answers["%s %s" % (member, reply.error or "done")] += 1
        return None if reply.error or not reply.body else reply.body[0]

    def leave_with(self, *calls):
        """Somebody calls, and is gone: at once, or when something was answered."""
        client = bus.Connection()
        for call in calls:
            client.send(SERVICE, *call)
        if rng.random() < 0.5:
            client.receive()
        client.close()
        answers["%s gone" % calls[0][2]] += len(calls)

    def await_end(self, job):
        """Of a job whose object we got"""
        while job and not any(m.member == "JobRemoved" and m.body[1] == job for m in self.bus.signals):
            if not select.select([self.bus], [], [], bus.PATIENCE)[0]:
                raise SystemExit("%s does not end" % job)
            self.bus.receive()
        self.bus.signals.clear()

    def cancel(self, job):
        if job:
            self.call(job, JOB, "Cancel")
        self.await_end(job)

    def options(self, **more):
        return {"kernel": ("h", self.kernel), "initrd": ("h", self.initrd), "append": ("s", "console=ttyS0 quiet"),
                "cloud-init": ("b", False), "memory": ("t", 128 << 20), "display": ("s", "none"),
                "accel": ("s", "tcg"), "network": ("s", "none"), **more}

    def new_name(self):
        self.names += 1
        return "v%d" % self.names

    def create(self, **more):
        name = self.new_name()
        self.call(ROOT_PATH, MANAGER, "CreateVM", "sa{sv}", name, self.options(**more))
        return name

    def vm(self, name, member, *args):
        return self.call(path("vm", name), VM, member, *args)

    # The kinds

    def ask(self):
        for member in ("ListVMs", "ListImages", "ListJobs", "GetUsage", "GetVersion", "GetCapabilities"):
            self.call(ROOT_PATH, MANAGER, member)
        self.call(ROOT_PATH, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
        self.leave_with(*[(ROOT_PATH, MANAGER, "ListVMs")] * 20)

    def fail(self):
        self.call(ROOT_PATH, MANAGER, "CreateVM", "sa{sv}", "no such name", self.options())
        self.call(ROOT_PATH, MANAGER, "CreateVM", "sa{sv}", "none", {"kernel": ("h", self.pipe)})
        self.call(ROOT_PATH, MANAGER, "CreateVM", "sa{sv}", "none", {"cows": ("s", "many"), "initrd": ("h", self.pipe)})
        self.call(ROOT_PATH, MANAGER, "CreateVM", "s", "none")
        self.call(ROOT_PATH, MANAGER, "GetVM", "s", "none")
        self.call(path("vm", "none"), VM, "Start", "a{sv}", {})
        self.call(path("vm", "roots"), VM, "Start", "a{sv}", {})
        self.call(path("image", "none"), IMAGE, "Export", "ha{sv}", self.pipe, {})
        self.call(ROOT_PATH, MANAGER, "ImportImage", "sha{sv}", "none", self.kernel, {"format": ("s", "qcow2")})
        self.call(ROOT_PATH, MANAGER, "InspectImage", "ha{sv}", self.kernel, {})
        self.call(ROOT_PATH, MANAGER, "PullImage", "sa{sv}", "gopher://nowhere", {})

    def make(self):
        name = self.create(network=("s", "user"))
        self.vm(name, "UpdateSpec", "a{sv}", {"vcpus": ("u", 2)})
        self.vm(name, "UpdateSpec", "a{sv}", {"vcpus": ("u", 0)})
        self.vm(name, "SetLimits", "a{sv}", {"cpu-weight": ("t", 50)})
        self.vm(name, "Suspend")
        self.vm(name, "Qmp", "s", "{\"execute\":\"query-status\"}")
        self.leave_with((path("vm", name), VM, "Destroy"))
        self.vm(name, "Destroy")
        gone = self.new_name()
        self.leave_with((ROOT_PATH, MANAGER, "CreateVM", "sa{sv}", gone, self.options()))
        self.vm(gone, "Destroy")

    def run(self):
        name = self.create(network=("s", "user"), start=("b", rng.random() < 0.5))
        start = path("vm", name), VM, "Start", "a{sv}", {}
        self.leave_with(*[start] * 5)
        self.vm(name, *start[2:])
        for member in ("Suspend", "Resume", "Reset"):
            self.vm(name, member)
        self.vm(name, "SetLimits", "a{sv}", {"cpu-weight": ("t", 50)})
        with open("/dev/null", "rb") as key:
            wait = self.vm(name, "WaitReady", "sta{sv}", "ssh", 60000000, {"private-key": ("h", key.fileno())})
        self.cancel(wait)
        self.vm(name, "OpenConsoleLog", "a{sv}", {})
        self.leave_with((path("vm", name), VM, "OpenConsole"))
        stop = self.vm(name, "Stop", "t", 60000000)
        self.vm(name, "Stop", "t", 50000000)
        self.leave_with(*[(path("vm", name), VM, "Kill")] * 5)
        self.vm(name, "Kill")
        self.await_end(stop)
        self.vm(name, "OpenConsoleLog", "a{sv}", {})
        self.leave_with(start, (path("vm", name), VM, "Destroy"))
        self.vm(name, "Destroy")

    def images(self):
        name = self.new_name()
        self.cancel(self.call(ROOT_PATH, MANAGER, "ImportImage", "sha{sv}", name, self.pipe, {"format": ("s", "raw")}))
        self.cancel(self.call(ROOT_PATH, MANAGER, "PullImage", "sa{sv}", "http://127.0.0.1:9/none", {}))
        self.leave_with((ROOT_PATH, MANAGER, "InspectImage", "ha{sv}", self.pipe, {}))
        file = os.memfd_create("disk")
        os.truncate(file, 1 << 20)
        self.await_end(self.call(ROOT_PATH, MANAGER, "ImportImage", "sha{sv}", name, file, {"format": ("s", "raw")}))
        image, out = path("image", name), os.memfd_create("export")
        self.await_end(self.call(image, IMAGE, "Export", "ha{sv}", out, {}))
        self.cancel(self.call(image, IMAGE, "Export", "ha{sv}", out, {}))
        self.call(image, IMAGE, "Rename", "s", "not a name")
        self.call(image, IMAGE, "SetShared", "b", True)
        self.leave_with((image, IMAGE, "Rename", "s", name + "-too"), (image, IMAGE, "Remove"))
        for last in (name, name + "-too"):
            self.call(path("image", last.replace("-", "_2d")), IMAGE, "Remove")
        os.close(file)
        os.close(out)


rounds = Rounds(*sys.argv[2:])
for i in range(int(sys.argv[1])):
    rounds.ask()
    rounds.fail()
    rounds.make()
    if i % 4 == 0:
        rounds.images()
    if i % 10 == 0:
        rounds.run()
for error, number in sorted(answers.items()):
    print(number, error)
