/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdarg.h>
#include <stdio.h>

#include "error.h"
#include "string-util.h"

#define NAME(s) "org.vmctl1.Error." s

static const struct {
        const char *name;
        int number;
        const char *hint;
} error_table[] = {
        [ERROR_NO_SUCH_VM] = { NAME("NoSuchVM"), ENXIO, "See which VMs there are with 'vmctl list'." },
        [ERROR_NO_SUCH_IMAGE] = { NAME("NoSuchImage"), ENOENT,
                        "See which images there are with 'vmctl image list'." },
        [ERROR_NO_SUCH_JOB] = { NAME("NoSuchJob"), ENOENT, "The job has probably finished." },
        [ERROR_VM_EXISTS] = { NAME("VMExists"), EEXIST,
                        "Choose another name; if that VM is yours, 'vmctl destroy' removes it." },
        [ERROR_IMAGE_EXISTS] = { NAME("ImageExists"), EEXIST,
                        "Choose another name; if that image is yours, 'vmctl image remove' removes it." },
        [ERROR_INVALID_NAME] = { NAME("InvalidName"), EINVAL,
                        "A name has 1 to 64 letters, digits, '-', '_' or '.', and starts with neither '.' "
                        "nor '-'." },
        [ERROR_INVALID_STATE] = { NAME("InvalidState"), EBUSY, "See the VM's state with 'vmctl status'." },
        [ERROR_INVALID_SPEC] = { NAME("InvalidSpec"), EINVAL,
                        "'vmctl create --help' lists options and bounds." },
        [ERROR_UNKNOWN_OPTION] = { NAME("UnknownOption"), EINVAL,
                        "'vmctl create --help' lists the options; a newer vmctl may know more than this "
                        "service." },
        [ERROR_INVALID_KEY] = { NAME("InvalidKey"), EINVAL,
                        "Give the file that ends in .pub: one line, as 'ssh-ed25519 AAAA... comment'." },
        [ERROR_INVALID_IMAGE] = { NAME("InvalidImage"), EINVAL,
                        "A disk image is a qcow2 or raw file; see it with 'qemu-img info FILE'." },
        [ERROR_FORMAT_REFUSED] = { NAME("FormatRefused"), EPERM,
                        "Make a plain image of it: 'qemu-img convert -O qcow2 FILE NEW'." },
        [ERROR_COMPRESSED] = { NAME("Compressed"), EINVAL,
                        "'vmctl image import FILE' unpacks it into the store." },
        [ERROR_IMAGE_MISSING] = { NAME("ImageMissing"), ENOENT,
                        "Put the file back where it was, or destroy the VM and create it anew." },
        [ERROR_IMAGE_UNREADABLE] = { NAME("ImageUnreadable"), EACCES,
                        "Give the VM's owner the right to read it, on the file and the folders above it." },
        [ERROR_IMAGE_CHANGED] = { NAME("ImageChanged"), ESTALE,
                        "The file is another one than the VM was created from: put the old one back." },
        [ERROR_IMAGE_IN_USE] = { NAME("ImageInUse"), EBUSY,
                        "Destroy the VMs that need the image first; 'vmctl image inspect' names them." },
        [ERROR_IMAGE_TOO_LARGE] = { NAME("ImageTooLarge"), EFBIG,
                        "An administrator can raise ImageSizeMax= in vmctld.conf." },
        [ERROR_INVALID_URL] = { NAME("InvalidURL"), EINVAL,
                        "A URL begins with 'https://', 'http://' or 'file:///'." },
        [ERROR_DOWNLOAD_FAILED] = { NAME("DownloadFailed"), ECONNABORTED,
                        "Ask again: what has come so far is kept for a while." },
        [ERROR_DOWNLOAD_REFUSED] = { NAME("DownloadRefused"), ENOENT,
                        "Check the URL: to ask again gets the same answer." },
        [ERROR_DIGEST_MISMATCH] = { NAME("DigestMismatch"), EBADMSG,
                        "The file is damaged, or it is another one than the digest was made of: compare "
                        "with what its "
                        "publisher says." },
        [ERROR_INVALID_ARCHIVE] = { NAME("InvalidArchive"), EINVAL,
                        "An image is built from a directory, a tar of a root file system, or an OCI "
                        "archive." },
        [ERROR_IMAGE_TOO_SMALL] = { NAME("ImageTooSmall"), ENOSPC,
                        "Give more with '--size', or leave it out for a size that fits." },
        [ERROR_KERNEL_MISSING] = { NAME("KernelMissing"), ENOENT,
                        "Give one with '--kernel FILE', or install a kernel's package in what the image is "
                        "made of." },
        [ERROR_TOOL_MISSING] = { NAME("ToolMissing"), ENOENT, NULL },
        [ERROR_SSH_FAILED] = { NAME("SSHFailed"), ECONNREFUSED,
                        "'vmctl log NAME --console' shows how far the guest is." },
        [ERROR_HOST_KEY_CHANGED] = { NAME("HostKeyChanged"), ESTALE,
                        "If you gave the guest new host keys, empty 'known_hosts' in the VM's folder; else "
                        "do not trust it." },
        [ERROR_LOGIN_REFUSED] = { NAME("LoginRefused"), EKEYREJECTED,
                        "Give another private key with '--key FILE', or see the guest's own log in "
                        "'vmctl console NAME'." },
        [ERROR_GUEST_NOT_READY] = { NAME("GuestNotReady"), ETIMEDOUT,
                        "'vmctl log NAME --console' shows how far the guest is; wait longer with "
                        "'--timeout'." },
        [ERROR_PROVISION_FAILED] = { NAME("ProvisionFailed"), ECHILD,
                        "'vmctl log NAME --provision' shows all output; 'vmctl provision' tries again." },
        [ERROR_NO_SPACE] = { NAME("NoSpace"), ENOSPC,
                        "Free some space, or destroy VMs that are not needed." },
        [ERROR_PORTS_EXHAUSTED] = { NAME("PortsExhausted"), EADDRNOTAVAIL,
                        "'ss -ltnp' shows which programs listen there; else destroy a VM, create with "
                        "'--network none', or change SSHPortRange= in vmctld.conf." },
        [ERROR_IDS_EXHAUSTED] = { NAME("IDsExhausted"), EAGAIN,
                        "Every user ID of the service's range is in use: destroy a VM, or widen UIDRange= "
                        "in vmctld.conf." },
        [ERROR_QEMU_MISSING] = { NAME("QemuMissing"), ENOENT,
                        "Install QEMU (Debian: apt install qemu-system-x86 qemu-utils)." },
        [ERROR_QEMU_FAILED] = { NAME("QemuFailed"), ECHILD,
                        "'vmctl status' and 'journalctl -u vmctld' tell more." },
        [ERROR_QMP_FAILED] = { NAME("QmpFailed"), EPROTO, NULL },
        [ERROR_QMP_TIMEOUT] = { NAME("QmpTimeout"), ETIMEDOUT,
                        "QEMU does not answer; 'vmctl kill' ends it if it stays so." },
        [ERROR_QEMU_HANGS] = { NAME("QemuHangs"), ETIMEDOUT,
                        "What it waits for, most likely a disk or a network file system, has to answer "
                        "again, or the host to be restarted; then ask again." },
        [ERROR_NOT_ATTACHED] = { NAME("NotAttached"), ENOTCONN,
                        "'ss --unix --processes' shows who has the socket; 'vmctl kill' works all the "
                        "same." },
        [ERROR_CONSOLE_UNAVAILABLE] = { NAME("ConsoleUnavailable"), EHOSTDOWN,
                        "The VM's next run has a console again; 'vmctl kill' ends this one." },
        [ERROR_FIRMWARE_MISSING] = { NAME("FirmwareMissing"), ENOENT,
                        "Install UEFI firmware (Debian: apt install ovmf), or create with '--firmware "
                        "bios'." },
        [ERROR_ACCELERATOR_UNAVAILABLE] = { NAME("AcceleratorUnavailable"), EOPNOTSUPP,
                        "Create with '--accel auto' or '--accel tcg', or enable virtualization in the "
                        "firmware setup." },
        [ERROR_SCOPE_FAILED] = { NAME("ScopeFailed"), EIO, "'systemctl status vmctl.slice' tells more." },
        [ERROR_LAUNCHER_LOST] = { NAME("LauncherLost"), EHOSTDOWN,
                        "Ask again; if that does not help, see 'systemctl status vmctl-launch.socket "
                        "vmctl-launch', then 'systemctl restart vmctld'." },
        [ERROR_TIMEOUT] = { NAME("Timeout"), ETIMEDOUT, NULL },
        [ERROR_CANCELED] = { NAME("Canceled"), ECANCELED, NULL },
        [ERROR_SERVICE_ENDING] = { NAME("ServiceEnding"), ESHUTDOWN,
                        "See how far it came, and ask again if need be." },
        [ERROR_BUSY] = { NAME("Busy"), EBUSY, "Wait for the operation that is under way, or cancel it." },
        [ERROR_NOT_SUPPORTED] = { NAME("NotSupported"), EOPNOTSUPP, NULL },
        [ERROR_QUOTA_EXCEEDED] = { NAME("QuotaExceeded"), EDQUOT,
                        "Wait until something is over, or remove what is not needed; an administrator can "
                        "raise limits in vmctld.conf." },
        [ERROR_ACCESS_DENIED] = { "org.freedesktop.DBus.Error.AccessDenied", EACCES,
                        "Members of the group 'vmctl' may make VMs and manage their own; root manages "
                        "all." },
        [ERROR_NO_MEMORY] = { "org.freedesktop.DBus.Error.NoMemory", ENOMEM, NULL },
        [ERROR_IO] = { NAME("IO"), EIO, NULL },
        [ERROR_FAILED] = { NAME("Failed"), EIO, NULL },
};
_Static_assert(ELEMENTSOF(error_table) == _ERROR_CODE_MAX, "an error code has no entry");

