# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Trees of Debian packages, made by mmdebstrap with the mirrors and proxies of this machine's apt. To be sourced.

# debian_sources SUITE: the suite and its updates, one "deb" line each, from where this machine gets its own;
# nothing where that is not Debian, and then mmdebstrap takes its default.
debian_sources() {
        local site release component

        # shellcheck disable=SC2016 # apt fills the fields in
        apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' \
                'Origin: Debian' "Architecture: $(dpkg --print-architecture)" |
                while read -r site release component; do
                        case $release in
                        *-updates | *-security) echo "deb $site $1-${release##*-} $component" ;;
                        *-*) ;;
                        *) echo "deb $site $1 $component" ;;
                        esac
                done | sort --unique
}

# debian_tree SUITE DIR PACKAGE,... OPTION...: makes DIR, with these packages and those that Debian has everywhere.
# To be called in a subshell, which becomes mmdebstrap. That mounts /proc, /sys and /dev in DIR: in name spaces that
# end with it, and it with whoever started the subshell. DIR.apt.conf is left behind.
debian_tree() {
        local sources

        mapfile -t sources < <(debian_sources "$1")
        apt-config dump | grep --extended-regexp '^Acquire::https?::' > "$2.apt.conf" || :
        exec setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --mount-proc \
                mmdebstrap --quiet --mode=root --variant=minbase --format=directory --include="$3" \
                --aptopt="$2.apt.conf" --aptopt='Acquire::Retries "3"' --aptopt='Acquire::Languages "none"' \
                "${@:4}" "$1" "$2" "${sources[@]}" < /dev/null >&2
}
