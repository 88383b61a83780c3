#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Each section of the benchmark once and in small, so that it still runs when figures are wanted.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

here=$(realpath "$(dirname "$0")")
build=$(realpath "${BUILD:-$here/../build/bookworm}")

# A figure of each of the sections
check_output "*Start, direct kernel*Stop, test guest*CreateVM, image*Pull, worker*up, * VMs*clients*running*vmctl list*shims*" \
        "each section of the benchmark prints its figures" "$here/bench/run" --build "$build" --brief
cat "$scratch"/{output,error}
