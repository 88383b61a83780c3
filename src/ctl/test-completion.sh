#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Usage: test-completion.sh BASH-FILE ZSH-FILE FISH-FILE TESTS-FOLDER
#
# Presses Tab in each of the shells.

# What the shells are given is expanded by them.
# shellcheck disable=SC2016

# shellcheck source=tests/lib.sh
. "$4/lib.sh"

bash_file=$(realpath "$1") zsh_file=$(realpath "$2") fish_file=$(realpath "$3")

# Stands for vmctl, which is asked for names alone.
mkdir "$scratch/bin"
cat > "$scratch/bin/vmctl" << 'END'
#!/bin/sh
case $* in
"list --quiet") printf 'web\ndb\n' ;;
"--user list --quiet") printf 'mine\n' ;;
"list --quiet --state broken" | "list --state broken --quiet") printf 'lost\n' ;;
"image list --quiet") printf 'debian-12\ndisk-image\n' ;;
*) printf 'unexpected %s\n' "$*" ;;
esac
END
chmod +x "$scratch/bin/vmctl"
export PATH=$scratch/bin:$PATH HOME=$scratch
touch "$scratch/disk.img"
cd "$scratch" || exit

# in_bash LINE: what bash offers where LINE ends. It takes "--a=b" apart as readline does.
in_bash() {
        bash --norc -c '
                compopt() { :; }
                . "$1"
                read -r -a COMP_WORDS <<< "${2//=/ = }"
                [[ $2 != *[\ =] ]] || COMP_WORDS+=("")
                COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
                _vmctl
                printf "%s\n" "${COMPREPLY[@]}"' bash "$bash_file" "$1" | sort | xargs
}

# in_fish LINE: likewise. Descriptions follow a tab. fish 4 also names what only has the letters of the word, but
# does not show it beside what begins with the word.
in_fish() {
        fish --no-config -c 'source $argv[1]; complete --do-complete $argv[2]' "$fish_file" "$1" | cut -f1 |
                awk -v word="${1##* }" 'index($0, word) == 1' | sort | xargs
}

# in_zsh LINE: likewise. Completion is only there in the line editor, so a Tab is pressed in a zsh on a terminal,
# which prints what is added.
cat > "$scratch/init.zsh" << END
PS1=
fpath=(${zsh_file%/*} \$fpath)
autoload -U compinit
compinit -u -D
compadd() {
        local -a added

        builtin compadd "\$@"
        [[ " \${@[1,(i)--]}" == *" -"[OAD]* ]] && return
        builtin compadd -O added "\$@"
        print -rl -- "<"\${^added}">"
}
print_end() {
        print "<end>"
        exit
}
comppostfuncs=(print_end)
bindkey "^I" complete-word
print "<ready>"
END
in_zsh() {
        timeout 10 zsh -f -c '
                zmodload zsh/zpty
                zpty z zsh -f -i
                zpty -w z "source $1"
                zpty -r z out "*<ready>*"
                zpty -w -n z "$2$(printf "\t")"
                zpty -r z out "*<end>*"
                print -r -- "$out"' zsh "$scratch/init.zsh" "$1" |
                tr -d '\r' | sed -n 's/.*<\(.*\)>$/\1/p' | sed /^end$/d | sort -u | xargs
}

for shell in bash zsh fish; do
        check_output "start status stop" "$shell: verbs" "in_$shell" "vmctl st"
        check_output "destroy" "$shell: the rest of a verb" "in_$shell" "vmctl dest"
        check_output "db web" "$shell: VMs" "in_$shell" "vmctl start "
        check_output "db lost web" "$shell: VMs, and what is broken, to destroy" "in_$shell" "vmctl destroy "
        check_output "web" "$shell: another VM" "in_$shell" "vmctl start db w"
        check_output "mine" "$shell: VMs of the other bus" "in_$shell" "vmctl --user stop "
        check_output "db web" "$shell: a VM behind options" "in_$shell" "vmctl log -n 5 --follow "
        check_output "db web" "$shell: where --user is an account" "in_$shell" "vmctl ssh --user root "
        check_output "--memory --memory-high --memory-max" "$shell: options" "in_$shell" "vmctl create --mem"
        check_output "--json" "$shell: options of all verbs" "in_$shell" "vmctl list --js"
        check_output "qcow2 raw" "$shell: words for an option" "in_$shell" "vmctl create --image-format "
        check_output "disk.img" "$shell: files for an option" "in_$shell" "vmctl create --kernel di"
        check_output "disk-image disk.img" "$shell: files and images" "in_$shell" "vmctl create --image di"
        check_output "image" "$shell: a family of verbs" "in_$shell" "vmctl im"
        check_output "prune pull" "$shell: its verbs" "in_$shell" "vmctl image p"
        check_output "debian-12 disk-image" "$shell: images" "in_$shell" "vmctl image rm "
        check_output "disk-image" "$shell: another image" "in_$shell" "vmctl image remove debian-12 di"
        check_output "disk.img" "$shell: files for a verb" "in_$shell" "vmctl image import --name x di"
        check_output "disk-image disk.img" "$shell: images and files for a verb" "in_$shell" "vmctl image inspect di"
        check_output "db* disk.img" "$shell: VMs and files to copy" "in_$shell" "vmctl cp d"
        check_output "web*" "$shell: a VM to copy to" "in_$shell" "vmctl cp -r disk.img w"
        check_output "--shared" "$shell: options of its verbs" "in_$shell" "vmctl image pull --shar"
        check_output "--quiet" "$shell: of those alone" "in_$shell" "vmctl image list --q"
        check_output "raw" "$shell: words for their options" "in_$shell" "vmctl image pull --format ra"
        check_output "db web" "$shell: limits are a VM's" "in_$shell" "vmctl set "
        check_output "memory-high* memory-max*" "$shell: limits" "in_$shell" "vmctl set web mem"
        check_output "suspend" "$shell: verbs to be told about" "in_$shell" "vmctl help sus"
        check_output "" "$shell: nothing behind the last word" "in_$shell" "vmctl console web d"
done
check_output "kvm" "bash: --option=value" in_bash "vmctl create --accel=k"
check_output "*kvm" "fish: --option=value" in_fish "vmctl create --accel=k"
