/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>

#include "image.h"

int image_new(ImageStore *store, ImageRecord *record, Charge *charge, uint64_t last_used, Image **ret) {
        Image *image = malloc(sizeof(Image));

        if (!image) {
                image_record_done(record);
                charge_release(charge);
                return -ENOMEM;
        }
        *image = (Image){
                .store = store,
                .record = *record,
                .charge = charge_take(charge),
                .last_used = last_used,
        };
        *record = (ImageRecord){};
        *ret = image;
        return 0;
}

Image *image_free(Image *image) {
        if (!image)
                return NULL;
        record_free(image->stored);
        record_name_free(image->name);
        charge_release(&image->charge);
        image_record_done(&image->record);
        free(image);
        return NULL;
}

bool image_may_be_used_by(const Image *image, uid_t uid) {
        return image->record.shared || image->record.owner == uid;
}
