/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Errors that a person gets to see: one code and one message. The table in error.c gives each code its D-Bus
 * name, its errno and the hint that vmctl prints on a second line. */

#include "macro.h"

typedef enum ErrorCode {
        ERROR_NO_SUCH_VM,
        ERROR_NO_SUCH_IMAGE,
        ERROR_NO_SUCH_JOB,
        ERROR_VM_EXISTS,
        ERROR_IMAGE_EXISTS,
        ERROR_INVALID_NAME,
        ERROR_INVALID_STATE,
        ERROR_INVALID_SPEC,
        ERROR_UNKNOWN_OPTION,
        ERROR_INVALID_KEY,
        ERROR_INVALID_IMAGE,
        ERROR_FORMAT_REFUSED,
        ERROR_COMPRESSED,
        ERROR_IMAGE_MISSING,
        ERROR_IMAGE_UNREADABLE,
        ERROR_IMAGE_CHANGED,
        ERROR_IMAGE_IN_USE,
        ERROR_IMAGE_TOO_LARGE,
        ERROR_INVALID_URL,
        ERROR_DOWNLOAD_FAILED,
        ERROR_DOWNLOAD_REFUSED,
        ERROR_DIGEST_MISMATCH,
        ERROR_INVALID_ARCHIVE,
        ERROR_IMAGE_TOO_SMALL,
        ERROR_KERNEL_MISSING,
        ERROR_TOOL_MISSING,
        ERROR_SSH_FAILED,
        ERROR_HOST_KEY_CHANGED,
        ERROR_LOGIN_REFUSED,
        ERROR_GUEST_NOT_READY,
        ERROR_PROVISION_FAILED,
        ERROR_NO_SPACE,
        ERROR_PORTS_EXHAUSTED,
        ERROR_IDS_EXHAUSTED,
        ERROR_QEMU_MISSING,
        ERROR_QEMU_FAILED,
        ERROR_QMP_FAILED,
        ERROR_QMP_TIMEOUT,
        ERROR_QEMU_HANGS,
        ERROR_NOT_ATTACHED,
        ERROR_CONSOLE_UNAVAILABLE,
        ERROR_FIRMWARE_MISSING,
        ERROR_ACCELERATOR_UNAVAILABLE,
        ERROR_SCOPE_FAILED,
        ERROR_LAUNCHER_LOST,
        ERROR_TIMEOUT,
        ERROR_CANCELED,
        ERROR_SERVICE_ENDING,
        ERROR_BUSY,
        ERROR_NOT_SUPPORTED,
        ERROR_QUOTA_EXCEEDED,
        ERROR_ACCESS_DENIED,
        ERROR_NO_MEMORY,
        ERROR_IO,
        ERROR_FAILED,
        _ERROR_CODE_MAX,
        _ERROR_CODE_INVALID = -EINVAL,
} ErrorCode;

/* The D-Bus error name, as "org.vmctl1.Error.NoSuchVM"; the errno, positive; the hint, or NULL. */
const char *error_code_name(ErrorCode code);
int error_code_errno(ErrorCode code);
const char *error_code_hint(ErrorCode code);
ErrorCode error_code_from_name(const char *name);

typedef struct Error Error;

Error *error_free(Error *e);
DEFINE_CLEANUP(Error *, error_free);
#define _cleanup_error_ _cleanup_(error_freep)

ErrorCode error_code(const Error *e); /* NULL counts as ERROR_FAILED */

/* Never NULL, valid UTF-8, one line where possible. The symbol has another name since libcom_err, which
 * comes with libext2fs, has an error_message(), too, and would call ours. */
const char *error_message(const Error *e) __asm__("vmctl_error_message");

static inline bool error_is(const Error *e, ErrorCode code) {
        return e && error_code(e) == code;
}

/* The D-Bus name and the hint (or NULL): the code's, or those that it was given. Lent by the error. */
const char *error_name(const Error *e);
const char *error_hint(const Error *e);

/* Sets *reterr (NULL: nobody wants it), which is an error of ERROR_NO_MEMORY where there is no memory for
 * that one, and returns the code's errno, negative:
 *     return error_set(reterr, ERROR_NO_SUCH_VM, "There is no VM '%s'", name);
 * An error that is set already is replaced. */
int error_set(Error **reterr, ErrorCode code, const char *format, ...) _printf_(3, 4);

/* The same for a failed system call: `r` is the negative errno, the message gets ": strerror" appended, and
 * the code follows from it (-ENOSPC and -EDQUOT: ERROR_NO_SPACE, -ENOMEM: ERROR_NO_MEMORY, else ERROR_IO).
 */
int error_set_errno(Error **reterr, int r, const char *format, ...) _printf_(3, 4);

/* The same for what another program told by a name of its own; the code is what comes closest. `hint` (or
 * NULL) is lent and has to stay. */
int error_set_named(Error **reterr, ErrorCode code, const char *name, const char *hint, const char *message);

/* A copy, for those who report one failure to several askers. NULL when e is NULL. */
Error *error_copy(const Error *e);
