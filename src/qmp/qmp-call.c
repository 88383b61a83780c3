/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>

#include "qmp-call.h"
#include "util/fd-util.h"
#include "util/string-util.h"

/* QEMU's descriptions are a sentence or two; more would be somebody's attempt to fill logs. */
#define DESCRIPTION_MAX 1024

static bool name_is_valid(const char *name) {
        static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";

        return !isempty(name) && name[strspn(name, allowed)] == '\0';
}

static QmpCall *call_new(const char *command, uint64_t id) {
        QmpCall *c = calloc(1, sizeof(QmpCall) + strlen(command) + 1);

        if (!c)
                return NULL;
        c->id = id;
        c->fd = -EBADF;
        strcpy(c->command, command);
        return c;
}

int qmp_call_new(const char *command, const char *prefix, const char *arguments, uint64_t id, int fd,
                QmpCall **ret) {
        _cleanup_(qmp_call_freep) QmpCall *c = NULL;
        _cleanup_close_ int owned_fd = fd;

        if (!name_is_valid(command))
                return -EINVAL;
        c = call_new(command, id);
        if (!c)
                return -ENOMEM;
        c->fd = TAKE_FD(owned_fd);
        c->text = strf("%s{\"execute\":\"%s\"%s%s,\"id\":%" PRIu64 "}\n", prefix, command,
                        arguments ? ",\"arguments\":" : "", arguments ?: "", id);
        if (!c->text)
                return -ENOMEM;
        c->len = strlen(c->text);
        *ret = TAKE_PTR(c);
        return 0;
}

static int check_raw(const Json *raw, Error **reterr) {
        if (json_type(raw) != JSON_OBJECT || !name_is_valid(json_get_string(raw, "execute"))) {
                error_set(reterr, ERROR_FAILED,
                                "A QMP command is an object, as {\"execute\": \"query-status\"}");
                return -EBADMSG;
        }
        for (size_t i = 0; i < json_length(raw); i++) {
                const char *key = json_key(raw, i);

                if (streq(key, "execute") || streq(key, "id"))
                        continue;
                if (streq(key, "arguments") && json_type(json_member(raw, i)) == JSON_OBJECT)
                        continue;
                error_set(reterr, ERROR_FAILED,
                                streq(key, "arguments") ? "The arguments of a QMP command are an object"
                                                        : "A QMP command has \"execute\", \"arguments\" and "
                                                          "\"id\" only");
                return -EBADMSG;
        }
        return 0;
}

static int write_raw(const Json *raw, uint64_t id, char **ret, size_t *ret_len) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        _cleanup_free_ char *text = NULL;
        int r;

        r = json_writer_new(0, &w);
        if (r < 0)
                return r;
        json_write_object(w);
        json_put_string(w, "execute", json_get_string(raw, "execute"));
        if (json_get(raw, "arguments")) {
                json_write_key(w, "arguments");
                json_write_value(w, json_get(raw, "arguments"));
        }
        json_put_unsigned(w, "id", id);
        json_write_end(w);
        r = json_writer_finish(w, &text, ret_len);
        if (r < 0)
                return r;
        text[(*ret_len)++] = '\n'; /* in the place of the NUL */
        *ret = TAKE_PTR(text);
        return 0;
}

int qmp_call_new_raw(const char *text, uint64_t id, QmpCall **ret, Error **reterr) {
        _cleanup_(qmp_call_freep) QmpCall *c = NULL;
        _cleanup_json_ Json *raw = NULL;
        int r;

        r = json_parse(text, strlen(text), NULL, &raw, reterr);
        if (r < 0)
                return r;
        r = check_raw(raw, reterr);
        if (r < 0)
                return r;
        c = call_new(json_get_string(raw, "execute"), id);
        if (!c)
                return error_set_errno(reterr, -ENOMEM, "Failed to queue the command");
        r = write_raw(raw, id, &c->text, &c->len);
        if (r < 0)
                return error_set_errno(reterr, r, "Failed to queue the command");
        c->raw = TAKE_PTR(raw);
        *ret = TAKE_PTR(c);
        return 0;
}

QmpCall *qmp_call_free(QmpCall *c) {
        if (!c)
                return NULL;
        safe_close(c->fd);
        json_free(c->raw);
        free(c->text);
        free(c);
        return NULL;
}

bool qmp_call_is_sent(const QmpCall *c) {
        return c->sent == c->len;
}

int qmp_call_send(QmpCall *c, QmpStream *stream) {
        while (!qmp_call_is_sent(c)) {
                ssize_t n = qmp_stream_send(stream, c->text + c->sent, c->len - c->sent, c->fd);

                if (n < 0)
                        return (int)n;
                c->sent += (size_t)n;
                c->fd = safe_close(c->fd); /* it went with the first byte */
        }
        free(c->text);
        c->text = NULL;
        return 0;
}

void qmp_call_abandon(QmpCall *c) {
        c->reply = NULL;
        c->raw_reply = NULL;
        c->deadline = USEC_INFINITY;
        c->raw = json_free(c->raw);
}

void qmp_call_fail(QmpCall *c, int r, const Error *error) {
        qmp_raw_reply_t raw_reply = c->raw_reply;
        qmp_reply_t reply = c->reply;
        void *userdata = c->userdata;

        qmp_call_abandon(c); /* before the callback, which may free it */
        if (reply)
                reply(userdata, r, NULL, error);
        else if (raw_reply)
                raw_reply(userdata, r, NULL, error);
}

static Error *refusal(const QmpCall *c, const Json *qemu_error) {
        const char *description = json_get_string(qemu_error, "desc") ?: "no reason given";
        _cleanup_free_ char *escaped = string_escape(description, strlen(description), DESCRIPTION_MAX);
        Error *error = NULL;

        error_set(&error, ERROR_QMP_FAILED, "QEMU refused '%s': %s", c->command,
                        escaped ?: "no reason given");
        return error;
}

static int write_raw_answer(const QmpCall *c, const Json *message, char **ret) {
        const Json *id = json_get(c->raw, "id");
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        int r;

        r = json_writer_new(0, &w);
        if (r < 0)
                return r;
        json_write_object(w);
        json_write_key(w, json_get(message, "return") ? "return" : "error");
        json_write_value(w, json_get(message, "return") ?: json_get(message, "error"));
        if (id) {
                json_write_key(w, "id");
                json_write_value(w, id);
        }
        json_write_end(w);
        return json_writer_finish(w, ret, NULL);
}

static void answer_raw(QmpCall *c, const Json *message) {
        _cleanup_error_ Error *error = NULL;
        _cleanup_free_ char *text = NULL;
        qmp_raw_reply_t raw_reply = c->raw_reply;
        void *userdata = c->userdata;
        int r;

        r = write_raw_answer(c, message, &text);
        if (r < 0) {
                error_set_errno(&error, r, "Failed to hand on QEMU's answer to '%s'", c->command);
                qmp_call_fail(c, r, error);
                return;
        }
        qmp_call_abandon(c);
        raw_reply(userdata, 0, text, NULL);
}

void qmp_call_answer(QmpCall *c, const Json *message) {
        const Json *result = json_get(message, "return");
        qmp_reply_t reply = c->reply;
        void *userdata = c->userdata;

        if (c->raw_reply) {
                answer_raw(c, message);
        } else if (!result) {
                _cleanup_error_ Error *error = refusal(c, json_get(message, "error"));

                qmp_call_fail(c, -EPROTO, error);
        } else if (reply) {
                qmp_call_abandon(c);
                reply(userdata, 0, result, NULL);
        }
}
