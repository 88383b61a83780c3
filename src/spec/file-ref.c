/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "file-ref.h"
#include "util/string-util.h"

void file_ref_done(FileRef *f) {
        free(f->path);
        *f = (FileRef){};
}

void file_ref_write(const FileRef *f, JsonWriter *w) {
        json_write_object(w);
        json_put_string(w, "path", f->path);
        json_put_unsigned(w, "ino", f->inode);
        json_put_unsigned(w, "btime", f->btime);
        json_put_unsigned(w, "ctime", f->ctime);
        json_put_unsigned(w, "mtime", f->mtime);
        json_put_unsigned(w, "size", f->size);
        json_write_end(w);
}

int file_ref_read(const Json *object, FileRef *ret) {
        const char *path = json_get_string(object, "path");
        FileRef f = {};

        if (!path || path[0] != '/' || json_get_unsigned(object, "ino", &f.inode) < 0 ||
                        json_get_unsigned(object, "btime", &f.btime) < 0 ||
                        json_get_unsigned(object, "ctime", &f.ctime) < 0 ||
                        json_get_unsigned(object, "mtime", &f.mtime) < 0 ||
                        json_get_unsigned(object, "size", &f.size) < 0)
                return -EBADMSG;
        f.path = strdup(path);
        if (!f.path)
                return -ENOMEM;
        *ret = f;
        return 0;
}
