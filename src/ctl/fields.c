/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>

#include "fields.h"
#include "term.h"
#include "text.h"

const char *fields_string(const Json *object, const char *key) {
        return json_get_string(object, key) ?: "";
}

uint64_t fields_number(const Json *object, const char *key) {
        uint64_t v = 0;

        (void)json_get_unsigned(object, key, &v);
        return v;
}

void fields_print(const char *label, const Json *object, const char *key) {
        const char *s = json_get_string(object, key);

        if (isempty(s))
                return;
        term_label(label);
        term_print(stdout, s);
        putchar('\n');
}

void fields_print_word(const char *before, const Json *object, const char *key) {
        const char *s = fields_string(object, key);

        if (*s) {
                (void)fputs(before, stdout);
                term_print(stdout, s);
        }
}

void fields_print_time(const char *label, const Json *object, const char *key) {
        _cleanup_free_ char *when = text_timestamp(fields_number(object, key));

        if (fields_number(object, key) == 0)
                return;
        term_label(label);
        puts(when ?: "?");
}

void fields_print_list(const char *label, const Json *list) {
        if (json_length(list) == 0)
                return;
        term_label(label);
        for (size_t i = 0; i < json_length(list); i++) {
                printf("%s", i > 0 ? ", " : "");
                term_print(stdout, json_string(json_element(list, i)) ?: "");
        }
        putchar('\n');
}

void fields_print_owner(const Ctl *c, const Json *object) {
        uint64_t uid = fields_number(object, "Owner");
        const struct passwd *pw = c->host ? NULL : getpwuid((uid_t)uid); /* another host has other users */

        term_label("Owner");
        if (pw)
                printf("%s (%" PRIu64 ")\n", pw->pw_name, uid);
        else
                printf("%" PRIu64 "\n", uid);
}

void fields_print_size(const char *before, uint64_t bytes) {
        _cleanup_free_ char *text = text_size(bytes);

        printf("%s%s", before, text ?: "?");
}
