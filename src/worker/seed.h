/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The disk on which cloud-init in the guest finds its configuration: data source NoCloud, an ISO 9660 file
 * system with the label "cidata". */

#include "util/error.h"

#define SEED_USER_DATA_MAX MIB

typedef struct SeedConfig {
        const char *instance_id;
        const char *hostname;
        const char *user;  /* "root" or a user to be made */
        char *const *keys; /* lines for authorized_keys; NULL or empty: nobody gets in over SSH */
} SeedConfig;

typedef struct SeedFile {
        const char *name;
        const char *data;
        size_t len;
} SeedFile;

/* cloud-config and meta-data, as JSON, which is YAML too. The caller frees the text. */
int seed_make_user_data(const SeedConfig *c, char **ret, size_t *ret_len, Error **reterr);
int seed_make_meta_data(const SeedConfig *c, char **ret, size_t *ret_len, Error **reterr);

/* Whether cloud-init will know what to do with a user's own user-data: ERROR_INVALID_SPEC if not. */
int seed_check_user_data(const char *data, size_t len, Error **reterr);

/* Writes the file system with these files to fd, from its current offset. */
int seed_write(int fd, const SeedFile *files, size_t n_files, Error **reterr);
