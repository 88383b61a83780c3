#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# "make install" on a real host leads to a service that answers, and "make uninstall" leaves what isn't its
# to take.

# shellcheck disable=SC2034 # lib.sh looks at it
host_options=(--no-install)
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

cd "$tests/.." || exit

make_target() {
        make --no-print-directory BUILD="$BUILD" "$@"
}

files() {
        find /usr /etc -xdev \( -name '*vmctl*' -o -name 'vm@*' \) | sort
}

left() {
        comm -13 <(echo "$before") <(files)
}

before=$(files)
check "make install" make_target install
check "the bus starts the service" busctl call org.vmctl1 /org/vmctl1 org.freedesktop.DBus.Peer Ping
check "the client finds it" vmctl list
check "the group is there" getent group vmctl

touch /var/lib/vmctl/kept
echo "# mine" > /etc/vmctl/vmctld.conf
check "make install, again" make_target install
check_output "# mine" "it overwrites no settings" cat /etc/vmctl/vmctld.conf

check "make uninstall" make_target uninstall
check_output $'/etc/vmctl\n/etc/vmctl/vmctld.conf' "it leaves the settings alone" left
check "it leaves what the service kept" test -e /var/lib/vmctl/kept
check_output inactive "the service runs no longer" eval "systemctl is-active vmctld.service || :"
check_output $'inactive\ninactive' "nor does what has privileges" \
        eval "systemctl is-active vmctl-launch.socket vmctl-launch.service || :"
check "the socket is gone" test ! -e /run/vmctl-launch.socket
check_output vmctld "its user stays, who has the files" stat --format=%U /var/lib/vmctl
