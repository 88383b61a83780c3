/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdalign.h>

#include "arena.h"

#define CHUNK_MIN 256
#define CHUNK_MAX (64 * KIB)

struct Arena {
        Arena *next;
        size_t size, used;
        alignas(max_align_t) char data[];
};

Arena *arena_free(Arena *c) {
        while (c) {
                Arena *next = c->next;

                free(c);
                c = next;
        }
        return NULL;
}

static Arena *chunk_new(size_t size) {
        Arena *c = size <= SIZE_MAX - offsetof(Arena, data) ? malloc(offsetof(Arena, data) + size) : NULL;

        if (c)
                *c = (Arena){ .size = size };
        return c;
}

void *arena_alloc(Arena **arena, size_t size, size_t align) {
        Arena *c = *arena;
        size_t start = c ? (c->used + align - 1) & ~(align - 1) : 0;

        if (!c || start > c->size || size > c->size - start) {
                /* What is large gets a chunk of its own, and the rest of the current one stays in use. */
                bool apart = c && size > CHUNK_MAX / 4;
                size_t grown = c ? MIN(c->size * 2, (size_t)CHUNK_MAX) : CHUNK_MIN;
                Arena *fresh = chunk_new(apart ? size : MAX(grown, size));

                if (!fresh)
                        return NULL;
                fresh->next = apart ? c->next : c;
                *(apart ? &c->next : arena) = fresh;
                c = fresh;
                start = 0;
        }
        c->used = start + size;
        return c->data + start;
}
