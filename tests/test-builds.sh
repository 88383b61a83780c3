#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the build under test does not show: clang has nothing to complain of either, and the unit tests hold when
# the sanitizers look on.
# timeout: 900

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

cd "$(dirname "$0")/.." || exit
build=$(realpath "${BUILD:-build}")

# configure DIR OPTION...: an earlier one is brought up to date.
configure() {
        [ -e "$1/build.ninja" ] || meson setup "$@"
}

check "clang is found" command -v clang
export CC=clang
check "a build with clang and the sanitizers is configured" configure "$build/sanitized" \
        -Db_sanitize=address,undefined -Db_lundef=false -Dbuildtype=debug
check "clang builds everything without a warning" ninja -C "$build/sanitized" -j 2
check "the unit tests hold under the sanitizers" \
        meson test -C "$build/sanitized" --no-rebuild --num-processes 2 --print-errorlogs --timeout-multiplier 4

# The service, the shim and vmctl-prepare with the sanitizers, in a host, with the guest that is built already.
mkdir -p "$build/guest" && ln --symbolic --force --no-dereference "$build/guest" "$build/sanitized/guest"
for test in life restart; do
        check "so does integration/$test" env BUILD="$build/sanitized" "tests/integration/$test.sh"
done
