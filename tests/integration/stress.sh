#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 600
#
# Usage: stress.sh [CALLS [SEED [FROM]]]
#
# Random calls of several users at once, and SIGTERM or kill -9 now and then; see stress.py. A failure is repeated with
# the seed that is printed.

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/image.sh
. "$tests/image.sh"

calls=${1:-2000}
seed=${2:-$RANDOM$RANDOM}

# alice has the rights of a session, bob and mallory those of the group.
useradd --create-home --shell /bin/bash mallory
usermod --append --groups vmctl bob
usermod --append --groups vmctl mallory

# With the sanitizers: what is freed may fill only so much.
export STRESS_GROWTH_KB=4096
if grep --quiet __asan_init /usr/lib/vmctl/vmctld; then
        for unit in vmctld vmctl-launch; do
                mkdir -p /run/systemd/system/$unit.service.d
                cat > /run/systemd/system/$unit.service.d/sanitizers.conf << 'EOC'
[Service]
Environment=ASAN_OPTIONS=quarantine_size_mb=4
Environment=UBSAN_OPTIONS=print_stacktrace=1
EOC
        done
        systemctl daemon-reload
        STRESS_GROWTH_KB=32768
fi
vmctl list > /dev/null

serve
# Who boots from them halts at once, and takes no time.
for disk in "$www"/disk{1,2}.raw /srv/disk.raw; do
        make_disk "$disk" 65536 1M
        printf '\xfa\xf4\xeb\xfd' | dd of="$disk" conv=notrunc status=none
done
chmod a+r /srv/disk.raw

echo "# $calls calls with the seed $seed"
python3 "$tests/integration/stress.py" "$tests" "$BUILD/guest" "$url" "$calls" "$seed" "${@:3}" |& tee "$scratch/stressed"
check "$calls random calls of three users and root leave all as it should be" test "${PIPESTATUS[0]}" -eq 0
check "The service can be stopped then" systemctl stop vmctld
check "No sanitizer had anything to say, and nothing crashed" eval \
        '! journalctl --output=cat | grep --after-context=200 --extended-regexp "Sanitizer|runtime error:|dumped core|segfault"'
