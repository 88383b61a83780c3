#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Usage: test-vmfile.sh VMCTL TESTS-FOLDER
#
# validate, fmt and init, which need no service.

# shellcheck source=tests/lib.sh
. "$2/lib.sh"

vmctl=$(realpath "$1")
mkdir "$scratch/my_project"
cd "$scratch/my_project" || exit

v() {
        HOME=$scratch timeout 20 "$vmctl" "$@"
}

# from_pipe TEXT ARGUMENT...
from_pipe() {
        local text=$1

        shift
        printf '%s' "$text" | v "$@" --file /dev/stdin
}

same() {
        cmp --silent "$1" "$2"
}

check_error "*There is no VMFile.kdl in this folder*Hint: *vmctl init*" "no VMFile is an error with a hint" v validate
check_error "*'other.kdl': No such file*" "so is one that was named" v validate --file other.kdl
check_error "*Failed to read '.': *" "a folder is no VMFile" v validate --file .

check "init writes a VMFile" v init
check "which is valid" v validate
check "and formatted" v fmt --check
check_output 'my_project' "its VM is called as the folder" eval 'v --json validate | jq -r .VMs[0]'
cp VMFile.kdl before
check_error "*'VMFile.kdl' already*" "init overwrites nothing" v init
check "not even in part" same VMFile.kdl before
ln -s "$scratch/elsewhere" dangling.kdl
check_error "*'dangling.kdl' already*" "nor follows a link" v init --file dangling.kdl
check "init takes a name and a file" v init web --file web.kdl
check_output web "and uses them" eval 'v --json validate --file web.kdl | jq -r .VMs[0]'
check_status 2 "a bad name is bad usage" v init a/b --file bad.kdl
check "and writes nothing" test ! -e bad.kdl

printf 'vm "a" {\n\timage "disk.raw"; // c\n\tmemroy 2\n vcpus "x"\n}\n' > wrong.kdl
check_error "wrong.kdl:3:2: error: 'memroy' is not a setting of vm
    3 | 	memroy 2
      | 	^^^^^^
      = hint: did you mean 'memory'?
wrong.kdl:4:8: error: *" "validate shows all errors with their lines" v validate --file wrong.kdl
check_output '3 2 error did you mean '\''memory'\''?' "and as JSON" \
        eval "{ v --json validate --file wrong.kdl; true; } | jq -r '.Diagnostics[0] | \"\\(.Line) \\(.Column) \\(.Level) \\(.Hint)\"'"
check_status 1 "with status 1 there, too" v --json validate --file wrong.kdl

mkdir images
printf 'vm "a" {\n  image "../images/disk.raw"\n}\n' > images/up.kdl
check_error "*image '*/images/../images/disk.raw' cannot be read: No such file*" "a missing image is an error" \
        v validate --file images/up.kdl
touch images/disk.raw
check "paths start from the VMFile's folder" v validate --file images/up.kdl
touch "$scratch/disk.raw"
printf 'vm "a" { image "~/disk.raw"; }\n' > home.kdl
check "and ~ is the home" v validate --file home.kdl

printf 'vm "a" { // c\nimage "i"\n\n\n/-vcpus 2\n}' > untidy.kdl
printf 'vm "a" { // c\n    image "i"\n\n    /-vcpus 2\n}\n' > tidy.kdl
chmod 640 untidy.kdl
ln -s untidy.kdl link.kdl
cp untidy.kdl before
check_output link.kdl "fmt --check names what is untidy" eval 'v fmt --check --file link.kdl; [ $? -eq 1 ]'
check "and changes nothing" same untidy.kdl before
check "fmt formats" v fmt --file link.kdl
check "as it should" same untidy.kdl tidy.kdl
check "behind a link" test -L link.kdl
check_output 640 "with the file's mode" stat -c %a untidy.kdl
inode=$(stat -c %i untidy.kdl)
check "fmt again changes nothing" v fmt --file untidy.kdl
check_output "$inode" "and writes nothing" stat -c %i untidy.kdl
printf 'vm "a" {\n' > open.kdl
check_error "open.kdl:1:8: error: this block is not closed*" "fmt leaves what is wrong alone" v fmt --file open.kdl
check_output 'vm "a" {' "as it was" cat open.kdl
check_error "*/dev/stdin:1:1: error: 'x' cannot stand here*" "a pipe can be checked" from_pipe x validate
