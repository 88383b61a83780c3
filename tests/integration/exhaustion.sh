#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 600
#
# Users who want all of the service, or want nobody to have it: see attack.py. What they hear is a named error, and
# root and another user are served meanwhile as always.

# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm.sh
. "$tests/vm.sh"
# shellcheck source=tests/image.sh
. "$tests/image.sh"

mib=$((1024 * 1024))
few=4 # matches and descriptors that may come and go by themselves

# alice, dave and erin have no rights; mallory has those of the group, as has bob, who means well.
for user in dave erin mallory; do
        useradd --create-home --shell /bin/bash $user
done
usermod --append --groups vmctl mallory
usermod --append --groups vmctl bob

# attack USER KIND ARGUMENT...: returns when it is at its height, where it stays until end_attacks.
holds=() attackers=()
attack() {
        local hold output=$scratch/attack-${#attackers[@]}

        mkfifo "$output.hold"
        : > "$output"
        "$tests/as" "$1" python3 "$tests/integration/attack.py" "${@:2}" < "$output.hold" > "$output" 2>&1 &
        attackers+=($!)
        exec {hold}> "$output.hold"
        holds+=("$hold")
        grep --quiet "^begun" < <(exec timeout 60 tail --follow --lines=+1 --pid="${attackers[-1]}" "$output") ||
                { cat "$output"; return 1; }
}

end_attacks() {
        local hold

        for hold in "${holds[@]}"; do
                exec {hold}>&-
        done
        wait "${attackers[@]}"
        cat "$scratch"/attack-? | grep --invert-match "^begun" > "$scratch/heard"
        echo "# the attackers heard:" "$(sed 's/ /: /' "$scratch/heard" | paste --serial --delimiters=,)"
        rm "$scratch"/attack-*
        holds=() attackers=()
}

# hears_only ERROR...: the attacker heard nothing but these, and that something was done.
hears_only() {
        local error pattern="done|gone|sent|the connection: .*"

        for error; do
                pattern+="|(org\\.vmctl1|org\\.freedesktop\\.DBus)\\.Error\\.$error"
        done
        ! grep --invert-match --extended-regexp "^[0-9]+ ($pattern)$" "$scratch/heard"
}

hears_a_cap() {
        grep --quiet --extended-regexp "org.vmctl1.Error.QuotaExceeded|org.freedesktop.DBus.Error.LimitsExceeded" \
                "$scratch/heard"
}

# served USER VM: is served as always, with a VM of theirs, which does not run before and after.
served() {
        local verb status=0 who=()

        [ "$1" = root ] || who=("$tests/as" "$1")
        for verb in list "status $2" "start $2" "kill $2"; do
                # shellcheck disable=SC2086
                promptly timeout 60 "${who[@]}" vmctl $verb > "$scratch/served" 2>&1 ||
                        { echo "vmctl $verb:"; cat "$scratch/served"; status=1; }
        done
        return $status
}

check_served() {
        check "$1 root is served" served root roots
        check "$1 another user is served" served bob bobs
}

main_pid() {
        systemctl show --property MainPID --value vmctld
}

# What the service holds at the bus, and of the kernel
matches_held() {
        bus_stat org.vmctl1 MatchRules Matches
}

descriptors_held() {
        local links

        links=$(find "/proc/$(main_pid)/fd" -mindepth 1 -printf '%l\n' | sed 's/:.*//') && wc -l <<< "$links"
        sort <<< "$links" | uniq --count >&2
}

remember() {
        service=$(main_pid)
        matches_before=$(matches_held)
        descriptors_before=$(descriptors_held 2> /dev/null)
}

# The service's answer to this comes behind what became of earlier clients.
settle() {
        busctl call org.vmctl1 /org/vmctl1 org.vmctl1.Manager ListVMs > /dev/null
}

check_unharmed() {
        settle
        check_output "$service" "The service is the same" main_pid
        check "... and holds no more matches than before" at_most $((matches_before + few)) matches_held
        check "... nor descriptors" at_most $((descriptors_before + few)) descriptors_held
        remember
}

peak_memory() {
        awk '/^VmHWM:/ { print $2 * 1024 }' "/proc/$(main_pid)/status"
}

forget_peak() {
        echo 5 > "/proc/$(main_pid)/clear_refs"
}

workers_running() {
        pgrep --count --full "^/usr/lib/vmctl/vmctl-$1" || : # it fails when there is none
}

create_as() {
        "$1" "$2" vmctl create "$3" --kernel "$guest/vmlinuz" --initrd "$guest/initrd" \
                --append "console=ttyS0 quiet" --no-cloud-init --memory 128M --display none --network "$4" --accel tcg
}

define roots
create_as as bob bobs none
create_as as mallory mallorys user
make_disk /srv/disk.raw 65536 1M
chmod a+r /srv/disk.raw
vmctl start mallorys
matches_before=$(matches_held)
vmctl start roots
check "One more VM that runs takes none of the matches that the bus has for the service" \
        at_most "$matches_before" matches_held
vmctl kill roots
as mallory ssh-keygen -q -t ed25519 -N "" -f /home/mallory/key
as mallory "$image_call" import mallory-image /srv/disk.raw > /dev/null
check_served "Before all this"
remember
first_service=$service

#
# Calls that wait
#

check "600 calls wait for a password that nobody types" attack alice waiting 600 agent
check_served "Meanwhile"
end_attacks
check "Whoever has too many of them hears so" hears_a_cap
check "... and nothing else" hears_only QuotaExceeded LimitsExceeded AccessDenied InteractiveAuthorizationRequired
check_unharmed

polkit=$(systemctl show --property MainPID --value polkit)
kill -STOP "$polkit"
check "600 calls wait for a polkit that is stopped" attack alice waiting 600 none
check "Meanwhile root is served" served root roots
end_attacks
kill -CONT "$polkit"
check "Whoever has too many of them hears so" hears_a_cap
check "... and another user is served when polkit is back" served bob bobs
check_unharmed

forget_peak
check "40 calls of 31 MB wait for a password" attack alice big-calls 40 $((31 * 1000 * 1000))
check "The service does not take 256 MiB for them" at_most $((256 * mib)) peak_memory
check_served "Meanwhile"
end_attacks
check "Whoever sends them hears of a limit" hears_a_cap
check "... and nothing else" \
        hears_only QuotaExceeded LimitsExceeded AccessDenied InteractiveAuthorizationRequired InvalidArgs InvalidSpec
check_unharmed

#
# Clients
#

check "3,000 clients go before they are answered" attack alice comers-and-goers 3000
check_served "Then"
end_attacks
check_unharmed

# More than one user can have connections
check "690 clients come and stay" eval 'attack alice clients 230; attack dave clients 230; attack erin clients 230'
check_served "With 690 clients"
end_attacks
check "What they hear are answers, or named errors" hears_only QuotaExceeded LimitsExceeded
check_unharmed

check "20 clients make 86,000 calls and read no answer" attack alice flood 20 4300
check_served "Meanwhile"
check "... and still" served root roots
end_attacks
check_unharmed

check "... nor answers that repeat 1.5 MB of what they said" attack alice flood 20 8 1500000
check_served "Meanwhile"
end_attacks
check_unharmed

check "... nor those who say that they read what they do not" attack alice liars 5 100 900000
check_served "Meanwhile"
end_attacks
check_unharmed

check "230 clients of a VM's owner read nothing" attack mallory deaf 230
check_output "1500 changes in *" "1,500 times a VM's state changes" \
        timeout 60 python3 "$tests/integration/attack.py" toggle mallorys 1500
check_served "Meanwhile"
end_attacks
check_unharmed

#
# Signals that somebody else sends than they seem to be of
#

listen
vmctl start roots
check "Somebody tells that PID 1 stops root's VM, and that root's client has left" attack alice impostor roots "$hearer"
end_attacks
settle
check "The VM runs on" state roots running
forget_signals
vmctl kill roots
check "... and root's client hears what happens" await 60 "$(changed_to roots State stopped)"
exec {signals}<&-
check_unharmed

#
# Processes
#

vmctl resume mallorys 2> /dev/null # where it was left in the middle
check "600 times somebody waits for a guest" attack mallory waiters 600 mallorys /home/mallory/key
check "... for which there are not as many processes" at_most 100 workers_running ssh
check_served "Meanwhile"
end_attacks
check "Whoever waits too often hears so" hears_a_cap
check "... and nothing else" hears_only QuotaExceeded LimitsExceeded
vmctl kill mallorys # with which the waiting ends
settled
check_unharmed

hold_helper vmctl-shim
check "600 times somebody asks for the same start" attack mallory joiners 600 mallorys
release_helper vmctl-shim
check_served "Meanwhile"
end_attacks
check "Whoever asks too often hears so" hears_a_cap
check "... and nothing else" hears_only QuotaExceeded LimitsExceeded
vmctl kill mallorys
settled
check_unharmed

head --bytes 1M /dev/zero > /var/lib/vmctl/vms/mallorys/console.log
check "60 times somebody reads a long log, and nothing of it" attack mallory readers 60 mallorys
check "... for which there are not as many processes" at_most 16 workers_running 'shim --cat'
check_served "Meanwhile"
check "... with logs, too" as bob vmctl log bobs
end_attacks
check "Whoever reads too many hears so" hears_a_cap
check "... and nothing else" hears_only QuotaExceeded LimitsExceeded
check_unharmed

check "Somebody imports, pulls and exports 200 times each" attack mallory jobs 200 mallory-image
check "... for which there are not as many processes" at_most 100 workers_running '(image|pull)'
check_served "Meanwhile"
check "... with images, too" promptly as bob "$image_call" import bobs-image /srv/disk.raw
end_attacks
check "Whoever has too many jobs hears so" hears_a_cap
check "... and nothing else" hears_only QuotaExceeded LimitsExceeded
settled
check_unharmed
check "Somebody has 520 VMs with keys of 64 KB, and asks for all at once" \
        attack mallory long-keys 520 "$guest/vmlinuz" /home/mallory/key.pub
check_error "*larger than the bus allows*" "... as root does, who hears that it is too much" \
        busctl call org.vmctl1 /org/vmctl1 org.freedesktop.DBus.ObjectManager GetManagedObjects
check_served "Meanwhile"
end_attacks
check "... and nothing else" hears_only LimitsExceeded

check "In all this it took no more than 256 MiB" at_most $((256 * mib)) peak_memory
check_output "$first_service" "The service is that of the beginning" main_pid
