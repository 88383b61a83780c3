#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 240
#
# Every method and property, on every kind of object, for every kind of caller: see access-matrix.py. This furnishes
# the host for it: users, an administrator's rules, a VM that root has declared, disks, a server to pull them from.

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/image.sh
. "$tests/image.sh"

# alice has no rights but those of a session, bob has those of the group, dave those that the rules give him.
useradd --create-home --shell /bin/bash dave
usermod --append --groups vmctl bob
cat > /etc/polkit-1/rules.d/10-test.rules << EOR
polkit.addRule(function(action, subject) {
    if (subject.user != "dave" || action.lookup("owner") != "$(id --user bob)")
        return polkit.Result.NOT_HANDLED;
    if (action.lookup("vm") == "bob-ruled")
        return polkit.Result.YES;
    if (action.lookup("vm") == "bob-verb" && action.lookup("verb") == "SetLimits")
        return polkit.Result.YES;
    return polkit.Result.NOT_HANDLED;
});
EOR
chmod 0644 /etc/polkit-1/rules.d/10-test.rules
systemctl restart polkit

mkdir -p /etc/vmctl
echo "vm \"declared\" { kernel \"$tests/../none\"; }" > /etc/vmctl/declared.kdl

serve
make_disk /srv/disk.raw 65536 1M
for name in alice-pulled bob-pulled dave-pulled root-pulled alice-only declared; do
        make_disk "/srv/$name.raw" 65536 1M
done
make_disk "$www/held.raw" 262144 1M
chmod --recursive a+rX /srv

try python3 "$tests/integration/access-matrix.py" "$tests" "$BUILD/guest" "$url" "$www" "$gate"
cat "$scratch/output"
[ "$tried" -eq 0 ] || cat "$scratch/error"
checks=$(grep --count "^ok\|^not ok" "$scratch/output")
failures=$(grep --count "^not ok" "$scratch/output")
check_output 0 "The service was never restarted" systemctl show --property=NRestarts --value vmctld
[ "$tried" -eq 0 ]
