/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ctype.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ssh-target.h"
#include "ssh-wait.h"
#include "term.h"
#include "text.h"

static int load(Ctl *c, const char *name, SshTarget *t, Error **reterr) {
        uint64_t port = 0;
        int r;

        *t = (SshTarget){ .name = name, .path = client_vm_path(name) };
        if (!t->path)
                return -ENOMEM;
        r = client_get_all(c->client, t->path, VMCTL_VM, &t->vm, reterr);
        if (r < 0)
                return r;
        if (json_get_unsigned(t->vm, "SSHPort", &port) >= 0 && port <= UINT16_MAX)
                t->port = (uint16_t)port;
        return 0;
}

int ssh_target_load(Ctl *c, const char *name, SshTarget *ret, Error **reterr) {
        _cleanup_error_ Error *e = NULL;
        int r;

        r = load(c, name, ret, &e);
        if (r >= 0 && ret->port > 0)
                return 0;
        ssh_target_done(ret);
        if (r < 0 && error_is(e, ERROR_NO_SUCH_VM))
                return 0;
        *reterr = TAKE_PTR(e);
        return r;
}

int ssh_target_find(Ctl *c, const char *name, SshTarget *ret) {
        _cleanup_error_ Error *error = NULL;
        int r;

        r = ctl_connect(c);
        if (r != 0)
                return r;
        r = load(c, name, ret, &error);
        if (r >= 0 && ret->port > 0)
                return 0;
        ssh_target_done(ret);
        if (r < 0)
                return ctl_report(c, error, r, "Failed to reach VM '%s'", name);
        return ctl_complain("Its network is 'none'; 'vmctl console' needs no network.",
                        "VM '%s' cannot be reached by ssh", name);
}

void ssh_target_done(SshTarget *t) {
        free(t->path);
        json_free(t->vm);
        *t = (SshTarget){};
}

bool ssh_target_is_fresh(const SshTarget *t) {
        uint64_t started = 0, now = now_realtime();

        (void)json_get_unsigned(t->vm, "StartedAt", &started);
        return now - MIN(started, now) < SSH_WAIT_BOOT_USEC;
}

int ssh_target_timeout(const SshTarget *t, const char *text, uint64_t *ret_usec) {
        *ret_usec = ssh_target_is_fresh(t) ? SSH_WAIT_BOOT_USEC : SSH_WAIT_USEC;
        if (!text || parse_timespan(text, ret_usec) >= 0)
                return 0;
        ctl_complain(TIME_HINT, "'%s' is no time", text);
        return EXIT_USAGE;
}

const char *ssh_target_key(const SshTarget *t) {
        const char *own = json_get_string(t->vm, "SSHPrivateKey");

        return !isempty(own) && access(own, R_OK) >= 0 ? own : NULL;
}

int ssh_target_host_key(const SshTarget *t, char **ret_alias, const char **ret_known_hosts) {
        const char *known_hosts = json_get_string(t->vm, "SSHKnownHosts"),
                   *uuid = json_get_string(t->vm, "UUID");
        bool own = !isempty(known_hosts) && access(known_hosts, W_OK) >= 0;
        char *alias = strf("vmctl-%s", own || isempty(uuid) ? t->name : uuid);

        if (!alias)
                return -ENOMEM;
        *ret_alias = alias;
        *ret_known_hosts = own ? known_hosts : NULL;
        return 0;
}

char *ssh_user_folder(void) {
        const char *home = getenv("HOME");
        const struct passwd *user = NULL;
        struct stat st;

        if (isempty(home) || stat(home, &st) < 0 || st.st_uid != getuid())
                user = getpwuid(getuid());
        home = user ? user->pw_dir : home;
        return strf("%s/.ssh", home ?: "");
}

static bool is_plain(const char *s) {
        for (; *s; s++)
                if (!isalnum((unsigned char)*s) && !strchr("_-./@:+", *s))
                        return false;
        return true;
}

/* Blanks separate words, and '%' begins an expansion where the value is a path. A line ends at its end. */
static char *quote_value(const char *value, bool is_path) {
        _cleanup_free_ char *escaped = malloc(strlen(value) * 2 + 1);
        size_t o = 0;

        if (!escaped)
                return NULL;
        for (const char *p = value; *p; p++) {
                if (*p == '"' || *p == '\\' || (*p == '%' && is_path))
                        escaped[o++] = *p == '%' ? '%' : '\\';
                escaped[o++] = *p;
        }
        escaped[o] = '\0';
        return is_plain(escaped) ? TAKE_PTR(escaped) : strf("\"%s\"", escaped);
}

char *ssh_config_word(const char *s) {
        return quote_value(s, false);
}

static int add(char ***options, const char *keyword, const char *value, bool is_path) {
        _cleanup_free_ char *quoted = NULL;

        for (const char *p = value; *p; p++)
                if (iscntrl((unsigned char)*p))
                        return -EINVAL;
        quoted = quote_value(value, is_path);
        return quoted ? strv_extendf(options, "%s=%s", keyword, quoted) : -ENOMEM;
}

/* The order of search: the VM's own key, the one that was named, the usual ones. ssh offers them in the
 * order of its options, so a key that was named is offered also where there is one of the VM. */
static int add_keys(const SshTarget *t, const char *named, char ***options) {
        static const char *const usual[] = { SSH_USUAL_KEYS };
        const char *own = ssh_target_key(t);
        _cleanup_free_ char *folder = NULL;
        int r = 0;

        if (own)
                r = add(options, "IdentityFile", own, true);
        if (r >= 0 && named)
                r = add(options, "IdentityFile", named, true);
        if (own || named)
                /* else sshd may count an agent's keys as failures before it sees this one */
                return r < 0 ? r : strv_extend(options, "IdentitiesOnly=yes");
        folder = ssh_user_folder();
        if (!folder)
                return -ENOMEM;
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(usual); i++) {
                _cleanup_free_ char *path = strf("%s/%s", folder, usual[i]);

                if (!path)
                        return -ENOMEM;
                if (access(path, R_OK) >= 0)
                        r = add(options, "IdentityFile", path, true);
        }
        return r;
}

/* The host key is pinned at the first contact. */
static int add_host_key(const SshTarget *t, char ***options) {
        _cleanup_free_ char *alias = NULL;
        const char *known_hosts;
        int r;

        r = ssh_target_host_key(t, &alias, &known_hosts);
        if (r >= 0)
                r = add(options, "HostKeyAlias", alias, false);
        if (r >= 0 && known_hosts)
                r = add(options, "UserKnownHostsFile", known_hosts, true);
        return r < 0 ? r : strv_extend(options, "StrictHostKeyChecking=accept-new");
}

int ssh_target_options(const SshTarget *t, const char *user, const char *key, char ***ret) {
        _cleanup_strv_ char **options = NULL;
        int r;

        user = user ?: json_get_string(t->vm, "SSHUser");
        r = strv_extendf(&options, "Port=%u", t->port);
        if (r >= 0)
                r = add(&options, "User", isempty(user) ? "vm" : user, false);
        if (r >= 0)
                r = add_keys(t, key, &options);
        if (r >= 0)
                r = add_host_key(t, &options);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(options);
        return 0;
}
