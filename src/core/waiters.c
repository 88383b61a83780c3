/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "waiters.h"

struct Waiters {
        size_t n;
        struct {
                waiter_t done;
                void *userdata;
        } list[];
};

int waiters_add(Waiters **w, waiter_t done, void *userdata) {
        size_t n = *w ? (*w)->n : 0;
        Waiters *grown;

        if (!done)
                return 0;
        grown = realloc(*w, sizeof(Waiters) + (n + 1) * sizeof(grown->list[0]));
        if (!grown)
                return -ENOMEM;
        grown->list[n].done = done;
        grown->list[n].userdata = userdata;
        grown->n = n + 1;
        *w = grown;
        return 0;
}

void waiters_fire(Waiters **w, int r, const Error *error) {
        _cleanup_free_ Waiters *all = TAKE_PTR(*w);

        for (size_t i = 0; all && i < all->n; i++)
                all->list[i].done(all->list[i].userdata, r, error);
}
