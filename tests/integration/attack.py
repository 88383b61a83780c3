#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What somebody may try who wants the service for themselves, or nobody to have it. Each attack is bounded in number
and time. Run by exhaustion.sh as a user without special rights.

attack.py KIND ARGUMENT...

Prints "begun" when the attack is at its height, then holds what it holds until its standard input ends, and prints
how often the service, or the bus, answered what: a line "COUNT ERROR", with "done" for what was no error."""

import collections
import os
import select
import socket
import struct
import sys
import time

import bus

SERVICE, ROOT_PATH, MANAGER, VM = "org.vmctl1", "/org/vmctl1", "org.vmctl1.Manager", "org.vmctl1.VM"
SECONDS = 20  # that an attack goes on at most
answers = collections.Counter()


def count(message):
    if message.type in (bus.METHOD_RETURN, bus.ERROR):
        answers[message.error or "done"] += 1


def connect():
    connection = bus.Connection()
    connection.on_message = count
    return connection


def send(connection, path, interface, member, *args, flags=0):
    connection.send(SERVICE, path, interface, member, *args, flags=flags)


def vm_path(name):
    return "%s/vm/%s" % (ROOT_PATH, name.replace("-", "_2d"))


def collect(connections, expected, seconds=SECONDS):
    """Until so many answers have come"""
    try:
        bus.pump(connections, lambda: sum(answers.values()) >= expected, seconds)
    except OSError as reason:
        answers["the connection: %s" % reason] += 1


def hold():
    """Whoever measures says when it is over, by closing our standard input."""
    print("begun", flush=True)
    select.select([sys.stdin], [], [], 60)
    for error, number in answers.most_common():
        print(number, error)


def start_time():
    with open("/proc/self/stat", encoding="ascii") as stat:
        return int(stat.read().rsplit(")", 1)[1].split()[19])


def register_silent_agent():
    """polkit asks us for the password of an administrator, and we never say anything."""
    agent = bus.Connection()
    subject = ("unix-process",
               {"pid": ("u", os.getpid()), "start-time": ("t", start_time()), "uid": ("i", os.getuid())})
    reply = agent.call("org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority",
                       "org.freedesktop.PolicyKit1.Authority", "RegisterAuthenticationAgent", "(sa{sv})ss",
                       subject, "C", "/agent")
    if reply.error:
        raise SystemExit("no agent: %s" % reply)
    return agent


def waiting(calls, with_agent):
    """Calls that wait for a password, or for polkit itself. A connection can have 128 of them under way."""
    agent, per_connection = with_agent == "agent" and register_silent_agent(), 100
    connections = [connect() for _ in range(-(-int(calls) // per_connection))]
    for i in range(int(calls)):
        connection = connections[i // per_connection]
        send(connection, ROOT_PATH, MANAGER, "CreateVM", "sa{sv}", "mine-%d" % i, {}, flags=bus.ALLOW_INTERACTIVE)
    collect(connections, int(calls), 3)
    hold()
    if agent:
        agent.close()


def big_calls(calls, size):
    """The same, each as large as the bus lets it be"""
    agent, text = register_silent_agent(), b"x" * int(size)
    connections = []
    for i in range(int(calls)):
        if i % 3 == 0:
            connections.append(connect())
        try:
            send(connections[-1], ROOT_PATH, MANAGER, "CreateVM", "sa{sv}", "big-%d" % i, {"append": ("ay", text)},
                 flags=bus.ALLOW_INTERACTIVE)
        except OSError as reason:
            answers["the connection: %s" % reason] += 1
    collect(connections, int(calls), 5)
    hold()
    agent.close()


def clients(number):
    """Clients that stay, each of which has called once"""
    connections = []
    for _ in range(int(number)):
        connections.append(connect())
        send(connections[-1], ROOT_PATH, MANAGER, "ListVMs")
    collect(connections, int(number))
    hold()


def comers_and_goers(number):
    """Clients that are gone before they are answered"""
    there, deadline = collections.deque(), time.monotonic() + SECONDS
    for i in range(int(number)):
        there.append(connect())
        if i % 2:
            send(there[-1], ROOT_PATH, MANAGER, "ListVMs")
        else:
            send(there[-1], ROOT_PATH, "org.freedesktop.DBus.Properties", "Get", "ss", MANAGER, "Version")
        # Some go at once, some when the service is about to answer
        while len(there) > i % 4:
            there.popleft().close()
            answers["gone"] += 1
        if time.monotonic() > deadline:
            break
    for connection in there:
        connection.close()
    hold()


def send_paced(calls):
    """With few under way at once: what is too much then is what the service holds for us, not our hurry."""
    connection, sent, deadline = connect(), 0, time.monotonic() + SECONDS
    for call in calls:
        send(connection, *call)
        sent += 1
        if not bus.pump([connection], lambda: sum(answers.values()) > sent - 8, deadline - time.monotonic()):
            break
    collect([connection], sent, 5)


def waiters(number, vm, key):
    """Each has the service start a process, which reads a descriptor's file from where it is at."""
    def calls():
        for _ in range(int(number)):
            with open(key, "rb") as private_key:
                yield (vm_path(vm), VM, "WaitReady", "sta{sv}", "ssh", 60000000,
                       {"private-key": ("h", private_key.fileno())})
    send_paced(calls())
    hold()