struct Error {
        ErrorCode code;
        bool named;       /* it has a name of its own, behind the message */
        const char *hint; /* if named; lent */
        char message[];
};

/* Where there is no memory for an error there is this one: many take NULL for success. */
static Error no_memory = { .code = ERROR_NO_MEMORY, .message = "Out of memory" };

static ErrorCode checked(ErrorCode code) {
        return (int)code >= 0 && code < _ERROR_CODE_MAX ? code : ERROR_FAILED;
}

const char *error_code_name(ErrorCode code) {
        return error_table[checked(code)].name;
}

int error_code_errno(ErrorCode code) {
        return error_table[checked(code)].number;
}

const char *error_code_hint(ErrorCode code) {
        return error_table[checked(code)].hint;
}

ErrorCode error_code_from_name(const char *name) {
        for (int i = 0; i < _ERROR_CODE_MAX; i++)
                if (streq(error_table[i].name, name))
                        return (ErrorCode)i;
        return _ERROR_CODE_INVALID;
}

Error *error_free(Error *e) {
        if (e != &no_memory)
                free(e);
        return NULL;
}

ErrorCode error_code(const Error *e) {
        return e ? e->code : ERROR_FAILED;
}

const char *error_message(const Error *e) {
        return e ? e->message : "Unknown error";
}

