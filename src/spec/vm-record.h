/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A VM's vm.json: its definition and everything that was given to it for life at create. Only what was asked
 * for or handed out stands here; what the VM is doing is derived from PID 1 and QMP. */

#include "file-ref.h"
#include "vm-spec.h"

#define VM_RECORD_VERSION 2
#define VM_RECORD_SEALED_SINCE 2       /* the first version that has a checksum, and the last that is read */
#define VM_RECORD_MAX_SIZE (256 * KIB) /* a definition with a long key and command line is 10 KiB */

typedef struct VmRecord {
        char *name;       /* owned, as all strings here */
        char *uuid;       /* RFC 9562 text */
        char *mac;        /* "52:54:00:xx:xx:xx" */
        char *machine;    /* versioned type */
        char *image_uuid; /* of the image of the store that it was made from; NULL: of none */
        uid_t owner;
        uid_t uid;          /* what QEMU runs as */
        uint16_t ssh_port;  /* 0: none */
        uint64_t created;   /* usec, CLOCK_REALTIME */
        uint64_t disk_size; /* bytes of the overlay when it was made; 0: no disk */
        bool seed, generated_key;
        char **provisioned; /* fingerprints of the steps that have run, by their place; "": not known */
        VmSpec spec;
        FileRef files[_VM_FILE_MAX]; /* image, kernel, initrd; user-data lives in the seed */
} VmRecord;

void vm_record_done(VmRecord *rec);

/* The text of vm.json; *ret is the caller's to free. */
int vm_record_format(const VmRecord *rec, char **ret, size_t *ret_len);

/* Reads it back; the error says what is wrong with which key. -EBADMSG, -EOPNOTSUPP (a later version),
 * -ENOMEM. */
int vm_record_read(const Json *doc, VmRecord *ret, Error **reterr);
int vm_record_parse(const char *text, size_t len, VmRecord *ret, Error **reterr);
