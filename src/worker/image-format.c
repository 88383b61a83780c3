/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "image-format.h"

static const char *const image_format_table[] = {
        [IMAGE_FORMAT_RAW] = "raw",
        [IMAGE_FORMAT_QCOW2] = "qcow2",
        [IMAGE_FORMAT_VMDK] = "vmdk",
        [IMAGE_FORMAT_VDI] = "vdi",
        [IMAGE_FORMAT_VHDX] = "vhdx",
        [IMAGE_FORMAT_VPC] = "vpc",
};
DEFINE_STRING_TABLE(image_format, ImageFormat, _IMAGE_FORMAT_MAX);
