# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What every test script needs: it prints a line for each check, and ends with status 1 if one failed or if the
# script itself did. Status 77 says that the test could not be run.

set -u -o pipefail

checks=0
failures=0
scratch=$(mktemp -d "${TMPDIR:-/tmp}/vmctl-test-XXXXXX")

finish() {
        local status=$?

        rm -rf "$scratch"
        [ $status -eq 0 ] || exit $status
        echo "1..$checks"
        [ $checks -gt 0 ] && [ $failures -eq 0 ] || exit 1
}
trap finish EXIT

pass() {
        checks=$((checks + 1))
        echo "ok $checks - $1"
}

# fail DESCRIPTION [OUTPUT]
fail() {
        checks=$((checks + 1))
        failures=$((failures + 1))
        echo "not ok $checks - $1"
        [ -z "${2-}" ] || printf '%s\n' "$2" | sed 's/^/# /'
}

# What a failed check shows of its command, which can be long
shown() {
        local command=$*

        echo "${command:0:300}"
}

# check DESCRIPTION COMMAND...: COMMAND succeeds. A function must chain its commands by &&: there is no set -e.
check() {
        local description=$1

        shift
        if "$@" > "$scratch/output" 2>&1; then
                pass "$description"
        else
                fail "$description" "$(echo "status $? of: $(shown "$@")"; cat "$scratch/output")"
        fi
}

# check_status STATUS DESCRIPTION COMMAND...: COMMAND ends with STATUS.
check_status() {
        local expected=$1 description=$2 status=0

        shift 2
        "$@" > "$scratch/output" 2>&1 || status=$?
        if [ $status -eq "$expected" ]; then
                pass "$description"
        else
                fail "$description" "$(echo "status $status, not $expected, of: $(shown "$@")"; cat "$scratch/output")"
        fi
}

# check_output PATTERN DESCRIPTION COMMAND...: COMMAND succeeds and all of its standard output matches PATTERN, which
# is one of case.
check_output() {
        local pattern=$1 description=$2 status=0 output

        shift 2
        output=$("$@" 2> "$scratch/output") || status=$?
        # shellcheck disable=SC2053
        if [ $status -eq 0 ] && [[ $output == $pattern ]]; then
                pass "$description"
        else
                fail "$description" "$(echo "status $status of: $(shown "$@")"; printf '%s\n' "$output"; cat "$scratch/output")"
        fi
}

# check_error PATTERN DESCRIPTION COMMAND...: COMMAND fails and its standard error matches PATTERN.
check_error() {
        local pattern=$1 description=$2 status=0

        shift 2
        "$@" > "$scratch/output" 2> "$scratch/error" || status=$?
        # shellcheck disable=SC2053
        if [ $status -ne 0 ] && [[ $(< "$scratch/error") == $pattern ]]; then
                pass "$description"
        else
                fail "$description" "$(echo "status $status of: $(shown "$@")"; cat "$scratch/error" "$scratch/output")"
        fi
}

# skip REASON: ends a test that can't be run on this machine.
skip() {
        echo "1..0 # SKIP $1"
        exit 77
}
