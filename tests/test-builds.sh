#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the build under test does not show: clang has nothing to complain of either, and the unit tests hold when the
# sanitizers look on.
# timeout: 1800

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

tests=$(realpath "$(dirname "$0")")
build=$(realpath "${BUILD:-$tests/../build/bookworm}")

# Those that take longest wait for the most part.
check "clang builds everything without a warning" "$tests/sanitized" "$build"
check "the unit tests hold under the sanitizers" \
        meson test -C "$build/sanitized" --no-rebuild --num-processes 4 --print-errorlogs --timeout-multiplier 10
