#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Becomes "busctl monitor" with these arguments, of which one of the first lines says that it listens: in JSON
mode, that of systemd 257 no longer says so, but notifies whoever has started it."""
import os
import select
import socket
import sys

ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
ready.bind("")
os.environ["NOTIFY_SOCKET"] = "@" + ready.getsockname()[1:].decode()
monitor = os.getpid()

if os.fork() == 0:
    ended = os.pidfd_open(monitor)
    if os.getppid() == monitor and ready in select.select([ready, ended], [], [])[0]:
        print("Listening", flush=True)
    os._exit(0)

os.dup2(1, 2)
os.execvp("busctl", ["busctl"] + sys.argv[1:])
