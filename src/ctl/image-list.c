/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "image-list.h"

#define ROW "sosubtttttsa{sv}"

static int read_users(sd_bus_message *m, ListedImage *image) {
        const char *key;
        int r;

        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = sd_bus_message_read(m, "s", &key);
                if (r >= 0 && streq(key, "users")) {
                        r = sd_bus_message_enter_container(m, 'v', "as");
                        if (r >= 0)
                                r = sd_bus_message_read_strv(m, &image->users);
                        if (r >= 0)
                                r = sd_bus_message_exit_container(m);
                } else if (r >= 0)
                        r = sd_bus_message_skip(m, "v");
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        break;
        }
        return r;
}

/* 1, 0 at the end, or a negative errno. */
static int read_image(sd_bus_message *m, ListedImage *image) {
        int r;

        r = sd_bus_message_enter_container(m, 'r', ROW);
        if (r <= 0)
                return r;
        r = sd_bus_message_read(m, "sosubttttts", &image->name, &image->path, &image->format, &image->owner,
                        &image->shared, &image->virtual_size, &image->size, &image->allocated,
                        &image->created_usec, &image->used_usec, &image->url);
        if (r >= 0)
                r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r >= 0)
                r = read_users(m, image);
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        return r < 0 ? r : 1;
}

static int read_images(ImageList *l) {
        size_t allocated = 0;
        int r;

        r = sd_bus_message_enter_container(l->reply, 'a', "(" ROW ")");
        while (r >= 0) {
                if (l->n == allocated) {
                        ListedImage *grown;

                        allocated = MAX(allocated * 2, (size_t)32);
                        grown = reallocarray(l->images, allocated, sizeof(ListedImage));
                        if (!grown)
                                return -ENOMEM;
                        l->images = grown;
                }
                l->images[l->n] = (ListedImage){};
                r = read_image(l->reply, &l->images[l->n]);
                if (r == 0)
                        return 0;
                l->n++; /* what failed halfway may own something, too */
        }
        return r;
}

int image_list_fetch(Ctl *c, ImageList *ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_error_ Error *error = NULL;
        int r;

        r = ctl_new_call(c, VMCTL_MANAGER_PATH, VMCTL_MANAGER, "ListImages", &m);
        if (r != 0)
                return r;
        r = client_call(c->client, m, 0, &ret->reply, &error);
        if (r >= 0)
                r = read_images(ret);
        return r < 0 ? ctl_report(c, error, r, "Failed to list images") : 0;
}

void image_list_done(ImageList *l) {
        for (size_t i = 0; i < l->n; i++)
                strv_free(l->images[i].users);
        free(l->images);
        sd_bus_message_unref(l->reply);
        *l = (ImageList){};
}
