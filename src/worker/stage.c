/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <pthread.h>

#include "stage.h"

#define PIECES 4
#define ZEROS_MAX (64 * STAGE_PIECE_SIZE) /* after which the consumer has a look, too */

struct Stage {
        StageConsume consume;
        void *userdata;
        pthread_t thread;
        bool running; /* a thread is there to be joined */
        uint8_t *pieces[PIECES];
        uint64_t pending_zeros; /* the feeder's: they go with the next piece */
        pthread_mutex_t mutex;  /* over all below */
        pthread_cond_t changed;
        uint64_t zeros[PIECES]; /* before each piece */
        size_t lengths[PIECES];
        size_t first, n; /* pieces that are full, a ring */
        bool ended;      /* none will follow */
        int result;
        Error *error;
};

/* Waits for a piece; false when there will be none. */
static bool wait_piece(Stage *s, size_t *ret_index) {
        bool found;

        pthread_mutex_lock(&s->mutex);
        while (s->n == 0 && !s->ended && s->result >= 0)
                pthread_cond_wait(&s->changed, &s->mutex);
        found = s->n > 0 && s->result >= 0;
        *ret_index = s->first;
        pthread_mutex_unlock(&s->mutex);
        return found;
}

static void put_back(Stage *s, int r, Error *error) {
        pthread_mutex_lock(&s->mutex);
        s->first = (s->first + 1) % PIECES;
        s->n--;
        if (s->result >= 0) { /* else it was canceled meanwhile */
                s->result = r;
                s->error = TAKE_PTR(error);
        }
        pthread_cond_signal(&s->changed);
        pthread_mutex_unlock(&s->mutex);
        error_free(error);
}

static void *run(void *userdata) {
        Stage *s = userdata;
        size_t i;

        while (wait_piece(s, &i)) {
                Error *error = NULL;
                int r = s->consume(s->userdata, s->zeros[i], s->pieces[i], s->lengths[i], &error);

                put_back(s, r, error);
                if (r < 0)
                        break;
        }
        return NULL;
}

int stage_new(StageConsume consume, void *userdata, Stage **ret) {
        _cleanup_(stage_freep) Stage *s = calloc(1, sizeof(Stage));
        int r;

        if (!s)
                return -ENOMEM;
        s->consume = consume;
        s->userdata = userdata;
        pthread_mutex_init(&s->mutex, NULL);
        pthread_cond_init(&s->changed, NULL);
        for (size_t i = 0; i < PIECES; i++) {
                s->pieces[i] = malloc(STAGE_PIECE_SIZE);
                if (!s->pieces[i])
                        return -ENOMEM;
        }
        r = pthread_create(&s->thread, NULL, run, s);
        if (r != 0)
                return -r;
        s->running = true;
        *ret = TAKE_PTR(s);
        return 0;
}

void stage_cancel(Stage *s) {
        pthread_mutex_lock(&s->mutex);
        if (s->result >= 0)
                s->result = -ECANCELED;
        pthread_cond_broadcast(&s->changed);
        pthread_mutex_unlock(&s->mutex);
}

static void join(Stage *s) {
        if (!s->running)
                return;
        pthread_mutex_lock(&s->mutex);
        s->ended = true;
        pthread_cond_broadcast(&s->changed);
        pthread_mutex_unlock(&s->mutex);
        pthread_join(s->thread, NULL);
        s->running = false;
}

Stage *stage_free(Stage *s) {
        if (!s)
                return NULL;
        stage_cancel(s);
        join(s);
        for (size_t i = 0; i < PIECES; i++)
                free(s->pieces[i]);
        pthread_cond_destroy(&s->changed);
        pthread_mutex_destroy(&s->mutex);
        error_free(s->error);
        free(s);
        return NULL;
}

int stage_reserve(Stage *s, void **ret) {
        int r;

        pthread_mutex_lock(&s->mutex);
        while (s->n == PIECES && s->result >= 0)
                pthread_cond_wait(&s->changed, &s->mutex);
        r = s->result < 0 ? -ECANCELED : 0;
        if (r >= 0)
                *ret = s->pieces[(s->first + s->n) % PIECES];
        pthread_mutex_unlock(&s->mutex);
        return r;
}

void stage_commit(Stage *s, size_t len) {
        size_t i;

        pthread_mutex_lock(&s->mutex);
        i = (s->first + s->n) % PIECES;
        s->zeros[i] = s->pending_zeros;
        s->lengths[i] = len;
        s->n++;
        pthread_cond_signal(&s->changed);
        pthread_mutex_unlock(&s->mutex);
        s->pending_zeros = 0;
}

void stage_commit_zeros(Stage *s, size_t len) {
        s->pending_zeros += len;
        if (s->pending_zeros >= ZEROS_MAX)
                stage_commit(s, 0);
}

int stage_finish(Stage *s, Error **reterr) {
        void *piece;

        if (s->pending_zeros > 0 && stage_reserve(s, &piece) >= 0)
                stage_commit(s, 0);
        join(s);
        if (s->error && reterr) {
                error_free(*reterr);
                *reterr = TAKE_PTR(s->error);
        }
        return s->result;
}