def joiners(number, vm):
    """Each asks for what is under way already, and waits for its end."""
    connections = [connect() for _ in range(-(-int(number) // 100))]
    for i in range(int(number)):
        send(connections[i // 100], vm_path(vm), VM, "Start", "a{sv}", {})
    collect(connections, int(number), 3)
    hold()


def readers(number, vm):
    """Each has the service start a process, which writes until its reader has all."""
    connection, pipes = connect(), []
    connection.on_descriptor = pipes.append
    for _ in range(int(number)):
        send(connection, vm_path(vm), VM, "OpenConsoleLog", "a{sv}", {})
    collect([connection], int(number))
    hold()


def jobs(number, image):
    """Imports of what never comes, pulls, and exports"""
    pipe, file = os.pipe()[0], os.memfd_create("export")
    path = "%s/image/%s" % (ROOT_PATH, image.replace("-", "_2d"))
    calls = [(ROOT_PATH, MANAGER, "ImportImage", "sha{sv}", "endless-%d" % i, pipe, {}) for i in range(int(number))]
    calls += [(ROOT_PATH, MANAGER, "PullImage", "sa{sv}", "http://127.0.0.1:9/%d" % i, {}) for i in range(int(number))]
    calls += [(path, "org.vmctl1.Image", "Export", "ha{sv}", file, {})] * int(number)
    send_paced(calls)
    hold()
    connection = bus.Connection()
    for job in connection.call(SERVICE, ROOT_PATH, MANAGER, "ListJobs").body[0]:
        connection.call(SERVICE, job[1], "org.vmctl1.Job", "Cancel")


def pulls(number, url):
    """Each is over at once, since the store has the image, and can be told of in the journal."""
    send_paced((ROOT_PATH, MANAGER, "PullImage", "sa{sv}", url, {}) for _ in range(int(number)))
    hold()


class Flood:
    """One connection and the calls that it has still to send, some at a time"""
    objects = "org.freedesktop.DBus.ObjectManager", "GetManagedObjects"

    def __init__(self, calls, call=objects):
        self.call = bytearray(bus.encode_call(0, SERVICE, ROOT_PATH, *call)[0])
        self.sock, self.left, self.calls, self.serial, self.rest = bus.Connection().sock, calls, calls, 10, b""
        self.sock.setblocking(False)

    def fileno(self):
        return self.sock.fileno()

    def is_due(self, share):
        return bool(self.rest) or self.left > (1 - share) * self.calls

    def push(self):
        if not self.rest:
            block = self.call * min(self.left, max(1, 15000 // len(self.call)))
            for at in range(0, len(block), len(self.call)):
                struct.pack_into("<I", block, at + 8, self.serial)
                self.serial += 1
            self.left -= len(block) // len(self.call)
            self.rest = memoryview(block)
        try:
            self.rest = self.rest[self.sock.send(self.rest):]
        except BlockingIOError:
            pass
        except OSError as reason:
            answers["the connection: %s" % reason] += 1
            self.rest, self.left = b"", 0


def flood(number, calls, size=0):
    """Calls whose answers are never read, spread over some seconds: at once they would be the bus's trouble alone.
    With a size, what is wrong with them is so long."""
    call = ("org.freedesktop.DBus.Properties", "Get", "ss", (MANAGER, "x" * int(size))) if size else Flood.objects
    floods, begun, span = [Flood(int(calls), call) for _ in range(int(number))], time.monotonic(), SECONDS / 2
    print("begun", flush=True)
    while any(one.rest or one.left for one in floods) and time.monotonic() < begun + SECONDS:
        due = [one for one in floods if one.is_due((time.monotonic() - begun) / span)]
        for one in select.select([], due, [], 0.1)[1]:
            one.push()
    answers["sent"] = sum(one.serial - 10 for one in floods)
    hold()


def deaf(number):
    """Clients that are told what happens, and read nothing of it"""
    connections = []
    for _ in range(int(number)):
        connection = connect()
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        send(connection, ROOT_PATH, MANAGER, "ListVMs")
        connections.append(connection)
    hold()


def hoarders(number, calls, size):
    """Clients that each have few calls, and read none of the large answers: what the kernel's buffers do not take stays
    with the bus, and the rest of the calls waits."""
    call, connections = ("org.freedesktop.DBus.Properties", "Get", "ss", MANAGER, "x" * int(size)), []
    for _ in range(int(number)):
        connections.append(connect())
        for _ in range(int(calls)):
            send(connections[-1], ROOT_PATH, *call)
        answers["sent"] += int(calls)
    hold()


DBUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
SYSTEMD_PATH, SYSTEMD_MANAGER = "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"


def connections_of_service(connection):
    def ask(member, *args):
        reply = connection.call(*DBUS, member, *args)
        return None if reply.error else reply.body[0]

    service = ask("GetConnectionUnixProcessID", "s", SERVICE)
    return [name for name in ask("ListNames") if name.startswith(":") and
            ask("GetConnectionUnixProcessID", "s", name) == service]


def impostor(vm, client):
    """The bus hands on a signal to whom it is addressed to, whoever sends it. These are said to be PID 1's, of a scope
    that is stopped, and the bus's, of a client that left."""
    connection, unit = connect(), "vmctl-%s.scope" % vm
    unit_path = SYSTEMD_PATH + "/unit/" + unit.replace("-", "_2d").replace(".", "_2e")
    signals = ((SYSTEMD_PATH, SYSTEMD_MANAGER, "JobNew", "uos", (1, SYSTEMD_PATH + "/job/1", unit)),
               (unit_path, "org.freedesktop.DBus.Properties", "PropertiesChanged", "sa{sv}as",
                ("org.freedesktop.systemd1.Unit", {"ActiveState": ("s", "deactivating")}, [])),
               (SYSTEMD_PATH, SYSTEMD_MANAGER, "UnitRemoved", "so", (unit, unit_path)),
               (DBUS[1], DBUS[2], "NameOwnerChanged", "sss", (client, client, "")))
    for name in connections_of_service(connection):
        data = b"".join(bus.encode_call(1, name, *signal, kind=bus.SIGNAL)[0] for signal in signals)
        connection.sock.sendall(data * 100) # all of it before PID 1 is asked
        answers["told"] += 1
    connection.drain()
    hold()


def answer_of(reply_serial, serial, destination):
    """To a Ping; and to the question how much the bus keeps for us, that it is nothing"""
    header, body = bus.Writer(), bus.Writer()
    body.put("a{sv}", {"OutgoingBytes": ("u", 0)})
    header.data += struct.pack("<BBBBII", ord("l"), bus.METHOD_RETURN, 1, 1, len(body.data), serial)
    header.put("a(yv)", [(bus.REPLY_SERIAL, ("u", reply_serial)), (bus.DESTINATION, ("s", destination)),
                         (bus.SIGNATURE, ("g", "a{sv}"))])
    header.align(8)
    return bytes(header.data) + bytes(body.data)


def liars(number, rounds, size):
    """Clients that read nothing of what they are sent, and answer all the same what they may have been asked: what the
    service numbers by counting is known from what it sends to somebody who reads."""
    reader, deadline = connect(), time.monotonic() + SECONDS
    service = reader.call(*DBUS, "GetNameOwner", "s", SERVICE).body[0]
    call = SERVICE, ROOT_PATH, "org.freedesktop.DBus.Properties", "Get", "ss", MANAGER, "x" * int(size)

    def last_number():
        reply = reader.call(SERVICE, ROOT_PATH, MANAGER, "GetVersion", seconds=1)
        return struct.unpack_from("<I", reply.raw, 8)[0] if reply.raw else 0

    them, number_before = [connect() for _ in range(int(number))], last_number()
    for _ in range(int(rounds)):
        if time.monotonic() > deadline or not number_before:
            break
        for one in them:
            one.send(*call)
        number_now = last_number()
        for one in them:
            guesses = range(max(1, number_before - 20), min(number_now, number_before + 200) + 20)
            one.sock.sendall(b"".join(answer_of(guess, 1, service) for guess in guesses))
            answers["sent"] += 1
        number_before = number_now
    hold()


def long_keys(number, kernel, key):
    """VMs of which each has as long a key as can be: together they are more than the bus takes in a message."""
    connection = connect()
    with open(key, encoding="ascii") as file:
        text = " ".join(file.read().split()[:2]) + " " + "x" * 65000
    with open(kernel, "rb") as file:
        options = {"kernel": ("h", file.fileno()), "network": ("s", "none"), "display": ("s", "none"),
                   "cloud-init": ("b", True), "ssh-key": ("s", text)}
        for i in range(int(number)):
            connection.call(SERVICE, ROOT_PATH, MANAGER, "CreateVM", "sa{sv}", "long-%d" % i, options)
    connection.call(SERVICE, ROOT_PATH, Flood.objects[0], Flood.objects[1])
    hold()


def toggle(vm, times):
    """Not an attack: so many state changes of a VM, and how long they took"""
    connection, begun = bus.Connection(), time.monotonic()
    for i in range(int(times)):
        reply = connection.call(SERVICE, vm_path(vm), VM, "Resume" if i % 2 else "Suspend", seconds=5)
        if reply.error:
            print("change %d: %s" % (i, reply))
            raise SystemExit(1)
    print("%d changes in %.1f s" % (int(times), time.monotonic() - begun))


KINDS = {function.__name__.replace("_", "-"): function for function in
         (waiting, big_calls, clients, comers_and_goers, waiters, joiners, readers, jobs, flood, deaf, hoarders, impostor,
          liars, long_keys, pulls, toggle)}
KINDS[sys.argv[1]](*sys.argv[2:])
