/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Container images: an OCI image layout (oci-layout, index.json, blobs), or what `docker save` writes
 * (manifest.json), as a folder or in an archive. Both come down to a list of layers, the lowest first. */

#include "tarball.h"

#define OCI_LAYERS_MAX 512 /* Docker allows 127 */

typedef struct OciLayers {
        Tarball layers[OCI_LAYERS_MAX]; /* their descriptors are owned */
        size_t n;
} OciLayers;

void oci_layers_done(OciLayers *l);

/* Where the files are: below a folder, or in an archive that is not compressed and its tree. */
typedef struct OciFiles {
        int folder; /* or -EBADF; borrowed */
        const Tarball *archive;
        Tree *tree;
} OciFiles;

/* Whether this is such an image rather than a root file system. */
bool oci_is_image(const OciFiles *files);

/* The layers of the image for this machine's architecture. Digests are filled in where they are known. */
int oci_find_layers(const OciFiles *files, OciLayers *ret, Error **reterr);
