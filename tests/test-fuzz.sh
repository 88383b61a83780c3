#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Each fuzzer for a moment: FUZZ_SECONDS [10]. "make soak" gives them more time.
# timeout: 900

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

here=$(realpath "$(dirname "$0")")
build=$(realpath "${BUILD:-$here/../build/bookworm}")

check "the fuzzers find nothing" "$here/fuzz/run" --build "$build" --seconds "${FUZZ_SECONDS:-10}"
cat "$scratch/output"

# What would be no finding, or no fuzzer, is an error and not a pass.
check_error "*no-such-fuzzer*" "a fuzzer that does not exist is an error" \
        "$here/fuzz/run" --build "$build" --seconds 1 no-such-fuzzer
