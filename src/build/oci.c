/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "folder.h"
#include "oci.h"
#include "util/fd-util.h"
#include "util/string-util.h"
#include "json/json.h"

#define DOCUMENT_SIZE_MAX (4 * MIB) /* registries take manifests of 4 MiB at most */
#define INDEX_DEPTH_MAX 4           /* an index may name other indexes */

#define SHA256_PREFIX "sha256:"

void oci_layers_done(OciLayers *l) {
        for (size_t i = 0; i < l->n; i++)
                l->layers[i].fd = safe_close(l->layers[i].fd);
        l->n = 0;
}

static int invalid(const char *what, Error **reterr) {
        return error_set(reterr, ERROR_INVALID_ARCHIVE, "The container image is invalid: %s", what);
}

/* What such an image calls its files: no absolute paths, nothing that leads out. */
static bool path_is_safe(const char *path) {
        if (isempty(path) || path[0] == '/' || strlen(path) > TREE_PATH_MAX)
                return false;
        for (const char *p = path; *p; p += strcspn(p, "/"), p += strspn(p, "/"))
                if (startswith(p, "..") && (p[2] == '/' || p[2] == '\0'))
                        return false;
        return true;
}

static int open_in_folder(int folder, const char *path, Tarball *ret, Error **reterr) {
        _cleanup_close_ int fd = folder_open_below(folder, path);
        struct stat st;

        if (fd < 0)
                return fd;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        return tarball_from_fd(TAKE_FD(fd), ret, reterr);
}

static int open_in_archive(const OciFiles *files, const char *path, Tarball *ret) {
        const Node *n = tree_resolve(files->tree, path);
        const Inode *i = n ? node_inode(n) : NULL;
        int fd;

        if (!i || !S_ISREG(i->mode))
                return -ENOENT;
        if (i->offset + i->size > files->archive->size || i->allocated != i->size)
                return -EINVAL;
        fd = fcntl(files->archive->fd, F_DUPFD_CLOEXEC, 3);
        if (fd < 0)
                return -errno;
        *ret = (Tarball){ .fd = fd, .offset = files->archive->offset + i->offset, .size = i->size };
        return 0;
}

static int open_file(const OciFiles *files, const char *path, Tarball *ret, Error **reterr) {
        int r;

        if (!path_is_safe(path))
                return invalid("a file in it has an absolute path, or one with '..'", reterr);
        r = files->folder >= 0 ? open_in_folder(files->folder, path, ret, reterr)
                               : open_in_archive(files, path, ret);
        return r < 0 ? error_set(reterr, ERROR_INVALID_ARCHIVE,
                                       "The container image is invalid: its file '%.256s' cannot be read: "
                                       "%s",
                                       path, strerror(-r))
                     : 0;
}

/* "sha256:HEX" in the text's own hex digits. */
static const char *digest_hex(const char *digest) {
        const char *hex = digest ? startswith(digest, SHA256_PREFIX) : NULL;

        return hex && strlen(hex) == SHA256_HEX && strspn(hex, "0123456789abcdef") == SHA256_HEX ? hex
                                                                                                 : NULL;
}

static int open_blob(const OciFiles *files, const Json *descriptor, Tarball *ret, Error **reterr) {
        const char *hex = digest_hex(json_get_string(descriptor, "digest"));
        _cleanup_free_ char *path = NULL;
        int r;

        if (!hex)
                return invalid("a digest in it is not of SHA-256", reterr);
        path = strf("blobs/sha256/%s", hex);
        if (!path)
                return error_set_errno(reterr, -ENOMEM, "Failed to read a manifest");
        r = open_file(files, path, ret, reterr);
        if (r >= 0)
                strcpy(ret->digest, hex);
        return r;
}

static int parse_document(const Tarball *a, Json **ret, Error **reterr) {
        _cleanup_free_ char *text = NULL;
        ssize_t n;

        if (a->size > DOCUMENT_SIZE_MAX)
                return invalid("a manifest of it is larger than 4 MiB", reterr);
        text = malloc(a->size + 1);
        if (!text)
                return error_set_errno(reterr, -ENOMEM, "Failed to read a manifest");
        n = pread(a->fd, text, a->size, (off_t)a->offset);
        if (n < 0 || (uint64_t)n != a->size)
                return invalid("a manifest of it cannot be read", reterr);
        return json_parse(text, a->size, &(JsonLimits){ .max_size = DOCUMENT_SIZE_MAX }, ret, NULL) < 0
                        ? invalid("a manifest of it is not JSON", reterr)
                        : 0;
}

static int read_document(const OciFiles *files, const char *path, Json **ret, Error **reterr) {
        Tarball a;
        int r = open_file(files, path, &a, reterr);

        if (r < 0)
                return r;
        r = parse_document(&a, ret, reterr);
        safe_close(a.fd);
        return r;
}

static int read_blob_document(const OciFiles *files, const Json *descriptor, Json **ret, Error **reterr) {
        Tarball a;
        int r = open_blob(files, descriptor, &a, reterr);

        if (r < 0)
                return r;
        r = parse_document(&a, ret, reterr);
        safe_close(a.fd);
        return r;
}

/* This machine's architecture by Go's name for it, as these images have it. */
static const char *architecture(struct utsname *u) {
        static const char *const names[][2] = {
                { "x86_64", "amd64" },
                { "aarch64", "arm64" },
                { "armv7l", "arm" },
                { "i686", "386" },
        };

        if (uname(u) < 0)
                return "amd64";
        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (streq(u->machine, names[i][0]))
                        return names[i][1];
        return u->machine;
}

