#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Holds the tree against .clang-format, shellcheck, and the rule that every source names its license.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

cd "$(dirname "$0")/.." || exit

mapfile -t sources < <(find src tests -name '*.[ch]')
mapfile -t scripts < <(grep --recursive --files-with-matches --extended-regexp --max-count=1 \
        '^(#!/bin/(ba)?sh|# shellcheck shell=)' .ci src tests)
mapfile -t others < <(find Makefile meson.build src dbus polkit units docs tests -type f \
        \( -name Makefile -o -name meson.build -o -name '*.xml' -o -name '*.py' -o -name '*.in' \))

check_output "" "every source names its license" \
        grep --files-without-match SPDX-License-Identifier "${sources[@]}" "${scripts[@]}" "${others[@]}"
check "sources are as clang-format would write them" clang-format --dry-run -Werror "${sources[@]}"
check "shellcheck has nothing to say" shellcheck --external-sources "${scripts[@]}"
