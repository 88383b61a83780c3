#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Random calls of three users and root, whose names clash, who cancel each other's jobs, leave in the middle of a call
and do not read; SIGTERM and kill -9 for the service, kill -9 for what it has started, and SIGSTOP for its launcher.
Each hundred calls are a round, after which all comes to rest, and must be as it was said to be. Run by stress.sh as
root.

stress.py TESTS GUEST URL CALLS SEED [FROM]

What call number N is depends on SEED and N alone, so that it can be repeated; FROM is the number of the first. (When
things happen is different each time.) Whoever may do something says so in what they do: a limit, the guest's user."""

import collections
import os
import random
import re
import signal
import subprocess
import sys
import time

import bus
from host_state import (cgroup_dir, command_line, compare_images, compare_processes, compare_vms, descriptors,
                        read_pids, resident)
from stress_calls import FREEDESKTOP, IMAGE, JOB, MANAGER, ROOT_PATH, SERVICE, VM, WEIGHTS, Calls, path_of

TESTS, GUEST, URL, CALLS, SEED = sys.argv[1:4] + [int(word) for word in sys.argv[4:6]]
FIRST = int(sys.argv[6]) if len(sys.argv) > 6 else 0
ROUND = 100
SYSTEMD = "org.freedesktop.systemd1"
SERVICE_UNIT = "/org/freedesktop/systemd1/unit/vmctld_2eservice"
UNDER_WAY = 16    # calls without an answer
VMS_MAX = 3       # that run at once
PATIENCE = 120    # seconds for all to come to rest, on a busy machine
FDS_OF_RUNNING = 6  # descriptors of the service for a VM that runs: monitor, shim, three processes, folder
FDS_FOR_GOOD = 1    # that the service opens when it needs them first
SECONDS_MAX = int(os.environ.get("STRESS_SECONDS", 100000))  # that new rounds begin in
GROWTH_MAX = int(os.environ.get("STRESS_GROWTH_KB", 4096))

# What may be heard; and what only of those who were killed, or of a VM that others end meanwhile
ERRORS = re.compile(
    r"org\.vmctl1\.Error\.(NoSuchVM|NoSuchImage|NoSuchJob|VMExists|ImageExists|InvalidState|InvalidImage|InvalidSpec|"
    r"ImageInUse|DownloadFailed|DownloadRefused|DigestMismatch|GuestNotReady|LoginRefused|ConsoleUnavailable|Canceled|"
    r"Busy|QuotaExceeded|UnknownOption|InvalidName)|"
    r"org\.freedesktop\.DBus\.Error\.(AccessDenied|InteractiveAuthorizationRequired|UnknownObject|UnknownMethod|"
    r"UnknownInterface|UnknownProperty|PropertyReadOnly)")
ERRORS_OF_THE_KILLED = re.compile(
    r"org\.vmctl1\.Error\.(QemuFailed|QmpFailed|NotAttached|Failed|IO|ScopeFailed|SSHFailed|ServiceEnding|QemuHangs|"
    r"LauncherLost|Timeout)|"
    r"org\.freedesktop\.DBus\.Error\.(NoReply|ServiceUnknown|NameHasNoOwner|Disconnected)")

User = collections.namedtuple("User", "name uid number connect")
Job = collections.namedtuple("Job", "sender path")


class Call:
    def __init__(self, number, client, plan):
        self.number, self.client, self.plan = number, client, plan

    def __str__(self):
        return "call %d, %s: %s %s %s" % (self.number, self.client.user.name, self.plan.path, self.plan.member,
                                          self.plan.args)


