/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Memory that is freed together: chunks, from which small things are cut. `Arena *a = NULL` is the empty
 * arena. */

#include "macro.h"

typedef struct Arena Arena;

/* Not zeroed; align is a power of two, up to that of max_align_t. NULL when memory is short. */
void *arena_alloc(Arena **arena, size_t size, size_t align);

Arena *arena_free(Arena *arena);
DEFINE_CLEANUP(Arena *, arena_free);
#define _cleanup_arena_ _cleanup_(arena_freep)

/* A zeroed T. */
#define arena_new(arena, T)                                             \
        ({                                                              \
                T *_new = arena_alloc((arena), sizeof(T), _Alignof(T)); \
                if (_new)                                               \
                        memset(_new, 0, sizeof(T));                     \
                _new;                                                   \
        })
