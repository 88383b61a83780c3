#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Holds the manual pages against mandoc's taste. Which pages are installed here is no matter of the page's.

# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

cd "$(dirname "$0")/.." || exit

lint() {
        mandoc -T lint -W style "$1" 2>&1 | grep -v -e 'referenced manual not found' -e 'outdated mandoc.db'
        return 0
}

for page in docs/*.[1-8]; do
        check_output "" "${page#docs/} is well-formed" lint "$page"
done