const char *error_name(const Error *e) {
        return e && e->named ? e->message + strlen(e->message) + 1 : error_code_name(error_code(e));
}

const char *error_hint(const Error *e) {
        return e && e->named ? e->hint : error_code_hint(error_code(e));
}

static Error *error_new(ErrorCode code, const char *message, const char *suffix) {
        size_t n = strlen(message), m = suffix ? strlen(suffix) + 2 : 0;
        Error *e = malloc(sizeof(Error) + n + m + 1);

        if (!e)
                return &no_memory;
        *e = (Error){ .code = checked(code) };
        memcpy(e->message, message, n + 1);
        if (suffix) {
                memcpy(e->message + n, ": ", 2);
                memcpy(e->message + n + 2, suffix, m - 1);
        }
        return e;
}

static Error *error_new_named(ErrorCode code, const char *name, const char *hint, const char *message) {
        size_t n = strlen(message) + 1, m = strlen(name) + 1;
        Error *e = malloc(sizeof(Error) + n + m);

        if (!e)
                return &no_memory;
        *e = (Error){ .code = checked(code), .named = true, .hint = hint };
        memcpy(e->message, message, n);
        memcpy(e->message + n, name, m);
        return e;
}

int error_set_named(
                Error **reterr, ErrorCode code, const char *name, const char *hint, const char *message) {
        if (reterr) {
                Error *e = error_new_named(code, name, hint, message);

                error_free(*reterr);
                *reterr = e;
        }
        return -error_code_errno(code);
}

_printf_(4, 0) static void set_formatted(
                Error **reterr, ErrorCode code, const char *suffix, const char *format, va_list ap) {
        _cleanup_free_ char *message = NULL;

        if (!reterr)
                return;
        error_free(*reterr);
        *reterr = NULL;
        if (vasprintf(&message, format, ap) < 0)
                message = NULL;
        *reterr = message ? error_new(code, message, suffix) : &no_memory;
}

int error_set(Error **reterr, ErrorCode code, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        set_formatted(reterr, code, NULL, format, ap);
        va_end(ap);
        return -error_code_errno(code);
}

int error_set_errno(Error **reterr, int r, const char *format, ...) {
        ErrorCode code = r == -ENOSPC || r == -EDQUOT ? ERROR_NO_SPACE
                        : r == -ENOMEM                ? ERROR_NO_MEMORY
                                                      : ERROR_IO;
        va_list ap;

        va_start(ap, format);
        set_formatted(reterr, code, strerror(-r), format, ap);
        va_end(ap);
        return r;
}

Error *error_copy(const Error *e) {
        if (!e)
                return NULL;
        return e->named ? error_new_named(e->code, error_name(e), e->hint, e->message)
                        : error_new(e->code, e->message, NULL);
}