/* The image's own word on what it is for; none at all passes. */
static int check_platform(const Json *config, Error **reterr) {
        const char *os = json_get_string(config, "os"), *arch = json_get_string(config, "architecture");
        struct utsname u;

        if ((os && !streq(os, "linux")) || (arch && !streq(arch, architecture(&u))))
                return error_set(reterr, ERROR_INVALID_ARCHIVE,
                                "The container image is for %.32s/%.32s, and this machine is linux/%s",
                                os ?: "linux", arch ?: "?", architecture(&u));
        return 0;
}

static int too_many_layers(OciLayers *l, Error **reterr) {
        return l->n < OCI_LAYERS_MAX ? 0 : invalid("it has more than 512 layers", reterr);
}

static int layers_of_manifest(const OciFiles *files, const Json *manifest, OciLayers *l, Error **reterr) {
        const Json *layers = json_get(manifest, "layers");
        _cleanup_json_ Json *config = NULL;
        int r;

        if (json_type(layers) != JSON_ARRAY)
                return invalid("its manifest names no layers", reterr);
        if (json_get(manifest, "config")) {
                r = read_blob_document(files, json_get(manifest, "config"), &config, reterr);
                if (r >= 0)
                        r = check_platform(config, reterr);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < json_length(layers); i++) {
                r = too_many_layers(l, reterr);
                if (r >= 0)
                        r = open_blob(files, json_element(layers, i), &l->layers[l->n], reterr);
                if (r < 0)
                        return r;
                l->n++;
        }
        return 0;
}

static bool platform_matches(const Json *descriptor) {
        const Json *platform = json_get(descriptor, "platform");
        const char *os = json_get_string(platform, "os"), *arch = json_get_string(platform, "architecture");
        struct utsname u;

        return os && arch && streq(os, "linux") && streq(arch, architecture(&u));
}

/* The one for this machine, or the only one there is. */
static int choose_manifest(const Json *manifests, const Json **ret, Error **reterr) {
        const Json *found = NULL;
        size_t n = json_length(manifests), n_found = 0;
        struct utsname u;

        for (size_t i = 0; i < n; i++)
                if (platform_matches(json_element(manifests, i))) {
                        found = json_element(manifests, i);
                        n_found++;
                }
        if (n_found == 0 && n == 1) {
                found = json_element(manifests, 0);
                n_found = 1;
        }
        if (n_found == 0)
                return error_set(reterr, ERROR_INVALID_ARCHIVE,
                                "The container image has nothing for this machine, which is linux/%s",
                                architecture(&u));
        if (n_found > 1)
                return invalid("there are several images in it; save one alone", reterr);
        *ret = found;
        return 0;
}

static int layers_of_index(
                const OciFiles *files, const Json *index, unsigned depth, OciLayers *l, Error **reterr) {
        const Json *manifests = json_get(index, "manifests"), *chosen;
        _cleanup_json_ Json *document = NULL;
        int r;

        if (json_type(manifests) != JSON_ARRAY || depth > INDEX_DEPTH_MAX)
                return invalid("its index names no manifests", reterr);
        r = choose_manifest(manifests, &chosen, reterr);
        if (r >= 0)
                r = read_blob_document(files, chosen, &document, reterr);
        if (r < 0)
                return r;
        return json_get(document, "manifests") ? layers_of_index(files, document, depth + 1, l, reterr)
                                               : layers_of_manifest(files, document, l, reterr);
}

static int layers_of_docker(const OciFiles *files, const Json *manifest, OciLayers *l, Error **reterr) {
        const Json *image = json_element(manifest, 0), *layers = json_get(image, "Layers");
        const char *config_path = json_get_string(image, "Config");
        _cleanup_json_ Json *config = NULL;
        int r = 0;

        if (json_length(manifest) > 1)
                return invalid("there are several images in it; save one alone", reterr);
        if (json_type(layers) != JSON_ARRAY)
                return invalid("its manifest.json names no layers", reterr);
        if (config_path)
                r = read_document(files, config_path, &config, reterr);
        if (r >= 0)
                r = check_platform(config, reterr);
        for (size_t i = 0; r >= 0 && i < json_length(layers); i++) {
                r = too_many_layers(l, reterr);
                if (r >= 0)
                        r = open_file(files, json_string(json_element(layers, i)), &l->layers[l->n], reterr);
                if (r >= 0)
                        l->n++;
        }
        return r;
}

static bool exists(const OciFiles *files, const char *path) {
        return files->folder >= 0 ? faccessat(files->folder, path, F_OK, AT_SYMLINK_NOFOLLOW) >= 0
                                  : tree_resolve(files->tree, path) != NULL;
}

bool oci_is_image(const OciFiles *files) {
        if (exists(files, "etc") || exists(files, "usr") || exists(files, "bin") || exists(files, "sbin"))
                return false;
        return exists(files, "manifest.json") ||
                        (exists(files, "oci-layout") && exists(files, "index.json"));
}

int oci_find_layers(const OciFiles *files, OciLayers *ret, Error **reterr) {
        /* docker save writes both. Of the two manifest.json has just what was asked for. */
        bool docker = exists(files, "manifest.json");
        _cleanup_json_ Json *document = NULL;
        int r;

        ret->n = 0;
        r = read_document(files, docker ? "manifest.json" : "index.json", &document, reterr);
        if (r < 0)
                return r;
        r = docker ? layers_of_docker(files, document, ret, reterr)
                   : layers_of_index(files, document, 0, ret, reterr);
        if (r < 0)
                oci_layers_done(ret);
        return r;
}
