# SPDX-License-Identifier: GPL-2.0-or-later
"""The random calls of stress.py."""

import collections
import os
import signal

SERVICE, ROOT_PATH = "org.vmctl1", "/org/vmctl1"
VM, IMAGE, JOB, MANAGER = (SERVICE + "." + name for name in ("VM", "Image", "Job", "Manager"))
FREEDESKTOP = "org.freedesktop.DBus"

# Few names, which all want
VMS = ("one", "two", "vm-3", "four", "five")
IMAGES = ("one", "img-2", "three", "four")
LISTS = ("ListVMs", "ListImages", "ListJobs", "GetUsage")

# What a call is, and what belongs to it: the kind and name of what it acts on, the names that it may make
Plan = collections.namedtuple("Plan", "path interface member args kind name makes", defaults=(None, None, ()))


def path_of(kind, name):
    escaped = "".join(c if c.isalnum() else "_%02x" % ord(c) for c in name)
    return "%s/%s/%s" % (ROOT_PATH, kind, escaped)


class Calls:
    """A method makes a call of its kind: it is given the generator and who calls, and returns a Plan, or None if it has
    done something itself. Descriptors that are sent are closed by close_sent(); pipes stay open until the round ends."""

    def __init__(self, stress, guest, server):
        self.stress, self.guest, self.server, self.sent, self.pipes = stress, guest, server, [], []
        self.user = None  # who calls
        self.disk = os.open("/srv/disk.raw", os.O_RDONLY)
        self.null = os.memfd_create("no image")
        os.write(self.null, b"This is not a disk\n" * 100)

    def close_sent(self):
        while self.sent:
            os.close(self.sent.pop())

    def close_pipes(self):
        while self.pipes:
            os.close(self.pipes.pop())

    def opened(self, fd):
        self.sent.append(fd)
        return fd

    def some_name(self, rng, kind):
        """Mostly of one's own, as far as that is known"""
        names = VMS if kind == "vm" else IMAGES
        own = [name for name in names if self.stress.owner.get((kind, name)) == self.user.uid]
        chosen, all_chosen = rng.random(), rng.choice(names)
        return own[int(chosen / 0.7 * len(own))] if own and chosen < 0.7 else all_chosen

    def on_vm(self, rng, member, *args, interface=VM):
        name = self.some_name(rng, "vm")
        return Plan(path_of("vm", name), interface, member, args, "vm", name)

    def on_image(self, rng, member, *args, interface=IMAGE, makes=()):
        name = self.some_name(rng, "image")
        return Plan(path_of("image", name), interface, member, args, "image", name, makes)

    def options(self, rng, disk=True):
        options = {"memory": ("t", 64 << 20), "display": ("s", "none"), "accel": ("s", "tcg"),
                   "cloud-init": ("b", False), "network": ("s", rng.choice(("none", "none", "user"))),
                   "start": ("b", rng.random() < 0.15 and self.stress.may_start())}
        if disk:
            options["image"] = ("h", self.disk)
        if rng.random() < 0.15:
            options["kernel"] = ("h", self.opened(os.open(self.guest + "/vmlinuz", os.O_RDONLY)))
            options["initrd"] = ("h", self.opened(os.open(self.guest + "/initrd", os.O_RDONLY)))
            options["memory"] = ("t", 128 << 20)
        if rng.random() < 0.1:
            options.update(rng.choice(({"vcpus": ("u", 0)}, {"nonsense": ("s", "x")}, {"cpu-weight": ("t", 99999)})))
        return options

    def create_vm(self, rng, user):
        name, use, image = rng.choice(VMS), (None, None), rng.random()
        options = self.options(rng, disk=image > 0.25)
        if image < 0.25:
            use = ("used image", self.some_name(rng, "image"))
            options["image-name"] = ("s", use[1])
        return Plan(ROOT_PATH, MANAGER, "CreateVM", ("sa{sv}", name, options), *use, (("vm", name),))

    def url(self, rng):
        kind = rng.choice(("plain", "plain", "plain", "slow", "loop", "cut"))
        name = rng.choice(("disk1", "disk2", "missing")) if kind == "plain" else "disk1"
        return "%s/%s/%s.raw" % (self.server, kind, name)

    def pull_options(self, rng, image):
        options = {"name": ("s", image)}
        if rng.random() < 0.2:
            options["refresh"] = ("b", True)
        if rng.random() < 0.1:
            options["sha256"] = ("s", "0" * 64)
        return options

    def create_from_url(self, rng, user):
        name, image, url = rng.choice(VMS), rng.choice(IMAGES), self.url(rng)
        return Plan(ROOT_PATH, MANAGER, "CreateVMFromURL",
                    ("ssa{sv}a{sv}", name, url, self.options(rng, disk=False), self.pull_options(rng, image)),
                    makes=(("vm", name), ("image", image)))

    def pull(self, rng, user):
        image, url = rng.choice(IMAGES), self.url(rng)
        return Plan(ROOT_PATH, MANAGER, "PullImage", ("sa{sv}", url, self.pull_options(rng, image)),
                    makes=(("image", image),))

    def import_image(self, rng, user):
        image, kind = rng.choice(IMAGES), rng.random()
        file = self.disk
        if kind < 0.15:
            file = self.null
        elif kind < 0.4:
            file, writing = os.pipe()
            self.opened(file)
            self.pipes.append(writing)
            if kind < 0.3:
                os.write(writing, bytes(4096))
        options = {"format": ("s", "raw")} if kind < 0.9 else {}
        return Plan(ROOT_PATH, MANAGER, "ImportImage", ("sha{sv}", image, file, options),
                    makes=(("image", image),))

    def inspect_image(self, rng, user):
        return Plan(ROOT_PATH, MANAGER, "InspectImage", ("ha{sv}", rng.choice((self.disk, self.null)), {}))

    def export(self, rng, user):
        file = self.opened(os.memfd_create("export"))
        options = {"format": ("s", "qcow2")} if rng.random() < 0.3 else {}
        return self.on_image(rng, "Export", "ha{sv}", file, options)

    def rename(self, rng, user):
        new = rng.choice(IMAGES)
        return self.on_image(rng, "Rename", "s", new, makes=(("image", new),))

    def set_shared(self, rng, user):
        return self.on_image(rng, "SetShared", "b", rng.random() < 0.5)

    def remove(self, rng, user):
        return self.on_image(rng, "Remove")

    def prune(self, rng, user):
        options = {"dry-run": ("b", rng.random() < 0.7)}
        return Plan(ROOT_PATH, MANAGER, "PruneImages", ("ta{sv}", rng.choice((0, 10 ** 12)), options))

    def start(self, rng, user):
        plan = self.on_vm(rng, "Start", "a{sv}", {})
        return plan if self.stress.may_start() else plan._replace(member="Kill", args=())

    def stop(self, rng, user):
        return self.on_vm(rng, "Stop", "t", rng.choice((100000, 500000, 1000000)))

    def simple(self, rng, user):
        return self.on_vm(rng, rng.choice(("Suspend", "Resume", "Reset", "OpenConsole", "OpenProvisionLog")))

    def kill(self, rng, user):
        return self.on_vm(rng, "Kill")

    def destroy(self, rng, user):
        return self.on_vm(rng, "Destroy")

    def console_log(self, rng, user):
        options = rng.choice(({}, {"tail": ("u", 3)}, {"follow": ("b", True)}, {"this-run": ("b", True)}))
        return self.on_vm(rng, "OpenConsoleLog", "a{sv}", options)

    def set_limits(self, rng, user):
        weight = 100 * user.number + rng.randrange(100)
        return self.on_vm(rng, "SetLimits", "a{sv}", {"cpu-weight": ("t", weight)})

    def update_spec(self, rng, user):
        return self.on_vm(rng, "UpdateSpec", "a{sv}", {"user": ("s", user.name)})

    def wait_ready(self, rng, user):
        return self.on_vm(rng, "WaitReady", "sta{sv}", rng.choice(("running", "ssh")), rng.choice((1000, 300000)), {})

    def qmp(self, rng, user):
        return self.on_vm(rng, "Qmp", "s", '{"execute":"query-status"}')

    def cancel(self, rng, user):
        job = self.stress.some_job(rng.random())
        return Plan(job.path if job else ROOT_PATH + "/job/1", JOB, "Cancel", (), "job", job)

    def look(self, rng, user):
        properties, listing = FREEDESKTOP + ".Properties", rng.choice(LISTS)
        folder = ROOT_PATH + rng.choice(("", "/vm", "/image", "/job"))
        plan = rng.choice((
            lambda: Plan(ROOT_PATH, FREEDESKTOP + ".ObjectManager", "GetManagedObjects", ()),
            lambda: Plan(folder, FREEDESKTOP + ".Introspectable", "Introspect", ()),
            lambda: self.on_vm(rng, "GetAll", "s", VM, interface=properties),
            lambda: self.on_image(rng, "GetAll", "s", IMAGE, interface=properties),
            lambda: self.on_vm(rng, "Set", "ssv", VM, "Owner", ("u", user.uid), interface=properties),
            lambda: Plan(ROOT_PATH, MANAGER, listing, ()),
            lambda: Plan(ROOT_PATH, MANAGER, rng.choice(("GetVersion", "GetCapabilities")), ()),
            lambda: Plan(ROOT_PATH, MANAGER, "GetVM", ("s", rng.choice(VMS))),
            lambda: Plan(ROOT_PATH, MANAGER, "GetImage", ("s", rng.choice(IMAGES))),
            lambda: Plan(ROOT_PATH, MANAGER, "GetJob", ("u", rng.randrange(1000))),
            lambda: Plan(ROOT_PATH, MANAGER, "GetVMByPID", ("u", rng.randrange(1, 4000))),
        ))()
        return plan._replace(kind=None)

    def kill_someone(self, rng, user):
        self.stress.kill_someone(rng.random())

    def stop_launcher(self, rng, user):
        self.stress.stop_launcher(rng.randrange(1, 10))

    def kill_service(self, rng, user):
        self.stress.kill_service(rng.choice((signal.SIGKILL, signal.SIGTERM)))


# In thousandths
WEIGHTS = {
    "create_vm": 110, "create_from_url": 25, "pull": 30, "import_image": 35, "inspect_image": 10, "export": 20,
    "rename": 40, "set_shared": 20, "remove": 30, "prune": 5, "start": 70, "stop": 35, "simple": 90, "kill": 35,
    "destroy": 45, "console_log": 30, "set_limits": 60, "update_spec": 50, "wait_ready": 30, "qmp": 15, "cancel": 50,
    "look": 150,
    "kill_someone": 12, "kill_service": 6, "stop_launcher": int(os.environ.get("STRESS_STOPS", "0")),
}
