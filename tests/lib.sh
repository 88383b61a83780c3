# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What every test script needs: it prints a line for each check, and ends with status 1 if one failed or if
# the script itself did. Status 77 says that the test could not be run.

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

# fail DESCRIPTION [DETAILS]
fail() {
        checks=$((checks + 1))
        failures=$((failures + 1))
        echo "not ok $checks - $1"
        [ -z "${2-}" ] || printf '%s\n' "$2" | sed 's/^/# /'
}

# Runs a command and keeps what it prints, and its status.
try() {
        tried=0
        "$@" > "$scratch/output" 2> "$scratch/error" || tried=$?
}

# judge GOOD DESCRIPTION COMMAND...: GOOD is 0 if the command that ran did what it should.
judge() {
        local command=${*:3}

        if [ "$1" -eq 0 ]; then
                pass "$2"
        else
                fail "$2" "$(echo "status $tried of: ${command:0:300}"; cat "$scratch"/{error,output})"
        fi
}

# check DESCRIPTION COMMAND...: COMMAND succeeds. A function chains its commands by &&: there is no set -e.
check() {
        try "${@:2}"
        [ $tried -eq 0 ]
        judge $? "$@"
}

# check_status STATUS DESCRIPTION COMMAND...: COMMAND ends with STATUS.
check_status() {
        try "${@:3}"
        [ $tried -eq "$1" ]
        judge $? "${@:2}"
}

# check_output PATTERN DESCRIPTION COMMAND...: COMMAND succeeds and all of its standard output matches the
# shell pattern PATTERN.
check_output() {
        try "${@:3}"
        # shellcheck disable=SC2053
        [ $tried -eq 0 ] && [[ $(< "$scratch/output") == $1 ]]
        judge $? "${@:2}"
}

# check_error PATTERN DESCRIPTION COMMAND...: COMMAND fails and all of its standard error matches PATTERN.
check_error() {
        try "${@:3}"
        # shellcheck disable=SC2053
        [ $tried -ne 0 ] && [[ $(< "$scratch/error") == $1 ]]
        judge $? "${@:2}"
}

# skip REASON: ends a test that can't be run on this machine.
skip() {
        echo "1..0 # SKIP $1"
        exit 77
}