class Client:
    """A connection. What it was told counts as long as it is there."""

    def __init__(self, stress, user):
        self.stress, self.user, self.bus = stress, user, user.connect()
        self.bus.on_message = self.note
        self.calls, self.jobs, self.ended = {}, {}, collections.Counter()
        self.deaf = self.lost = False

    def note(self, message):
        self.stress.heard += message.type == bus.SIGNAL
        if message.type == bus.SIGNAL and message.member == "JobRemoved" and message.interface == MANAGER:
            job = Job(message.sender, message.body[1])
            self.ended[job] += 1
            if self.ended[job] > 1:
                self.stress.complain("%s: JobRemoved of %s, again" % (self.user.name, job.path))
        elif message.type == bus.SIGNAL and message.member == "SignalsLost":
            self.lost = True
        elif message.type in (bus.METHOD_RETURN, bus.ERROR):
            self.bus.replies.clear()
            call = self.calls.pop(message.reply_serial, None)
            if not call and message.error == FREEDESKTOP + ".Error.ServiceUnknown" and self.stress.kills:
                return  # what we had answered a Ping of the service with, which was gone then
            if not call:
                self.stress.complain("%s: an answer to no call: %s" % (self.user.name, message))
                return
            self.stress.answered(call, message)
        self.bus.signals.clear()

    def send(self, number, plan):
        serial = self.bus.send(SERVICE, plan.path, plan.interface, plan.member, *plan.args)
        self.calls[serial] = Call(number, self, plan)

    def send_half(self, plan):
        data, _ = bus.encode_call(self.bus.serial + 1, SERVICE, plan.path, plan.interface, plan.member,
                                  plan.args[0] if plan.args else "", plan.args[1:])
        self.bus.sock.sendall(data[:len(data) // 2])

    def unheard_jobs(self, sender):
        """Those of this instance of the service whose end we have not heard"""
        return [job for job in self.jobs if job.sender == sender and not self.ended[job]]

    def forget(self):
        self.jobs.clear()
        self.ended.clear()
        self.lost = False


class Ended:
    """Another process, to wait for with the connections"""
    company = []

    def __init__(self, pid):
        self.closed = False
        try:
            self.fd = os.pidfd_open(pid)
        except ProcessLookupError:
            self.fd, self.closed = -1, True

    def fileno(self):
        return self.fd

    def receive(self):
        self.closed = True

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)


class Stress:
    def __init__(self):
        people = {name: bus.User(TESTS, name, uid, session=name == "alice")
                  for name, uid in (line.split(":")[0:3:2] for line in open("/etc/passwd", encoding="utf-8"))
                  if name in ("alice", "bob", "mallory") for uid in (int(uid),)}
        self.heard = 0  # signals, by anybody
        self.users = [User(name, user.uid, i, user.connect) for i, (name, user) in enumerate(sorted(people.items()), 1)]
        self.users.append(User("root", 0, 4, bus.Connection))
        self.clients = [Client(self, user) for user in self.users for _ in range(3)]
        self.calls = Calls(self, GUEST, URL)
        self.kills = self.killed_children = self.killed_pid = 0
        self.killed_shims = set()  # UUIDs of the VMs
        self.stopped_launcher, self.goes_on = 0, 0  # its PID, and the number of the call that it goes on with
        self.answers, self.problems, self.number = collections.Counter(), [], FIRST
        self.vms, self.images = {}, {}  # as they were after the last round, by UUID
        self.base_fds = self.base_memory = self.measured_pid = None
        self.measured_launcher = self.launcher_fds = None
        self.told = {}  # the states of VMs by name, as signals tell
        self.told_pid = None
        self.watch = bus.Connection()
        self.watch.on_message = self.note
        self.listen()
        self.journal = subprocess.Popen(
            ["journalctl", "--follow", "--lines=all", "--output=cat",
             "--grep=Sanitizer|runtime error:|dumped core|segfault"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        os.set_blocking(self.journal.stdout.fileno(), False)
        self.begin_round()

    # What goes on, as root sees it

    def listen(self):
        for rule in ("type='signal',sender='%s',member='NameOwnerChanged',arg0='%s'" % (FREEDESKTOP, SERVICE),
                     "type='signal',sender='%s',member='UnitRemoved'" % SYSTEMD,
                     "type='signal',sender='%s',member='PropertiesChanged',path='%s'" % (SYSTEMD, SERVICE_UNIT)):
            self.ask(FREEDESKTOP, "/org/freedesktop/DBus", FREEDESKTOP, "AddMatch", "s", rule)
        self.ask(SYSTEMD, "/org/freedesktop/systemd1", SYSTEMD + ".Manager", "Subscribe")

    def note(self, message):
        self.watch.signals.clear()
        if message.type != bus.SIGNAL:
            return
        self.heard += 1
        if message.member == "NameOwnerChanged":
            self.told_pid = None  # from now on we hear nothing of what we had heard of
            if message.body[2]:  # ... before we have called the new one
                self.watch.send(SERVICE, ROOT_PATH, MANAGER, "ListJobs")
        elif message.member == "VMNew" and message.interface == MANAGER:
            self.told[message.body[0]] = None
        elif message.member == "VMRemoved" and message.interface == MANAGER:
            if message.body[0] not in self.told and self.told_pid:
                self.complain("VMRemoved of no VM: %s" % message.body[0])
            self.told.pop(message.body[0], None)
        elif message.member == "JobNew" and message.interface == MANAGER:
            job = Job(message.sender, message.body[1])
            self.objects[job] = self.running_jobs[job] = message.body[2]
        elif message.member == "JobRemoved" and message.interface == MANAGER:
            self.running_jobs.pop(Job(message.sender, message.body[1]), None)
        elif message.member == "PropertiesChanged" and message.path.startswith(ROOT_PATH + "/vm/"):
            self.note_state(message)

    def note_state(self, message):
        for name in self.told:
            if path_of("vm", name) == message.path:
                self.told[name] = message.body[1].get("State", self.told[name])

    def ask(self, *args):
        reply = self.watch.call(*args, seconds=PATIENCE)
        return None if reply.error else reply.body

    def manager(self, member):
        answer = self.ask(SERVICE, ROOT_PATH, MANAGER, member)
        return answer[0] if answer else []

    def service_name(self):
        answer = self.ask(FREEDESKTOP, "/org/freedesktop/DBus", FREEDESKTOP, "GetNameOwner", "s", SERVICE)
        return answer[0] if answer else None

    def service_pid(self):
        answer = self.ask(FREEDESKTOP, "/org/freedesktop/DBus", FREEDESKTOP, "GetConnectionUnixProcessID", "s",
                          SERVICE)
        return answer[0] if answer else 0

    def objects_of(self, kind):
        found = self.ask(SERVICE, ROOT_PATH, FREEDESKTOP + ".ObjectManager", "GetManagedObjects")
        interface = VM if kind == "vm" else IMAGE
        return [faces[interface] for faces in (found[0] if found else {}).values() if interface in faces]

    def property_of(self, unit, interface, name):
        answer = self.ask(SYSTEMD, "/org/freedesktop/systemd1/unit/" + unit, FREEDESKTOP + ".Properties", "Get", "ss",
                          SYSTEMD + "." + interface, name)
        return answer[0] if answer else None

    def complain(self, problem):
        print("not ok - call %d: %s" % (self.number, problem), flush=True)
        self.problems.append(problem)

    # Calls

    def may_start(self):
        """Whether one more VM may run than do already, and will when all calls are answered"""
        running = sum(state in ("running", "suspended", "starting") for state in self.told.values())
        for client in self.clients:
            running += sum(call.plan.member == "Start" or "'start': ('b', True)" in str(call.plan.args)
                           for call in client.calls.values())
        return running < VMS_MAX

    def some_job(self, share):
        """One under way if there is any, or one of the latest"""
        latest = list(self.running_jobs)[-4:] or list(self.objects)[-2:]
        return latest[int(share * len(latest))] if latest else None

    def leave(self, client):
        client.bus.close()
        self.clients[self.clients.index(client)] = Client(self, client.user)

    def make_call(self, number):
        rng = random.Random("%d %d" % (SEED, number))
        client, manner = rng.choice(self.clients), rng.random()
        self.calls.user = client.user
        plan = getattr(self.calls, rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0])(rng, client.user)
        if plan:
            self.note_possible(client.user, plan)
            client.deaf = client.deaf or manner > 0.99
            if manner < 0.02:
                client.send_half(plan)
            else:
                client.send(number, plan)
            if manner < 0.05:
                self.leave(client)
        self.calls.close_sent()
        under_way = rng.randrange(UNDER_WAY)
        self.pump(lambda: self.unanswered() <= under_way, PATIENCE)

    def unanswered(self):
        return sum(len(client.calls) for client in self.clients if not client.deaf)

    def pump(self, until, seconds, others=()):
        return bus.pump([self.watch] + [c.bus for c in self.clients if not c.deaf] + list(others), until, seconds)

    def note_possible(self, user, plan):
        """Who may own something of that name in this round"""
        for made in plan.makes:
            if plan.member != "Rename" or user.name != "root":
                self.owners[made].add(user.uid)
        if user.name == "root" and plan.member == "Rename":
            self.renames.append(((plan.kind, plan.name), plan.makes[0]))
        elif plan.member == "Rename":
            self.renames_of_shared.append((plan.name, plan.makes[0][1]))
        if user.name == "root" and plan.member in ("SetShared", "PullImage", "ImportImage", "CreateVMFromURL"):
            self.shared.update([plan.name] if plan.kind else [name for kind, name in plan.makes if kind == "image"])

    def answered(self, call, message):
        plan = call.plan
        self.answers[plan.member, (message.error or "done").rsplit(".", 1)[1 if message.error else 0]] += 1
        if message.error:
            self.judge_error(plan.member, message.error, "%s: %s" % (call, message))
            return
        if plan.member == "Cancel":  # after a restart the number is another job's
            plan = plan._replace(name=Job(message.sender, plan.path))
        self.done.append((call.client.user, plan, str(call)))
        for made in plan.makes:
            self.owner[made] = call.client.user.uid
        if plan.member in ("CreateVMFromURL", "PullImage", "ImportImage", "Export", "Stop", "WaitReady"):
            job = Job(message.sender, message.body[0])
            call.client.jobs[job] = call
            self.requesters[job] = call.client.user.uid

    def judge_error(self, member, error, description):
        if error == SERVICE + ".Error.QmpFailed" and member in ("Suspend", "Resume", "Reset", "Qmp"):
            return
        if not ERRORS.fullmatch(error) and not (self.violent and ERRORS_OF_THE_KILLED.fullmatch(error)):
            self.complain("not an expected error: " + description)

    # Ends that nobody asked for

    def kill_service(self, how):
        pid = self.service_pid()
        if pid and pid != self.killed_pid:
            os.kill(pid, how)
            self.killed_pid = pid
            self.kills += 1
            self.killed_children = 0
            self.violent = True

    def launcher_pid(self):
        return self.property_of("vmctl_2dlaunch_2eservice", "Service", "MainPID") or 0

    def children(self):
        """The processes of the service but itself, and those of its launcher"""
        found = []
        for main in (self.service_pid(), self.launcher_pid()):
            found += [pid for pid in read_pids(cgroup_dir(main)) if pid != main] if main else []
        return found

    def stop_launcher(self, calls):
        """It goes on after so many calls, while which nobody hears of it."""
        pid = self.launcher_pid()
        if not pid or self.stopped_launcher:
            return
        print("# call %d stops the launcher %d for %d calls" % (self.number, pid, calls), flush=True)
        self.stopped_launcher, self.goes_on = pid, self.number + calls
        self.killed_children += 1
        self.violent = True
        self.signal(pid, signal.SIGSTOP)

    def continue_launcher(self):
        if self.stopped_launcher:
            self.signal(self.stopped_launcher, signal.SIGCONT)
        self.stopped_launcher = 0

    def signal(self, pid, number):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass

    def kill_someone(self, share):
        running = [vm for vm in self.objects_of("vm") if vm["PID"]]
        targets = [(pid, None) for pid in self.children() + [self.launcher_pid()] if pid]
        for vm in running:
            targets += [(pid, vm["UUID"]) for pid in read_pids(cgroup_dir(vm["PID"]))]
        if not targets:
            return
        pid, uuid = targets[int(share * len(targets))]
        print("# call %d kills %d, %s" % (self.number, pid, command_line(pid)), flush=True)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.killed_shims.add(uuid)
        self.killed_children += not uuid
        self.violent = True

    # Rest

    def begin_round(self):
        self.owners = collections.defaultdict(set)
        self.shared, self.renames, self.renames_of_shared = set(), [], []
        self.done, self.requesters, self.objects, self.running_jobs = [], {}, {}, {}
        self.violent = False
        self.owner = {}  # whose we think something is
        for vm in self.vms.values():
            self.owners["vm", vm["Name"]].add(vm["Owner"])
            self.owner["vm", vm["Name"]] = vm["Owner"]
        for image in self.images.values():
            self.owners["image", image["Name"]].add(image["Owner"])
            self.owner["image", image["Name"]] = image["Owner"]
            if image["Shared"]:
                self.shared.add(image["Name"])
        for client in self.clients:
            client.forget()

    def come_to_rest(self):
        self.continue_launcher()
        for client in self.clients:
            client.deaf = False
        self.calls.close_pipes()
        if not self.pump(lambda: not self.unanswered(), PATIENCE):
            for client in self.clients:
                for call in client.calls.values():
                    self.complain("no answer: %s" % call)
                client.calls.clear()
        deadline = time.monotonic() + PATIENCE
        while True:
            heard, (waits, problems) = self.heard, self.look_around()
            if not problems:
                return
            left, processes = deadline - time.monotonic(), [Ended(pid) for pid in waits]
            moved = self.pump(lambda: self.heard != heard or any(p.closed for p in processes), left, processes)
            for process in processes:
                process.close()
            if not moved:
                for problem in self.look_around()[1]:
                    self.complain("not at rest: " + problem)
                return

    def look_around(self):
        """The processes that something may still change with, and what is not as it should be. A service that has just
        begun is active when it knows its QEMU; its answer comes first, as it may have to be started for that, and
        comes behind what it does about a child that has ended."""
        jobs = self.manager("ListJobs")
        sender, problems, waits = self.service_name(), [], self.children()
        active = self.property_of("vmctld_2eservice", "Unit", "ActiveState")
        problems += [] if active == "active" else ["the service is %s" % active]
        problems += ["the process %d of the service: %s" % (pid, command_line(pid)) for pid in waits]
        problems += ["the job %s" % (job,) for job in jobs]
        for client in self.clients:
            if not client.lost:
                problems += ["no JobRemoved for %s: %s" % (job.path, client.jobs[job])
                             for job in client.unheard_jobs(sender)]
        vms, images = self.objects_of("vm"), self.objects_of("image")
        waits += [vm["PID"] for vm in vms if vm["PID"]]
        problems += compare_vms(vms, self.killed_children) + compare_images(images, self.killed_children)
        problems += compare_processes(vms, self.killed_shims)
        problems += self.compare_scopes(vms)
        if self.told_pid == self.service_pid():
            told = {name: state or "prepared" for name, state in self.told.items()}
            known = {vm["Name"]: vm["State"] for vm in vms}
            if told != known:
                problems.append("signals told %s, and it is %s" % (told, known))
        self.now = vms, images
        return waits, problems

    def compare_scopes(self, vms):
        units = self.ask(SYSTEMD, "/org/freedesktop/systemd1", SYSTEMD + ".Manager", "ListUnitsByPatterns", "asas", [],
                         ["vmctl-*.scope"])
        scopes = {unit[0] for unit in units[0]}
        running = {vm["Unit"] for vm in vms if vm["State"] in ("running", "suspended")}
        stored = self.property_of("vmctld_2eservice", "Service", "NFileDescriptorStore")
        problems = [] if scopes == running else ["the scopes are %s, and %s run" % (scopes, running)]
        if stored != len(running):
            problems.append("%d monitors are in the descriptor store, and %d VMs run" % (stored, len(running)))
        return problems

    def check_round(self):
        vms, images = self.now
        self.close_possible()
        for user, plan, description in self.done:
            if user.name != "root" and not self.was_allowed(user, plan):
                self.complain("should have been refused: " + description)
        self.vms = self.check_owners("vm", self.vms, vms)
        self.images = self.check_owners("image", self.images, images)
        for vm in vms:
            self.check_marks(vm)
        self.check_resources(sum(vm["State"] in ("running", "suspended") for vm in vms))
        restarts = self.property_of("vmctld_2eservice", "Service", "NRestarts")
        if restarts != self.kills:
            self.complain("the service was restarted %d times after %d kills" % (restarts, self.kills))
        for line in self.journal.stdout.readlines():
            self.complain("the journal: " + line.decode(errors="replace").rstrip())
        pid = self.service_pid()
        if self.told_pid != pid:
            self.told, self.told_pid = {vm["Name"]: vm["State"] for vm in vms}, pid

    def close_possible(self):
        """Root's renames leave the owner, and all renames what is shared."""
        for _ in self.renames + self.renames_of_shared:
            for old, new in self.renames:
                self.owners[new] |= self.owners[old]
            for old, new in self.renames_of_shared + [(old[1], new[1]) for old, new in self.renames]:
                if old in self.shared:
                    self.shared.add(new)

    def was_allowed(self, user, plan):
        if plan.interface == VM or (plan.interface == IMAGE and plan.member in ("Rename", "Remove")):
            return user.uid in self.owners[plan.kind, plan.name]
        if plan.member == "SetShared":
            return False
        if plan.member == "Export" or plan.kind == "used image":
            return user.uid in self.owners["image", plan.name] or plan.name in self.shared
        if plan.member == "Cancel":
            if plan.name not in self.objects:  # it began before a service that had just started knew of us
                return True
            kinds = {path_of(kind, name): owners for (kind, name), owners in self.owners.items()}
            return self.requesters.get(plan.name) == user.uid or user.uid in kinds.get(self.objects.get(plan.name), ())
        return True

    def check_owners(self, kind, before, now):
        known = {}
        for thing in now:
            old = before.get(thing["UUID"])
            constant = ("Owner", "Created") if kind == "image" else ("Owner", "Name", "UID", "MAC", "CreatedAt")
            if old and any(old[key] != thing[key] for key in constant):
                self.complain("%s changed from %s" % (thing, old))
            if not old and thing["Owner"] not in self.owners[kind, thing["Name"]]:
                self.complain("nobody of its owner made %s %s of %d" % (kind, thing["Name"], thing["Owner"]))
            known[thing["UUID"]] = thing
        return known

    def check_marks(self, vm):
        """Limits and the guest's user say who set them."""
        who = {user.number for user in self.users if user.uid in (vm["Owner"], 0)}
        weight, name = vm["Spec"].get("cpu-weight", 0), vm["Spec"].get("user", "vm")
        if weight and weight // 100 not in who:
            self.complain("the weight of %s's %s is %d" % (vm["Owner"], vm["Name"], weight))
        if name not in ["vm", ""] + [user.name for user in self.users if user.number in who]:
            self.complain("the user of %s's %s is %s" % (vm["Owner"], vm["Name"], name))

    def check_resources(self, running):
        pid = self.service_pid()
        # In the turn of the loop in which a child's end is seen, a call may be answered before; not in the next one.
        for _ in range(2):
            self.manager("ListJobs")
        held = descriptors(pid)
        fds = sum(held.values()) - FDS_OF_RUNNING * running
        memory = resident(pid)
        if self.measured_pid != pid:
            self.measured_pid, self.rounds, self.base_memory = pid, 0, memory
        self.rounds += 1
        if self.rounds <= 3:
            self.base_memory = max(self.base_memory, memory)
        self.base_fds = fds if self.base_fds is None else self.base_fds
        if fds > self.base_fds + FDS_FOR_GOOD:
            self.complain("%d descriptors but those of %d VMs that run, and %d at first: %s" % (
                fds, running, self.base_fds, held))
        if memory - self.base_memory > GROWTH_MAX:
            self.complain("the service has grown from %d to %d KiB" % (self.base_memory, memory))
        self.check_launcher()

    def check_launcher(self):
        """It has a descriptor for each shim that it has run itself."""
        pid = self.launcher_pid()
        if not pid:
            return
        with open("/proc/%d/task/%d/children" % (pid, pid), encoding="ascii") as children:
            shims = len(children.read().split())
        held = descriptors(pid)
        fds = sum(held.values()) - shims
        # One that was started anew knows no service before that asks for something: a connection, and who has made it.
        if held.get("anon_inode:[pidfd]", 0) > shims:
            fds -= 2
        if self.measured_launcher != pid:
            self.measured_launcher, self.launcher_fds = pid, fds
        if fds > self.launcher_fds:
            self.complain("the launcher has %d descriptors but those of %d shims, and %d at first: %s" % (
                fds, shims, self.launcher_fds, held))

    def run(self):
        self.come_to_rest()
        self.check_round()
        begun = time.monotonic()
        for self.number in range(FIRST, FIRST + CALLS):
            if self.number >= self.goes_on:
                self.continue_launcher()
            self.make_call(self.number)
            if (self.number + 1) % ROUND == 0 or self.number + 1 == FIRST + CALLS:
                self.come_to_rest()
                self.check_round()
                print("# %d calls, %d s, %d VMs, %d images, %d kills of the service" % (
                    self.number + 1, time.monotonic() - begun, len(self.vms), len(self.images), self.kills), flush=True)
                self.begin_round()
                if time.monotonic() - begun > SECONDS_MAX:
                    break
            if len(self.problems) > 20:
                break


stress = Stress()
stress.run()
for (member, result), number in sorted(stress.answers.items()):
    print("# %s: %s: %d" % (member, result, number))
print("# %d problems" % len(stress.problems))
sys.exit(bool(stress.problems))
