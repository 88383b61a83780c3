/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "uid-pool.h"
#include "util/fd-util.h"
#include "util/string-util.h"

#define HELD UINT32_MAX
#define NOTED_AHEAD 256 /* so that not each of them has to be noted */
#define NOTE ".uids"

struct UidPool {
        uid_t first;
        uint32_t count;
        int folder_fd;   /* borrowed */
        uint32_t given;  /* those below this place were somebody's in this boot */
        uint32_t noted;  /* ... as the next instance of the service will take it */
        uint32_t back;   /* how many were given back */
        uint32_t when[]; /* each was given back: 0 never, else the how-manieth */
};

/* What an earlier instance gave in this boot. */
static void read_note(UidPool *p) {
        _cleanup_free_ char *text = NULL;
        uint32_t given;
        size_t len;

        if (read_file_at(p->folder_fd, NOTE, 64, &text, &len) >= 0 && parse_u32(text, &given) >= 0)
                p->given = p->noted = MIN(given, p->count);
}

int uid_pool_new(uid_t first, uint32_t count, int folder_fd, UidPool **ret) {
        UidPool *p = calloc(1, sizeof(UidPool) + count * sizeof(p->when[0]));

        if (!p)
                return -ENOMEM;
        p->first = first;
        p->count = count;
        p->folder_fd = folder_fd;
        read_note(p);
        *ret = p;
        return 0;
}

UidPool *uid_pool_free(UidPool *p) {
        free(p);
        return NULL;
}

bool uid_pool_is_empty(const UidPool *p) {
        return p->count == 0;
}

static uint32_t *slot(UidPool *p, uid_t uid) {
        uint32_t i = uid - p->first;

        /* Else it was handed out from an earlier range; nobody gets it anew. */
        return uid >= p->first && i < p->count ? &p->when[i] : NULL;
}

void uid_pool_hold(UidPool *p, uid_t uid, bool held) {
        uint32_t *s = slot(p, uid);

        if (s)
                *s = held ? HELD : ++p->back;
}

static int note(UidPool *p) {
        char text[16];
        uint32_t noted;
        int r, n;

        if (p->given < p->noted || p->noted == p->count)
                return 0;
        noted = MIN(p->given + NOTED_AHEAD, p->count);
        n = snprintf(text, sizeof(text), "%" PRIu32, noted);
        r = write_file_at(p->folder_fd, NOTE, text, (size_t)n, 0600, 0);
        if (r >= 0)
                p->noted = noted;
        return r;
}

static uint32_t longest_unused(const UidPool *p) {
        uint32_t best = p->count;

        for (uint32_t i = 0; i < p->count; i++)
                if (p->when[i] != HELD && (best == p->count || p->when[i] < p->when[best]))
                        best = i;
        return best;
}

int uid_pool_pick(UidPool *p, uid_t *ret, Error **reterr) {
        uint32_t i;
        int r;

        if (p->count == 0) {
                *ret = geteuid();
                return 0;
        }
        while (p->given < p->count && p->when[p->given] == HELD)
                p->given++;
        r = note(p);
        if (r < 0)
                return error_set_errno(reterr, r, "Cannot note which user IDs were used");
        i = p->given < p->count ? p->given++ : longest_unused(p);
        if (i == p->count)
                return error_set(reterr, ERROR_IDS_EXHAUSTED, "All %" PRIu32 " user IDs for VMs are in use",
                                p->count);
        p->when[i] = HELD;
        *ret = p->first + i;
        return 0;
}
