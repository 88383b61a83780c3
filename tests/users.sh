# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The plain users of throwaway hosts and of tests/machine. To be sourced.

# add_users ROOT: alice, whose user manager runs from the boot on, and bob; and sessions for whoever is made one.
add_users() {
        local user

        for user in alice bob; do
                chroot "$1" useradd --create-home --shell /bin/bash "$user"
        done
        mkdir -p "$1/var/lib/systemd/linger"
        touch "$1/var/lib/systemd/linger/alice"

        cat > "$1/etc/pam.d/runuser" <<'END'
auth     sufficient pam_rootok.so
account  sufficient pam_rootok.so
session  required   pam_unix.so
session  required   pam_systemd.so
END
}
