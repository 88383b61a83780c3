#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# gcc, which warns of more when it builds with the sanitizers, compiles what is installed with them, too.
# timeout: 1200

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

cd "$(dirname "$0")/.." || exit
build=$(realpath "${BUILD:-build/bookworm}")/sanitized-gcc

# An earlier one is brought up to date. Nobody debugs what is never linked.
configure() {
        [ -e "$build/build.ninja" ] ||
                CC=gcc meson setup "$build" -Dwerror=true -Db_sanitize=address,undefined -Ddebug=false
}

# Neither tests nor linking, which show nothing new
compile_installed() {
        local -a objects

        mapfile -t objects < <(ninja -C "$build" -t targets all | sed -n 's/^\(src\/[^:]*\.c\.o\): .*/\1/p' |
                grep --invert-match /test-)
        [ ${#objects[@]} -gt 0 ] && ninja -C "$build" -j "$(nproc)" "${objects[@]}"
}

check "a build with gcc and the sanitizers is configured" configure
check "gcc compiles everything with them without a warning" compile_installed
