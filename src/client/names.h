/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What the service, its objects and its interfaces are called. */

#define VMCTL_SERVICE "org.vmctl1"
#define VMCTL_MANAGER_PATH "/org/vmctl1"
#define VMCTL_MANAGER VMCTL_SERVICE ".Manager"
#define VMCTL_VM VMCTL_SERVICE ".VM"
#define VMCTL_JOB VMCTL_SERVICE ".Job"
#define VMCTL_IMAGE VMCTL_SERVICE ".Image"
#define VMCTL_VM_PREFIX VMCTL_MANAGER_PATH "/vm"
#define VMCTL_IMAGE_PREFIX VMCTL_MANAGER_PATH "/image"
#define VMCTL_JOB_PREFIX VMCTL_MANAGER_PATH "/job"

#define DBUS_PROPERTIES "org.freedesktop.DBus.Properties"

/* The object of a VM or an image. The caller frees; NULL when memory is short. */
char *client_vm_path(const char *name);
char *client_image_path(const char *name);
/* The name behind an object of a VM or an image; NULL if it is none. The caller frees. */
char *client_vm_name(const char *path);
char *client_image_name(const char *path);
