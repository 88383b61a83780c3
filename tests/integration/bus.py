# SPDX-License-Identifier: GPL-2.0-or-later
"""D-Bus as it is on the wire, for tests that mistreat a service: thousands of calls and connections in one process,
calls whose replies are never read, connections of somebody else's, a monitor. Variants are pairs of a signature and a
value, and a descriptor ('h') is its number."""

import collections
import os
import select
import socket
import struct
import subprocess
import sys
import time

SYSTEM_BUS = "/run/dbus/system_bus_socket"
METHOD_CALL, METHOD_RETURN, ERROR, SIGNAL = 1, 2, 3, 4
ALLOW_INTERACTIVE = 4
PATH, INTERFACE, MEMBER, ERROR_NAME, REPLY_SERIAL, DESTINATION, SENDER, SIGNATURE, UNIX_FDS = range(1, 10)
FIELD_TYPES = {PATH: "o", REPLY_SERIAL: "u", SIGNATURE: "g", UNIX_FDS: "u"}
NUMBERS = {"y": "B", "b": "I", "n": "h", "q": "H", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d", "h": "I"}
ALIGNMENTS = {"s": 4, "o": 4, "g": 1, "v": 1, "a": 4, "(": 8, "{": 8}


def next_type(signature, i=0):
    """The end of the one complete type that begins at i."""
    if signature[i] == "a":
        return next_type(signature, i + 1)
    if signature[i] in "({":
        i += 1
        while signature[i] not in ")}":
            i = next_type(signature, i)
    return i + 1


def split_types(signature):
    i, types = 0, []
    while i < len(signature):
        end = next_type(signature, i)
        types.append(signature[i:end])
        i = end
    return types


def alignment(kind):
    return ALIGNMENTS.get(kind[0]) or struct.calcsize(NUMBERS[kind[0]])


class Writer:
    def __init__(self):
        self.data = bytearray()
        self.fds = []

    def align(self, to):
        self.data += bytes(-len(self.data) % to)

    def put_array(self, kind, value):
        self.data += bytes(4)
        begin = len(self.data)
        self.align(alignment(kind[1]))
        first = len(self.data)
        for item in value.items() if kind[1] == "{" else value:
            self.put(kind[1:], item)
        struct.pack_into("<I", self.data, begin - 4, len(self.data) - first)

    def put(self, kind, value):
        self.align(alignment(kind))
        if kind == "h":
            self.fds.append(value)
            value = len(self.fds) - 1
        if kind in NUMBERS:
            self.data += struct.pack("<" + NUMBERS[kind], value)
        elif kind in "so":
            text = value if isinstance(value, bytes) else value.encode()
            self.data += struct.pack("<I", len(text)) + text + b"\0"
        elif kind == "g":
            self.data += bytes([len(value)]) + value.encode() + b"\0"
        elif kind == "ay":
            self.data += struct.pack("<I", len(value)) + value
        elif kind == "v":
            self.put("g", value[0])
            self.put(*value)
        elif kind[0] == "a":
            self.put_array(kind, value)
        else:
            for inner, item in zip(split_types(kind[1:-1]), value):
                self.put(inner, item)


class Reader:
    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def align(self, to):
        self.at += -self.at % to

    def take_text(self, length):
        begin = self.at
        self.at += length + 1
        return self.data[begin:self.at - 1].decode()

    def take_array(self, kind):
        length = self.take("u")
        self.align(alignment(kind[1]))
        end, items = self.at + length, []
        while self.at < end:
            items.append(self.take(kind[1:]))
        return dict(items) if kind[1] == "{" else items

    def take(self, kind):
        self.align(alignment(kind))
        if kind in NUMBERS:
            value = struct.unpack_from("<" + NUMBERS[kind], self.data, self.at)[0]
            self.at += struct.calcsize(NUMBERS[kind])
            return value
        if kind in "so":
            return self.take_text(self.take("u"))
        if kind == "g":
            return self.take_text(self.take("y"))
        if kind == "v":
            return self.take(self.take("g"))
        if kind[0] == "a":
            return self.take_array(kind)
        return tuple(self.take(inner) for inner in split_types(kind[1:-1]))


class Message:
    def __init__(self, data):
        reader = Reader(data, 12)
        self.raw = data
        self.type, self.flags = data[1], data[2]
        self.serial = struct.unpack_from("<I", data, 8)[0]
        fields = dict(reader.take("a(yv)"))
        self.path, self.interface, self.member = (fields.get(key) for key in (PATH, INTERFACE, MEMBER))
        self.reply_serial, self.sender = fields.get(REPLY_SERIAL), fields.get(SENDER)
        self.error = fields.get(ERROR_NAME) if self.type == ERROR else None
        self.signature = fields.get(SIGNATURE, "")
        reader.align(8)
        self.body_at = reader.at

    @property
    def body(self):
        reader = Reader(self.raw, self.body_at)
        # What is behind the header is aligned as the header's end is: to 8.
        return [reader.take(kind) for kind in split_types(self.signature)]

    @property
    def text(self):
        """An error's message"""
        return self.body[0] if self.signature.startswith("s") else ""

    def __str__(self):
        return "%s: %s" % (self.error, self.text) if self.error else "a reply, " + repr(self.body)[:200]


NO_REPLY = "no reply in time"
PATIENCE = 25  # seconds, as D-Bus libraries have it


class Silence:
    """What stands for a reply that did not come."""
    error, text, raw, body = NO_REPLY, "", b"", []

    def __str__(self):
        return NO_REPLY


def encode_call(serial, destination, path, interface, member, signature="", args=(), flags=0, kind=METHOD_CALL):
    body, header = Writer(), Writer()
    for inner, value in zip(split_types(signature), args):
        body.put(inner, value)
    fields = {PATH: path, INTERFACE: interface, MEMBER: member, DESTINATION: destination,
              SIGNATURE: signature, UNIX_FDS: len(body.fds)}
    header.data += struct.pack("<BBBBII", ord("l"), kind, flags, 1, len(body.data), serial)
    header.put("a(yv)", [(key, (FIELD_TYPES.get(key, "s"), value)) for key, value in fields.items() if value])
    header.align(8)
    return bytes(header.data) + bytes(body.data), body.fds


class Connection:
    """A client of the system bus, as the user whose process has connected."""

    def __init__(self, sock=None, uid=None):
        if not sock:
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(SYSTEM_BUS)
        self.sock, self.uid = sock, os.getuid() if uid is None else uid
        self.serial, self.input, self.replies = 0, bytearray(), {}
        self.signals, self.on_message, self.closed = collections.deque(), None, False
        self.is_polite = True
        self.on_descriptor = os.close  # what becomes of each that comes
        self.company = []  # connections that are read, too, while we wait
        sock.sendall(b"\0AUTH EXTERNAL %s\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n" % str(self.uid).encode().hex().encode())
        told = b""
        while told.count(b"\r\n") < 2:
            part = sock.recv(1)
            if not part or told.startswith((b"REJECTED", b"ERROR")):
                raise ConnectionError("the bus refuses us: %r" % told)
            told += part
        self.name = None
        hello = self.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello")
        if hello.error:
            raise ConnectionError(str(hello))
        self.name = hello.body[0]

    def close(self):
        self.sock.close()
        self.closed = True

    def fileno(self):
        return self.sock.fileno()

    def send(self, destination, path, interface, member, signature="", *args, flags=0, kind=METHOD_CALL):
        """Returns the serial that wait() takes."""
        self.serial += 1
        data, fds = encode_call(self.serial, destination, path, interface, member, signature, args, flags, kind)
        sent = socket.send_fds(self.sock, [data], fds) if fds else 0
        self.sock.sendall(data[sent:])
        return self.serial

    def receive(self):
        """Takes in what is there, and waits for something if there is nothing."""
        data, fds, _, _ = socket.recv_fds(self.sock, 1 << 20, 64)
        for fd in fds:
            self.on_descriptor(fd)
        self.closed = not data
        self.input += data
        while len(self.input) >= 16:
            body, _, fields = struct.unpack_from("<III", self.input, 4)
            size = 16 + fields + -fields % 8 + body
            if len(self.input) < size:
                break
            message = Message(bytes(self.input[:size]))
            del self.input[:size]
            self.dispatch(message)

    def dispatch(self, message):
        if self.on_message:
            self.on_message(message)
        if message.type in (METHOD_RETURN, ERROR):
            self.replies[message.reply_serial] = message
        elif message.type == SIGNAL:
            self.signals.append(message)
        elif self.is_polite and message.type == METHOD_CALL and message.member == "Ping":
            self.pong(message)

    def pong(self, ping):
        """As every D-Bus library does by itself; what the service sends is taken for unread without it."""
        header = Writer()
        header.data += struct.pack("<BBBBII", ord("l"), METHOD_RETURN, 1, 1, 0, self.serial + 1)
        header.put("a(yv)", [(REPLY_SERIAL, ("u", ping.serial)), (DESTINATION, ("s", ping.sender))])
        header.align(8)
        self.serial += 1
        self.sock.sendall(bytes(header.data))

    def wait(self, serial, seconds=PATIENCE):
        pump([self], lambda: serial in self.replies, seconds)
        return self.replies.pop(serial, None) or Silence()

    def call(self, *args, seconds=PATIENCE, **keys):
        return self.wait(self.send(*args, **keys), seconds)

    def drain(self):
        """Takes in what was sent to us up to now: the bus answers behind it."""
        self.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetId")
        found = list(self.signals)
        self.signals.clear()
        return found


def pump(connections, until, seconds):
    """Receives on all of these, and on their company, until the condition holds, and says whether it does."""
    connections = {c for connection in connections for c in [connection] + connection.company}
    deadline = time.monotonic() + seconds
    while not until():
        alive = [c for c in connections if not c.closed]
        left = deadline - time.monotonic()
        if left <= 0 or not alive:
            return False
        for connection in select.select(alive, [], [], left)[0]:
            connection.receive()
    return True


def statistics(name):
    """What the bus says of a connection. dbus-broker says it of all at once."""
    def ask(interface, member, *args):
        return connection.call("org.freedesktop.DBus", "/org/freedesktop/DBus", interface, member, *args)

    connection, stats = Connection(), "org.freedesktop.DBus.Debug.Stats"
    reply = ask(stats, "GetConnectionStats", "s", name)
    if not reply.error:
        return reply.body[0]
    owner = ask("org.freedesktop.DBus", "GetNameOwner", "s", name).body[0]
    peers = ask(stats, "GetStats").body[0]["org.bus1.DBus.Debug.Stats.PeerAccounting"]
    return {peer: numbers for peer, _, numbers in peers}[owner]


HAND_OVER = """
import socket
mine = socket.socket(fileno=0)
while mine.recv(1):
    with socket.socket(socket.AF_UNIX) as bus:
        bus.connect(%r)
        socket.send_fds(mine, [b"x"], [bus.fileno()])
""" % SYSTEM_BUS


class User:
    """Somebody's process, which the bus and polkit take for the one that speaks on its connections; in a session on
    seat0 if that is asked for."""

    def __init__(self, tests, name, uid, session=False):
        self.uid = uid
        self.mine, theirs = socket.socketpair()
        command = [tests + "/as"] + ["--session"] * session + [name, sys.executable, "-c", HAND_OVER]
        self.process = subprocess.Popen(command, stdin=theirs)
        theirs.close()
        self.bus = self.connect()

    def connect(self):
        """One more connection"""
        self.mine.sendall(b"x")
        _, fds, _, _ = socket.recv_fds(self.mine, 1, 1)
        return Connection(socket.socket(fileno=fds[0]), self.uid)

    def leave(self):
        self.bus.close()
        self.mine.close()
        self.process.wait()
