/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <elf.h>
#include <endian.h>

#include "kernel-header.h"

#define SETUP_SIGNATURE_OFFSET 0x1fe
#define SETUP_MAGIC_OFFSET 0x202
#define NOTES_SIZE_MAX (64 * KIB) /* Linux has less than 1 KiB of them */
#define NOTE_PVH_ENTRY 18         /* XEN_ELFNOTE_PHYS32_ENTRY */

bool kernel_header_is_bzimage(const void *buf, size_t len) {
        const char *p = buf;

        return len >= SETUP_MAGIC_OFFSET + 4 && memcmp(p + SETUP_SIGNATURE_OFFSET, "\x55\xaa", 2) == 0 &&
                        memcmp(p + SETUP_MAGIC_OFFSET, "HdrS", 4) == 0;
}

bool kernel_header_find_notes(
                const void *buf, size_t len, unsigned i, uint64_t *ret_offset, uint64_t *ret_size) {
        uint64_t offset;
        Elf64_Ehdr eh;
        Elf64_Phdr ph;

        if (len < sizeof(eh))
                return false;
        memcpy(&eh, buf, sizeof(eh));
        if (memcmp(eh.e_ident, ELFMAG, SELFMAG) != 0 || eh.e_ident[EI_CLASS] != ELFCLASS64 ||
                        eh.e_ident[EI_DATA] != ELFDATA2LSB || le16toh(eh.e_machine) != EM_X86_64 ||
                        le16toh(eh.e_phentsize) != sizeof(ph))
                return false;
        offset = le64toh(eh.e_phoff);
        for (unsigned n = le16toh(eh.e_phnum); n > 0; n--, offset += sizeof(ph)) {
                if (offset > len || len - offset < sizeof(ph))
                        return false;
                memcpy(&ph, (const char *)buf + offset, sizeof(ph));
                if (le32toh(ph.p_type) != PT_NOTE || i-- > 0)
                        continue;
                *ret_offset = le64toh(ph.p_offset);
                *ret_size = le64toh(ph.p_filesz);
                return *ret_size <= NOTES_SIZE_MAX && *ret_offset <= INT64_MAX - NOTES_SIZE_MAX;
        }
        return false;
}

/* A name and a descriptor follow each note's header, both padded to 4 bytes. */
bool kernel_notes_have_pvh(const void *notes, size_t len) {
        const char *p = notes;
        Elf64_Nhdr nh;

        while (len >= sizeof(nh)) {
                uint64_t name, desc;

                memcpy(&nh, p, sizeof(nh));
                p += sizeof(nh);
                len -= sizeof(nh);
                name = ((uint64_t)le32toh(nh.n_namesz) + 3) & ~UINT64_C(3);
                desc = ((uint64_t)le32toh(nh.n_descsz) + 3) & ~UINT64_C(3);
                if (name + desc > len)
                        return false;
                if (le32toh(nh.n_type) == NOTE_PVH_ENTRY && le32toh(nh.n_namesz) == 4 &&
                                memcmp(p, "Xen", 4) == 0)
                        return true;
                p += name + desc;
                len -= name + desc;
        }
        return false;
}
