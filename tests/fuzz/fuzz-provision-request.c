/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whatever is accepted holds what the worker relies on. */
#include "fuzz.h"
#include "util/test.h"
#include "worker/provision-request.h"

#define N_FILES 3

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_provision_request_ ProvisionRequest q = {};
        _cleanup_error_ Error *e = NULL;

        if (provision_request_parse((const char *)data, size, N_FILES, &q, &e) < 0) {
                CHECK(e);
                return 0;
        }
        CHECK(!isempty(q.user) && !isempty(q.host));
        CHECK(!q.copy.set || (q.n_steps == 0 && q.copy.file < N_FILES && !strchr(q.copy.name, '/')));
        for (size_t i = 0; i < q.n_steps; i++) {
                const ProvisionStep *s = q.steps + i;

                CHECK(s->kind != STEP_SHELL || !isempty(s->text));
                CHECK(s->kind == STEP_SHELL || s->file < N_FILES);
                CHECK((s->kind != STEP_FILE && s->kind != STEP_DIRECTORY) || *s->destination == '/');
                for (size_t j = 0; j < json_length(s->env); j++)
                        CHECK(json_string(json_member(s->env, j)));
        }
        return 0;
}
