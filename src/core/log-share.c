/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "log-share.h"
#include "util/macro.h"
#include "util/string-util.h"

typedef struct Share {
        uid_t uid;
        uint64_t begin; /* of the interval */
        unsigned n;
} Share;

struct LogShare {
        Share *list; /* owned; those whose interval has passed go when another one comes */
        size_t n;
};

LogShare *log_share_free(LogShare *s) {
        if (s)
                free(s->list);
        free(s);
        return NULL;
}

static bool has_passed(const Share *share, uint64_t now) {
        return now >= share->begin + LOG_SHARE_INTERVAL_SEC * USEC_PER_SEC;
}

static Share *find_or_add(LogShare *s, uid_t uid, uint64_t now) {
        Share *grown;

        for (size_t i = 0; i < s->n;)
                if (has_passed(&s->list[i], now))
                        s->list[i] = s->list[--s->n];
                else if (s->list[i].uid == uid)
                        return &s->list[i];
                else
                        i++;
        grown = reallocarray(s->list, s->n + 1, sizeof(Share));
        if (!grown)
                return NULL;
        s->list = grown;
        s->list[s->n] = (Share){ .uid = uid, .begin = now };
        return &s->list[s->n++];
}

bool log_share_take(LogShare **s, uid_t uid, uint64_t now, bool *ret_last) {
        Share *share;

        *ret_last = false;
        if (uid == 0)
                return true;
        if (!*s)
                *s = calloc(1, sizeof(LogShare));
        share = *s ? find_or_add(*s, uid, now) : NULL;
        if (!share)
                return true;
        if (share->n == LOG_SHARE_MAX)
                return false;
        *ret_last = ++share->n == LOG_SHARE_MAX;
        return true;
}
