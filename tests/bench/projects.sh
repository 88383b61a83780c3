# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The section of projects, for `run`: its functions are exported, since `measure turns` has a shell run each.

project=/root/project
upload=/dev/shm/vmctl-upload

# What `run` has set
: "${build:?}" "${measure:?}" "${guest:?}" "${project_runs:?}" "${project_vms:?}" "${upload_mib:?}"

# `vmctl up` carries out all at once; by hand each VM is waited for.
make_project() {
        local i

        mkdir $project
        for ((i = 1; i <= project_vms; i++)); do
                printf 'vm "bench%i" {\n    kernel "%s"\n    initrd "%s"\n    append "console=ttyS0 quiet"\n' \
                        $i "$guest/vmlinuz" "$guest/initrd"
                printf '    memory 64\n    network "none"\n    display "none"\n}\n'
        done > $project/VMFile.kdl
}
up_together() {
        vmctl up --file $project/VMFile.kdl > /dev/null 2>&1
}
up_one_by_one() {
        local i

        for ((i = 1; i <= project_vms; i++)); do
                vmctl create "bench$i" --kernel "$guest/vmlinuz" --initrd "$guest/initrd" --memory 64M --network none \
                        --append "console=ttyS0 quiet" --no-cloud-init --display none --start > /dev/null
        done
}
clear_project() {
        local i

        for ((i = 1; i <= project_vms; i++)); do vmctl destroy "bench$i" &> /dev/null || :; done
}

# An sshd of this host stands in for a guest's: what is compared is the program, not the machine.
start_sshd() {
        mkdir $upload
        ssh-keygen -q -t ed25519 -N '' -f $upload/host
        ssh-keygen -q -t ed25519 -N '' -f $upload/key
        cp $upload/key.pub $upload/authorized
        printf '%s\n' "HostKey $upload/host" "AuthorizedKeysFile $upload/authorized" 'StrictModes no' 'UsePAM no' \
                'PidFile none' 'ListenAddress 127.0.0.1:10999' 'PermitRootLogin yes' 'Subsystem sftp internal-sftp' \
                > $upload/config
        mkdir -p /run/sshd
        /usr/sbin/sshd -D -f $upload/config &
        sshd=$!
        echo "[127.0.0.1]:10999 $(cat $upload/host.pub)" > $upload/known
        head -c "${upload_mib}M" /dev/urandom > $upload/file
        until ssh-keyscan -p 10999 127.0.0.1 2> /dev/null | grep --quiet ed25519; do :; done
}
upload_by_worker() {
        "$build/src/worker/vmctl-ssh" --private-key 3 --known-host 4 --file 5 3< $upload/key 4< $upload/known 5< $upload/file \
                <<< '{"host": "127.0.0.1", "port": 10999, "user": "root", "cloud-init": false, "copy":
                      {"direction": "to", "file": 0, "path": "'$upload'/copy", "name": "copy"}}' > /dev/null
}
upload_by_sftp() {
        sftp -q -P 10999 -i $upload/key -o UserKnownHostsFile=$upload/known -b - 127.0.0.1 <<< "put $upload/file $upload/copy"
}
clear_upload() {
        rm -f $upload/copy
}

section_projects() {
        make_project
        start_sshd
        "$measure" heading
        "$measure" turns "up, $project_vms VMs" "$project_runs" clear_project up_together up_one_by_one
        "$measure" turns "Upload, $upload_mib MiB, sftp" "$project_runs" clear_upload upload_by_worker upload_by_sftp
        clear_project
        kill "$sshd"
        rm -rf $upload
}

export project project_vms upload guest
export -f up_together up_one_by_one clear_project upload_by_worker upload_by_sftp clear_upload
