#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the build under test does not show: clang has nothing to complain of either, the unit tests hold when the
# sanitizers look on, and gcc, which warns of more then, compiles what is installed with them, too.
# timeout: 900

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

cd "$(dirname "$0")/.." || exit
build=$(realpath "${BUILD:-build/bookworm}")

# Neither tests nor linking, which show nothing new.
compile_installed() {
        local -a objects

        mapfile -t objects < <(ninja -C "$1" -t targets all | sed -n 's/^\(src\/[^:]*\.c\.o\): .*/\1/p' |
                grep --invert-match /test-)
        [ ${#objects[@]} -gt 0 ] && ninja -C "$1" -j 2 "${objects[@]}"
}

# configure DIR OPTION...: an earlier one is brought up to date.
configure() {
        [ -e "$1/build.ninja" ] || meson setup "$@"
}

check "clang is found" command -v clang
export CC=clang
check "a build with clang and the sanitizers is configured" configure "$build/sanitized" \
        -Dwerror=true -Db_sanitize=address,undefined -Db_lundef=false -Dbuildtype=debug
check "clang builds everything without a warning" ninja -C "$build/sanitized" -j 2
check "the unit tests hold under the sanitizers" \
        meson test -C "$build/sanitized" --no-rebuild --num-processes 2 --print-errorlogs --timeout-multiplier 4

# The service, the shim and vmctl-prepare with the sanitizers, in a host, with the guest that is built already.
mkdir -p "$build/guest" && ln --symbolic --force --no-dereference "$build/guest" "$build/sanitized/guest"
for test in life restart stress; do
        check "so does integration/$test" env BUILD="$build/sanitized" "tests/integration/$test.sh"
done

export CC=gcc
check "a build with gcc and the sanitizers is configured" configure "$build/sanitized-gcc" \
        -Db_sanitize=address,undefined
check "gcc compiles everything with them without a warning" compile_installed "$build/sanitized-gcc"
