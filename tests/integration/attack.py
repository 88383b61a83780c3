#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What somebody may try who wants the service for themselves, or nobody to have it. Each attack is bounded in number and
time. Run by exhaustion.sh as a user without special rights.

attack.py KIND ARGUMENT...

Prints "begun" when the attack is at its height, then holds what it holds until its standard input ends, and prints how
often the service, or the bus, answered what: a line "COUNT ERROR", with "done" for what was no error."""

import collections
import os
import select
import socket
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
    subject = ("unix-process", {"pid": ("u", os.getpid()), "start-time": ("t", start_time()), "uid": ("i", os.getuid())})
    reply = agent.call("org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority",
                       "org.freedesktop.PolicyKit1.Authority", "RegisterAuthenticationAgent", "(sa{sv})ss",
                       subject, "C", "/agent")
    if reply.error:
        raise SystemExit("no agent: %s" % reply)
    return agent


def silent_agent(calls):
    """Calls that wait for a password"""
    agent, per_connection = register_silent_agent(), 100
    connections = [connect() for _ in range(-(-int(calls) // per_connection))]
    for i in range(int(calls)):
        connection = connections[i // per_connection]
        send(connection, ROOT_PATH, MANAGER, "CreateVM", "sa{sv}", "mine-%d" % i, {}, flags=bus.ALLOW_INTERACTIVE)
    collect(connections, int(calls), 3)
    hold()
    agent.close()


def big_calls(calls, size):
    """The same, each as large as the bus lets it be"""
    agent, text = register_silent_agent(), b"x" * int(size)
    connections = []
    for i in range(int(calls)):
        if i % 3 == 0:
            connections.append(connect())
        try:
            send(connections[-1], ROOT_PATH, MANAGER, "CreateVM", "sa{sv}", "big-%d" % i, {"append": ("s", text)},
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
    deadline = time.monotonic() + SECONDS
    for _ in range(int(number)):
        connection = connect()
        send(connection, ROOT_PATH, MANAGER, "ListVMs")
        connection.close()
        if time.monotonic() > deadline:
            break
        answers["gone"] += 1
    hold()


def waiters(number, vm):
    """Each has the service start a process."""
    connection = connect()
    for _ in range(int(number)):
        send(connection, vm_path(vm), VM, "WaitReady", "sta{sv}", "ssh", 60000000, {})
    collect([connection], int(number))
    hold()


def jobs(number):
    """Imports that never end, then pulls and exports"""
    connections, pipes = [connect() for _ in range(6)], []
    for i in range(int(number)):
        reading, writing = os.pipe()
        send(connections[i % 6], ROOT_PATH, MANAGER, "ImportImage", "sha{sv}", "endless-%d" % i, reading, {})
        os.close(reading)
        pipes.append(writing)
    for i in range(int(number)):
        send(connections[i % 6], ROOT_PATH, MANAGER, "PullImage", "sa{sv}", "http://127.0.0.1:9/%d.raw" % i, {})
    file = os.open("/dev/shm/export-%d" % os.getpid(), os.O_RDWR | os.O_CREAT, 0o600)
    for i in range(int(number)):
        send(connections[i % 6], ROOT_PATH + "/image/mallory_2dimage", "org.vmctl1.Image", "Export", "ha{sv}", file, {})
    collect(connections, 3 * int(number))
    hold()


def encode_list(serial):
    return bus.encode_call(serial, SERVICE, ROOT_PATH, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")[0]


def flood(number, calls):
    """Calls as fast as the bus takes them, whose answers are never read"""
    # One connection's worth of calls is made once; only their numbers differ, and they may repeat.
    block = b"".join(encode_list(serial) for serial in range(10, 110))
    connections = [bus.Connection().sock for _ in range(int(number))]
    left = {connection: [int(calls) // 100, memoryview(block)] for connection in connections}
    for connection in connections:
        connection.setblocking(False)
    print("begun", flush=True)
    deadline = time.monotonic() + SECONDS
    while left and time.monotonic() < deadline:
        for connection in select.select([], list(left), [], 1)[1]:
            blocks, rest = left[connection]
            try:
                rest = rest[connection.send(rest):]
            except BlockingIOError:
                continue
            except OSError as reason:
                answers["the connection: %s" % reason] += 1
                del left[connection]
                continue
            if not rest:
                blocks, rest = blocks - 1, memoryview(block)
            left[connection] = [blocks, rest]
            if blocks == 0:
                del left[connection]
        if select.select([sys.stdin], [], [], 0)[0]:
            break
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
         (silent_agent, big_calls, clients, comers_and_goers, waiters, jobs, flood, deaf, toggle)}
KINDS[sys.argv[1]](*sys.argv[2:])
