#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The service, the shim and vmctl-prepare with the sanitizers, in a host, with the guest that is built already.
# timeout: 1500

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

tests=$(realpath "$(dirname "$0")")
build=$(realpath "${BUILD:-$tests/../build/bookworm}")

check "there is a build with the sanitizers" "$tests/sanitized" "$build"
for test in life restart stress; do
        check "integration/$test holds under them" env BUILD="$build/sanitized" "$tests/integration/$test.sh"
done
