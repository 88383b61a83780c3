/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whatever is accepted must come back from the writer as text that reads, and writes, the same. */
#include "fuzz.h"
#include "util/test.h"
#include "json/json.h"

static char *write_tree(const Json *v, JsonWriterFlags flags, size_t *ret_len) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        char *text = NULL;

        CHECK_EQ(json_writer_new(flags, &w), 0);
        json_write_value(w, v);
        CHECK_EQ(json_writer_finish(w, &text, ret_len), 0);
        return text;
}

/* Every way to reach a member must lead to the same one. */
static void check_members(const Json *v) {
        for (size_t i = 0; i < json_length(v); i++) {
                const Json *member = json_type(v) == JSON_OBJECT ? json_member(v, i) : json_element(v, i);

                CHECK(member);
                if (json_type(v) == JSON_OBJECT)
                        CHECK(json_get(v, json_key(v, i)) == member);
                check_members(member);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_json_ Json *v = NULL, *again = NULL;
        _cleanup_free_ char *text = NULL, *pretty = NULL, *text_again = NULL;
        _cleanup_error_ Error *error = NULL;
        size_t len, pretty_len;
        int r = json_parse((const char *)data, size, NULL, &v, &error);

        CHECK(r == 0 || r == -EBADMSG || r == -EFBIG);
        if (r < 0) {
                CHECK(error);
                CHECK(utf8_is_valid(error_message(error), strlen(error_message(error))));
                return 0;
        }
        check_members(v);
        text = write_tree(v, 0, &len);
        pretty = write_tree(v, JSON_WRITER_PRETTY, &pretty_len);
        CHECK_EQ(json_parse(pretty, pretty_len, &(JsonLimits){ .max_size = SIZE_MAX }, &again, NULL), 0);
        text_again = write_tree(again, 0, &len);
        CHECK_STREQ(text_again, text);
        return 0;
}
