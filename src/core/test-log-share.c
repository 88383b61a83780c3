/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "log-share.h"
#include "util/macro.h"
#include "util/test.h"

#define INTERVAL (LOG_SHARE_INTERVAL_SEC * USEC_PER_SEC)

static LogShare *shares;

static void use_up(uid_t uid, uint64_t now) {
        bool last;

        for (int i = 1; i <= LOG_SHARE_MAX; i++) {
                CHECK(log_share_take(&shares, uid, now, &last));
                CHECK_EQ(last, i == LOG_SHARE_MAX);
        }
        CHECK(!log_share_take(&shares, uid, now, &last));
        CHECK(!last);
}

int main(void) {
        bool last;

        use_up(1000, 0);
        use_up(1001, 1); /* who has theirs, whatever others had */
        for (int i = 0; i <= LOG_SHARE_MAX; i++) {
                CHECK(log_share_take(&shares, 0, 1, &last)); /* root has no limit */
                CHECK(!last);
        }
        CHECK(!log_share_take(&shares, 1000, INTERVAL - 1, &last));
        use_up(1000, INTERVAL);
        CHECK(!log_share_take(&shares, 1001, INTERVAL, &last));
        use_up(1001, INTERVAL + 1);
        shares = log_share_free(shares);
        return EXIT_SUCCESS;
}
