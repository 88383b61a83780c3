#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Holds the documentation against the code: what the one names, the other has.

test-docs.py SOURCE_DIR COMPILER... [-- unittest's options]"""

import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml

SOURCE = None
COMPILER = None

# Errors whose message says all that can be done about them.
NO_HINT = {
    "QmpFailed", "Timeout", "ToolMissing", "Canceled", "NotSupported", "IO", "Failed",
    "org.freedesktop.DBus.Error.NoMemory",
}


def read(path):
    with open(os.path.join(SOURCE, path), encoding="utf-8") as f:
        return f.read()


def mandoc(page, *options):
    """What mandoc prints, without the overstriking that stands for bold."""
    path = os.path.join(SOURCE, "docs", page)
    result = subprocess.run(["mandoc", *options, path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return re.sub(".\b", "", result.stdout.decode())


def man_pages():
    return sorted(f for f in os.listdir(os.path.join(SOURCE, "docs")) if re.fullmatch(r".+\.[1-8]", f))


def words(page):
    """A rendered page as one line."""
    return re.sub(r"\s+", " ", mandoc(page, "-Tascii", "-Owidth=400"))


def tags(page):
    """What the items of a page's lists are called, with their macros' names left out."""
    items = re.findall(r"^\.It (.+)$", read(f"docs/{page}"), re.MULTILINE)
    return {word for item in items for word in re.findall(r"[\w.=-]+", item)}


def errors():
    """Name without the common prefix, and hint or None, of each entry of the table."""
    text = read("src/util/error.c")
    table = text[text.index("error_table[] = {"):text.index("_Static_assert")]
    string = r'"((?:[^"\\]|\\.)*)"'
    entry = r'\[ERROR_\w+\] = \{\s*(?:NAME\("(\w+)"\)|"([\w.]+)"),\s*\w+,\s*(NULL|(?:' + string + r"\s*)+)\s*\}"
    found = re.findall(entry, table)
    assert len(found) == table.count("[ERROR_"), "an entry was not understood"
    return {
        own or foreign: None if hint == "NULL" else "".join(re.findall(string, hint))
        for own, foreign, hint, _ in found
    }


class Settings(unittest.TestCase):
    def keys(self):
        table = re.search(r"config_keys\[\] = \{\n(.*?)\n\};", read("src/core/config.c"), re.DOTALL).group(1)
        keys = re.findall(r'\{ "\w+", "(\w+)", \w+ \}', table)
        self.assertEqual(len(keys), table.count("{"))
        limits = re.findall(r'\[RESOURCE_\w+\] = "(\w+PerUser)"', read("src/core/accounts.c"))
        self.assertGreater(len(limits), 10)
        return {*keys, *limits}

    def test_manual_has_each(self):
        self.assertEqual(set(re.findall(r"^\.It Va (\w+) Ns =$", read("docs/vmctld.conf.5"), re.MULTILINE)),
                         self.keys())

    def test_installed_file_has_each(self):
        self.assertEqual(set(re.findall(r"^#?(\w+)=", read("units/vmctld.conf"), re.MULTILINE)), self.keys())

    def test_defaults_agree(self):
        manual = words("vmctld.conf.5")
        for key, value in re.findall(r"^#(\w+)=(.*)$", read("units/vmctld.conf"), re.MULTILINE):
            with self.subTest(key):
                entry = manual[manual.index(f" {key}= "):]
                self.assertRegex(entry, rf"^.*?The default is {re.escape(value)}\b")


class Interface(unittest.TestCase):
    def setUp(self):
        self.interfaces = xml.fromstring(re.sub(r"<!DOCTYPE.*?>", "", read("dbus/org.vmctl1.xml"), flags=re.DOTALL))
        self.manual = read("docs/org.vmctl1.5")

    def test_methods_and_signals(self):
        for element in [*self.interfaces.iter("method"), *self.interfaces.iter("signal")]:
            name = element.get("name")
            inputs = [a for a in element.iter("arg") if a.get("direction") != "out"]
            outputs = "".join(a.get("type") for a in element.iter("arg") if a.get("direction") == "out")
            line = ".It Fn " + " ".join([name, *(f'"{a.get("type")} {a.get("name")}"' for a in inputs)])
            line += rf" No \(-> Li {outputs}" if outputs else ""
            with self.subTest(name):
                self.assertIn(line + "\n", self.manual)

    def test_properties(self):
        known = tags("org.vmctl1.5")
        for element in self.interfaces.iter("property"):
            with self.subTest(element.get("name")):
                self.assertIn(element.get("name"), known)

    def test_nothing_else(self):
        members = {e.get("name") for e in self.interfaces.iter() if e.tag in ("method", "signal")}
        self.assertEqual(set(re.findall(r"^\.It Fn (\w+)", self.manual, re.MULTILINE)), members)

    def test_options(self):
        table = re.search(r"vm_spec_keys\[\] = \{\n(.*?)\n\};", read("src/spec/vm-spec.c"), re.DOTALL).group(1)
        keys = re.findall(r'^ {8}(?:ENUM\(|STRING\(|\{ )"([\w-]+)"', table, re.MULTILINE)
        section = self.manual[self.manual.index(".Ss Options of CreateVM"):self.manual.index(".Ss Signals")]
        self.assertGreater(len(keys), 25)
        self.assertEqual({w for line in re.findall(r"^\.It (Va .+)$", section, re.MULTILINE)
                          for w in re.findall(r"[a-z][\w-]+", line)}, set(keys))


class Errors(unittest.TestCase):
    def test_each_has_a_hint_or_deliberately_none(self):
        self.assertEqual({name for name, hint in errors().items() if hint is None}, NO_HINT)

    def test_manual_has_each(self):
        manual = re.findall(r"^\.It Er (\S+)$", read("docs/org.vmctl1.5"), re.MULTILINE)
        self.assertEqual(set(manual), set(errors()))

    def test_manual_has_the_hints(self):
        manual = words("org.vmctl1.5")
        for name, hint in errors().items():
            entry = manual[manual.index(f" {name} "):] if hint is None else manual
            with self.subTest(name):
                if hint is not None:
                    self.assertIn("Hint: " + hint, entry)


class Catalogue(unittest.TestCase):
    def setUp(self):
        self.ids = dict(re.findall(r'#define (MESSAGE_\w+) "([^"]*)"', read("src/core/message-ids.h")))
        self.entries = re.findall(r"^-- ([0-9a-f]{32})\n((?:[A-Z][\w-]+: .+\n)+)\n((?:.*\n)+?)(?=\n-- |\Z)",
                                  read("units/vmctl.catalog"), re.MULTILINE)

    def test_each_message_is_explained(self):
        self.assertEqual(sorted(self.ids.values()), sorted(number for number, _, _ in self.entries))
        self.assertEqual(read("units/vmctl.catalog").count("\n-- "), len(self.entries))

    def test_each_is_sent(self):
        sources = "".join(read(os.path.relpath(os.path.join(folder, f), SOURCE))
                          for folder, _, names in os.walk(os.path.join(SOURCE, "src")) for f in names
                          if f.endswith(".c"))
        for name in self.ids:
            self.assertIn(name, sources)

    def test_headers(self):
        for number, headers, text in self.entries:
            self.assertEqual(re.findall(r"^[\w-]+", headers, re.MULTILINE),
                             ["Subject", "Defined-By", "Documentation"], number)
            for page in re.findall(r"man:([\w.]+\(\d\))", headers):
                self.assertIn(re.sub(r"\((\d)\)", r".\1", page), man_pages() + ["systemd.resource-control.5", "passt.1"])
            self.assertLessEqual(max(map(len, text.splitlines())), 80)

    def test_commands(self):
        manual = words("vmctl.1")
        for verb in re.findall(r'"vmctl\s+(\w+)', read("units/vmctl.catalog")):
            self.assertIn(f"vmctl {verb}" if verb == "image" else verb, manual)
        for option in re.findall(r"--[a-z][a-z-]+", "".join(text for _, _, text in self.entries)):
            self.assertIn(option, manual)


class Polkit(unittest.TestCase):
    def test_actions(self):
        policy = re.sub(r"<!DOCTYPE.*?>", "", read("polkit/org.vmctl1.policy"), flags=re.DOTALL)
        manual = read("docs/org.vmctl1.5")
        for action in xml.fromstring(policy).iter("action"):
            name = action.get("id")
            entry = re.search(rf"^\.It Li (?:\S+ , )*{re.escape(name)}(?: , \S+)*\n(.*?)(?=^\.It|^\.El)", manual,
                              re.DOTALL | re.MULTILINE)
            defaults = {d.tag: d.text for d in action.find("defaults")}
            self.assertEqual(defaults["allow_any"], defaults["allow_inactive"])
            with self.subTest(name):
                self.assertIsNotNone(entry)
                stated = re.findall(r"^\.Li (yes|no|auth_\w+)", entry.group(1), re.MULTILINE)
                self.assertEqual(stated, list(dict.fromkeys((defaults["allow_active"], defaults["allow_any"]))))


class Pages(unittest.TestCase):
    def test_lint(self):
        for page in man_pages():
            # Whether other packages' pages are installed and indexed is no matter of ours.
            found = [line for line in mandoc(page, "-Tlint").splitlines()
                     if not re.search("referenced manual not found|outdated mandoc.db", line)]
            with self.subTest(page):
                self.assertEqual(found, [])

    def test_installed(self):
        for page in man_pages():
            with self.subTest(page):
                self.assertIn(f"'{page}'", read("docs/meson.build"))

    def test_example_compiles(self):
        text = mandoc("org.vmctl1.5", "-Tascii", "-Owidth=120")
        program = re.search(r"^ *#include.*?^ *return r < 0;\n *\}\n", text, re.DOTALL | re.MULTILINE).group(0)
        with tempfile.NamedTemporaryFile("w", suffix=".c") as f:
            f.write(program)
            f.flush()
            subprocess.run([*COMPILER, "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f.name], check=True)


class Readme(unittest.TestCase):
    def test_make_targets(self):
        targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
        named = set(re.findall(r"(?:^ {4}|`)(?:sudo )?make ([a-z]+)", read("README.md"), re.MULTILINE))
        self.assertGreaterEqual(named, {"demo", "check", "install", "uninstall"})
        self.assertLessEqual(named, targets)

    def test_verbs(self):
        verbs = re.findall(r'\.name = "([a-z]+)"', read("src/ctl/verbs.c"))
        named = re.findall(r"(?:\$ |`)vmctl ([a-z]+)", read("README.md").split("## Not there yet")[0])
        self.assertIn("create", named)
        self.assertLessEqual(set(named), set(verbs))

    def test_files(self):
        for document in ["README.md", "docs/ARCHITECTURE.md"]:
            text = read(document)
            for path in re.findall(r"\]\(([^):]+)\)", text):
                with self.subTest(path):
                    self.assertTrue(os.path.exists(os.path.join(SOURCE, path)))

    def test_architecture_names_what_is_there(self):
        src = os.path.join(SOURCE, "src")
        files = {f for folder, _, names in os.walk(src) for name in names
                 for f in (name, os.path.relpath(os.path.join(folder, name), src))}
        for name in re.findall(r"`((?:[a-z]+/)*[a-z0-9-]+\.[ch])`", read("docs/ARCHITECTURE.md")):
            with self.subTest(name):
                self.assertTrue(name.removeprefix("src/") in files)
        sources = "".join(read(os.path.relpath(os.path.join(folder, f), SOURCE))
                          for folder, _, names in os.walk(os.path.join(SOURCE, "src"))
                          for f in names if f.endswith(".c"))
        for name in re.findall(r"`([a-z_]+)\(\)`", read("docs/ARCHITECTURE.md")):
            with self.subTest(name):
                self.assertIn(f"{name}(", sources)

    def test_where_is(self):
        """Each row's paths are there, and the file that a name stands before has it."""
        section = read("docs/ARCHITECTURE.md").split("## Where is …?\n")[1].split("\n## ")[0]
        rows = re.findall(r"^\| (?!what \|)(.+) \| (.+) \|$", section, re.MULTILINE)
        self.assertGreaterEqual(len(rows), 20)
        for what, where in rows:
            paths = re.findall(r"`(\w+/[^`]+)`", where)
            with self.subTest(what):
                self.assertTrue(paths)
                for path in paths:
                    self.assertTrue(glob.glob(os.path.join(SOURCE, path)), path)
                for name, path in re.findall(r"`(\w+)(?:\[\]|\(\))` in `([^`]+)`", where):
                    self.assertRegex(read(path), rf"\b{name}(?:\(|\[.*\] = \{{)")


if __name__ == "__main__":
    if not shutil.which("mandoc"):
        print("There is no mandoc: skipped")
        sys.exit(77)
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    SOURCE, COMPILER = sys.argv[1], sys.argv[2:end]
    unittest.main(argv=[sys.argv[0], *sys.argv[end + 1:]])
