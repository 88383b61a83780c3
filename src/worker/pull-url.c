/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <curl/curl.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pull-url.h"
#include "util/fd-util.h"
#include "util/string-util.h"

static const char *const scheme_table[] = {
        [URL_FILE] = "file",
        [URL_HTTP] = "http",
        [URL_HTTPS] = "https",
};
_Static_assert(ELEMENTSOF(scheme_table) == _URL_SCHEME_MAX, "a scheme has no name");

static inline void curl_url_cleanupp(CURLU **u) {
        curl_url_cleanup(*u);
}

/* NULL when there is no such part. Out of memory is -ENOMEM. */
static int get_part(CURLU *u, CURLUPart part, unsigned flags, char **ret) {
        char *s = NULL;
        CURLUcode c = curl_url_get(u, part, &s, flags);

        if (c == CURLUE_OUT_OF_MEMORY)
                return -ENOMEM;
        if (c != CURLUE_OK)
                return c == CURLUE_URLDECODE ? -EINVAL : 0;
        *ret = strdup(s);
        curl_free(s);
        return *ret ? 0 : -ENOMEM;
}

static int read_scheme(CURLU *u, UrlScheme *ret) {
        _cleanup_free_ char *s = NULL;
        int r;

        r = get_part(u, CURLUPART_SCHEME, 0, &s);
        if (r < 0)
                return r;
        for (int i = 0; s && i < _URL_SCHEME_MAX; i++)
                if (strcasecmp(s, scheme_table[i]) == 0) {
                        *ret = (UrlScheme)i;
                        return 0;
                }
        return -EINVAL;
}

static int read_credentials(CURLU *u, Url *url) {
        static const CURLUPart parts[] = { CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_OPTIONS };

        for (size_t i = 0; i < ELEMENTSOF(parts); i++) {
                _cleanup_free_ char *s = NULL;
                int r;

                r = get_part(u, parts[i], 0, &s);
                if (r < 0)
                        return r;
                url->has_credentials = url->has_credentials || s;
                (void)curl_url_set(u, parts[i], NULL, 0);
        }
        return get_part(u, CURLUPART_URL, 0, &url->plain);
}

static int read_shown(CURLU *u, Url *url) {
        _cleanup_free_ char *s = NULL;
        int r;

        (void)curl_url_set(u, CURLUPART_QUERY, NULL, 0);
        (void)curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0);
        r = get_part(u, CURLUPART_URL, 0, &s);
        if (r < 0 || !s)
                return r < 0 ? r : -EINVAL;
        url->shown = string_escape(s, strlen(s), 200);
        return url->shown ? 0 : -ENOMEM;
}

static int read_path(CURLU *u, Url *url) {
        _cleanup_free_ char *path = NULL;
        int r;

        r = get_part(u, CURLUPART_PATH, CURLU_URLDECODE, &path);
        if (r < 0 || !path)
                return r < 0 ? r : -EINVAL;
        url->name = strdup(strrchr(path, '/') ? strrchr(path, '/') + 1 : path);
        if (url->scheme == URL_FILE)
                url->path = TAKE_PTR(path);
        return url->name ? 0 : -ENOMEM;
}

static int parse(const char *text, Url *url) {
        _cleanup_(curl_url_cleanupp) CURLU *u = curl_url();
        int r;

        if (!u)
                return -ENOMEM;
        if (strlen(text) > URL_SIZE_MAX || !utf8_is_valid(text, strlen(text)) ||
                        curl_url_set(u, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK)
                return -EINVAL;
        r = read_scheme(u, &url->scheme);
        if (r >= 0)
                r = read_credentials(u, url);
        if (r >= 0)
                r = read_shown(u, url);
        if (r >= 0)
                r = read_path(u, url);
        if (r >= 0)
                r = free_and_strdup(&url->text, text);
        return r;
}

int url_parse(const char *text, Url *ret, Error **reterr) {
        _cleanup_url_ Url url = {};
        int r;

        r = parse(text, &url);
        if (r == -ENOMEM)
                return error_set_errno(reterr, r, "Failed to read the URL");
        if (r < 0) /* not quoted: where the password would stand is not known */
                return error_set(
                                reterr, ERROR_INVALID_URL, "The URL is not a valid https, http or file URL");
        *ret = url;
        url = (Url){};
        return 0;
}

void url_done(Url *u) {
        free(u->text);
        free(u->plain);
        free(u->shown);
        free(u->name);
        free(u->path);
        *u = (Url){};
}

int url_open_file(const Url *u, int *ret_fd, Error **reterr) {
        /* No magic links: /proc/self/fd would lead to descriptors that are not the client's business. */
        const struct open_how how = {
                .flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
                .resolve = RESOLVE_NO_MAGICLINKS,
        };
        _cleanup_close_ int fd = -EBADF;
        struct stat st;

        if (geteuid() == 0)
                return error_set(reterr, ERROR_ACCESS_DENIED,
                                "File URLs are not opened with root's rights: import the file instead");
        fd = (int)syscall(SYS_openat2, AT_FDCWD, u->path, &how, sizeof(how));
        if (fd < 0 || fstat(fd, &st) < 0)
                return error_set(reterr, ERROR_DOWNLOAD_REFUSED,
                                "Failed to open '%s' as a user without rights: %s", u->shown,
                                strerror(errno));
        if (!S_ISREG(st.st_mode))
                return error_set(reterr, ERROR_DOWNLOAD_REFUSED, "'%s' is not a regular file", u->shown);
        *ret_fd = TAKE_FD(fd);
        return 0;
}
