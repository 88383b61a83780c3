/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "verbs.h"

#define ANY_NUMBER SIZE_MAX
#define FORMATS "raw qcow2 vmdk vdi vhdx vpc"

#define QUIET \
        { "quiet", 'q', NULL, "Show no progress" }
#define SHARED                                                                                       \
        { "shared", 0, NULL, "Everybody on the host may use it", NULL, "shared", VALUE_TRUE }, {     \
                "private", 0, NULL, "Only its owner may (default for all but root)", NULL, "shared", \
                                VALUE_FALSE                                                          \
        }

const Option image_options[] = {
        { "format", 0, "FORMAT", "What it is (default: told from its header)", FORMATS, "format",
                        VALUE_STRING },
        SHARED,
        {},
};

const Option pull_options[] = {
        { "sha256", 0, "HEX", "The digest that it must have", NULL, "sha256", VALUE_STRING },
        { "checksums", 0, "URL", "A file as SHA256SUMS that has its digest", NULL, "checksums",
                        VALUE_STRING },
        { "refresh", 0, NULL, "Ask whether there is a newer one", NULL, "refresh", VALUE_TRUE },
        {},
};

static const Option image_pull_options[] = {
        { "name", 0, "NAME", "Name of the image (default: the URL's end)", NULL, "name", VALUE_STRING },
        { "no-wait", 0, NULL, "Return once the service has begun" },
        QUIET,
        {},
};

static const Option import_options[] = {
        { "name", 0, "NAME", "Name of the image (default: the file's)" },
        QUIET,
        {},
};

static const Option export_options[] = {
        { "format", 0, "FORMAT", "qcow2 or raw (default: FILE's ending)", "qcow2 raw" },
        { "compress", 0, "KIND", "zstd or none (default: FILE's ending)", "zstd none" },
        { "force", 0, NULL, "Replace FILE" },
        QUIET,
        {},
};

static const Option build_options[] = {
        { "name", 0, "NAME", "Name of the image (default: SOURCE's)" },
        { "bootable", 0, NULL, "With partition table, boot loader and kernel" },
        { "kernel", 0, "FILE", "Kernel, in place of the one in SOURCE", "@file" },
        { "initrd", 0, "FILE", "Initial RAM disk, in place of the one there", "@file" },
        { "kernel-output", 0, "FILE", "Where to put the kernel (default: NAME.vmlinuz)", "@file" },
        { "initrd-output", 0, "FILE", "Where to put its RAM disk (NAME.initrd)", "@file" },
        { "size", 0, "SIZE", "Size in GB, or as 500M (default: what it needs)" },
        { "append", 0, "TEXT", "Kernel command line" },
        { "root-owned", 0, NULL, "All files of a folder become root's" },
        { "file", 0, "FILE", "Dockerfile (default: SOURCE/Dockerfile)", "@file" },
        SHARED,
        QUIET,
        {},
};

static const Option image_list_options[] = {
        { "quiet", 'q', NULL, "Print names only" },
        {},
};

static const Option prune_options[] = {
        { "unused-for", 0, "TIME", "Not used for so long (default: 30d)" },
        { "all", 0, NULL, "Everybody's, not only yours" },
        { "dry-run", 0, NULL, "Only print what would be removed" },
        {},
};

const Verb image_verbs[] = {
        {
                        .name = "image pull",
                        .arguments = "URL",
                        .min_words = 1,
                        .max_words = 1,
                        .help = "Download an image",
                        .details = "What is compressed is decompressed meanwhile; formats other than qcow2 "
                                   "and "
                                   "raw become qcow2. An image that was pulled from this URL before is not "
                                   "downloaded again. Ctrl-C cancels; what has come is kept for a while, "
                                   "for "
                                   "the next pull to go on with.",
                        .options = { image_pull_options, image_options, pull_options },
                        .run = verb_image_pull,
        },
        {
                        .name = "image import",
                        .arguments = "FILE|-",
                        .min_words = 1,
                        .max_words = 1,
                        .words = "@file",
                        .help = "Copy a file, or standard input, to the images",
                        .options = { import_options, image_options },
                        .run = verb_image_import,
        },
        {
                        .name = "image build",
                        .arguments = "SOURCE",
                        .min_words = 1,
                        .max_words = 1,
                        .words = "@file",
                        .help = "Make an image of a root file system",
                        .details = "SOURCE is a folder, a tar archive, an OCI archive or layout, or a "
                                   "folder "
                                   "with a Dockerfile. Without --bootable, kernel and initial RAM disk are "
                                   "put into files, for 'vmctl create --kernel FILE --initrd FILE'.",
                        .options = { build_options },
                        .run = verb_image_build,
        },
        {
                        .name = "image list",
                        .alias = "ls",
                        .help = "List images",
                        .options = { image_list_options },
                        .run = verb_image_list,
        },
        {
                        .name = "image inspect",
                        .arguments = "NAME|PATH",
                        .min_words = 1,
                        .max_words = 1,
                        .words = "@disk",
                        .help = "Show all about an image, or a disk image in a file",
                        .run = verb_image_inspect,
        },
        {
                        .name = "image share",
                        .arguments = "NAME...",
                        .min_words = 1,
                        .max_words = ANY_NUMBER,
                        .words = "@image",
                        .help = "Let everybody on the host use images",
                        .run = verb_image_change,
        },
        {
                        .name = "image unshare",
                        .arguments = "NAME...",
                        .min_words = 1,
                        .max_words = ANY_NUMBER,
                        .words = "@image",
                        .help = "Keep images to their owners",
                        .run = verb_image_change,
        },
        {
                        .name = "image rename",
                        .arguments = "OLD NEW",
                        .min_words = 2,
                        .max_words = 2,
                        .words = "@image",
                        .help = "Give an image another name",
                        .run = verb_image_rename,
        },
        {
                        .name = "image export",
                        .arguments = "NAME FILE|-",
                        .min_words = 2,
                        .max_words = 2,
                        .words = "@image",
                        .help = "Write an image to a file, or to standard output",
                        .details = "FILE ends in .raw, .img or .qcow2, which may be followed by .zst.",
                        .options = { export_options },
                        .run = verb_image_export,
        },
        {
                        .name = "image remove",
                        .alias = "rm",
                        .arguments = "NAME...",
                        .min_words = 1,
                        .max_words = ANY_NUMBER,
                        .words = "@image",
                        .help = "Remove images that no VM needs",
                        .run = verb_image_change,
        },
        {
                        .name = "image prune",
                        .help = "Remove all images that were not used for long",
                        .details = "That no VM needs, that is, and which none was made from for that time.",
                        .options = { prune_options },
                        .run = verb_image_prune,
        },
        {},
};
