#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A journal that takes nothing any more, as one whose disk hangs: the service does without it.

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"

# The kernel keeps so many messages for it, and so much from each socket.
fill_journal() {
        python3 -c 'import itertools, socket
for sockets in itertools.count():
    journal, sent = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK), 0
    try:
        while True:
            journal.sendto(b"MESSAGE=ballast\n", "/run/systemd/journal/socket")
            sent += 1
    except BlockingIOError:
        if sent == 0:
            break
print("full")'
}

entry() {
        wait_for_line 60 "$1" journalctl --follow --lines=all --unit=vmctld --output="${2:-cat}" "${@:3}"
}

define web
journal=$(systemctl show --property MainPID --value systemd-journald)
kill -STOP "$journal"
check_output full "A journal that is stopped takes nothing any more" fill_journal
check "A VM is started meanwhile" timeout 60 vmctl start web
check "... and killed" timeout 60 vmctl kill web
check "... and another one is made" timeout 60 vmctl create other --kernel "$guest/vmlinuz" --network none --accel tcg
kill -CONT "$journal"
# It takes what waits before what comes now.
check "When it goes on" journalctl --sync
check "... what comes next is in it" eval 'timeout 60 vmctl start web && entry "VM .web. was started"'
check "... and that something is missing" entry "^[0-9]+ messages were lost: the journal took none"
check_output "" "... which is not there" eval 'journalctl --unit=vmctld --output=cat --grep="other. was created" --quiet || :'
vmctl kill web
vmctl create 'lines' --kernel "$guest/vmlinuz" --network none --accel tcg
check_output lines "An entry says which VM it is about" \
        eval 'entry "VM .lines. was created" > /dev/null; journalctl --output=json VM_NAME=lines | jq -r .VM_NAME | uniq'
check_output vmctld "... and who wrote it" \
        eval 'journalctl --output=json VM_NAME=lines | jq -r .SYSLOG_IDENTIFIER | uniq'
