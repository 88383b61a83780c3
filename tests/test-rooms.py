#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Holds the cut of the sources: a folder of src/ is a room, and knows only rooms above it, as docs/ARCHITECTURE.md has
it; inside a room no module includes another in a circle. A module is a .c file with the header of its name; what only
its own files share is NAME-internal.h or NAME-private.h.

test-rooms.py SOURCE_DIR"""

import os
import re
import sys
import unittest

SOURCE = None


def rooms():
    """Each room with those that it may know, from the table in docs/ARCHITECTURE.md."""
    with open(os.path.join(SOURCE, "docs/ARCHITECTURE.md"), encoding="utf-8") as f:
        rows = re.findall(r"^\| `src/(\w+)` \|.*\| *([^|]*?) *\|$", f.read(), re.MULTILINE)
    return {room: [] if knows == "nothing" else re.findall(r"\w+", knows) for room, knows in rows}


def files(room):
    """What becomes a program, and not a test."""
    return [f for f in sorted(os.listdir(os.path.join(SOURCE, "src", room)))
            if f.endswith((".c", ".h")) and not f.startswith(("test-", "fake"))]


def included(room, name):
    with open(os.path.join(SOURCE, "src", room, name), encoding="utf-8") as f:
        return re.findall(r'^#include "([^"]+)\.h"', f.read(), re.MULTILINE)


def module(name):
    return re.sub(r"-(internal|private)$", "", name)


def circles(graph):
    """Tarjan's strongly connected components of more than one node."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            circle = []
            while not circle or circle[-1] != node:
                circle.append(stack.pop())
            if len(circle) > 1:
                found.append(sorted(circle))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


class Rooms(unittest.TestCase):
    def test_the_map_has_all(self):
        folders = [d for d in os.listdir(os.path.join(SOURCE, "src")) if files(d)]
        self.assertEqual(sorted(rooms()), sorted(folders))

    def test_the_map_has_no_arrow_up(self):
        above = []
        for room, knows in rooms().items():
            for other in knows:
                self.assertIn(other, above, f"{room} knows what stands below it")
            above.append(room)

    def test_each_includes_only_what_it_may_know(self):
        for room, knows in rooms().items():
            for name in files(room):
                for other in included(room, name):
                    if "/" in other:
                        self.assertIn(other.split("/")[0], knows, f"src/{room}/{name} includes {other}.h")

    def test_each_knows_what_the_map_says(self):
        for room, knows in rooms().items():
            used = {other.split("/")[0] for name in files(room) for other in included(room, name) if "/" in other}
            self.assertEqual(sorted(knows), sorted(used), room)

    def test_no_circles(self):
        for room in rooms():
            graph = {module(f[:-2]): set() for f in files(room)}
            for name in files(room):
                graph[module(name[:-2])] |= {module(other) for other in included(room, name) if module(other) in graph}
            self.assertEqual(circles(graph), [], room)

    def test_circles_are_found(self):
        self.assertEqual(circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}), [["b", "c"]])


if __name__ == "__main__":
    SOURCE = sys.argv.pop(1)
    unittest.main()
