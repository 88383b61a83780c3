/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <stdio.h>

#include "qemu-command.h"

/* Slots on pcie.0; 0x1f and 0x0 are the chipset's. */
enum {
        SLOT_VIDEO = 0x1,
        SLOT_DISK,
        SLOT_SEED,
        SLOT_NET,
        SLOT_SERIAL,
        SLOT_RNG,
        SLOT_BALLOON,
        SLOT_DISKS, /* seven of them, the others behind the root ports */
        SLOT_ROOT_PORTS = 0x10,
        SLOT_MORE_DISKS = 0x14,
};
#define ROOT_PORTS 4

typedef struct Builder {
        const QemuMachine *m;
        const VmRecord *rec;
        bool microvm;
        char **argv;
        int r; /* the first failure */
} Builder;

static void add(Builder *b, const char *a) {
        if (b->r >= 0)
                b->r = strv_extend(&b->argv, a);
}

_printf_(3, 4) static void addf(Builder *b, const char *option, const char *format, ...) {
        char *s = NULL;
        va_list ap;
        int n;

        add(b, option);
        va_start(ap, format);
        n = vasprintf(&s, format, ap);
        va_end(ap);
        if (n < 0)
                s = NULL;
        if (b->r >= 0)
                b->r = strv_push(&b->argv, s);
        else
                free(s);
}

/* A device on its fixed slot, or on the virtio-mmio transport of a microvm, which has no PCI. */
static void add_virtio(Builder *b, const char *device, const char *id, int slot, const char *properties) {
        if (b->microvm)
                addf(b, "-device", "virtio-%s-device,id=%s%s", device, id, properties);
        else
                addf(b, "-device", "virtio-%s-pci,id=%s,bus=pcie.0,addr=0x%x%s", device, id, slot,
                                properties);
}

static void add_identity(Builder *b) {
        addf(b, "-name", "guest=%s", b->rec->name);
        addf(b, "-uuid", "%s", b->rec->uuid);
        add(b, "-no-user-config");
        add(b, "-nodefaults");
        addf(b, "-display", "none");
        addf(b, "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
        if (b->m->paused)
                add(b, "-S");
}

static void add_machine(Builder *b) {
        const VmSpec *s = &b->rec->spec;

        if (b->microvm)
                addf(b, "-machine", "microvm,acpi=on,rtc=on,isa-serial=on,pic=on,pit=on,usb=off");
        else
                addf(b, "-machine", "%s,usb=off,vmport=off,smm=off%s", b->rec->machine,
                                b->m->fds.vars_rw >= 0 ? ",pflash0=code,pflash1=vars" : "");
        if (b->m->kvm)
                addf(b, "-accel", "kvm");
        else
                addf(b, "-accel", "tcg,tb-size=%" PRIu64, VM_TCG_CACHE / MIB);
        addf(b, "-cpu", "%s", s->cpu ?: b->m->kvm ? "host" : "max");
        addf(b, "-smp", "%" PRIu32, s->vcpus);
        addf(b, "-m", "%" PRIu64 "k", s->memory / KIB);
        addf(b, "-rtc", "base=utc");
}

static void add_fd_to_set(Builder *b, int fd, int set) {
        if (fd >= 0)
                addf(b, "-add-fd", "fd=%i,set=%i", fd, set);
}

/* One -blockdev whose JSON a JsonWriter made, so that nothing has to be quoted. `backing`: NULL: not a
 * format that has one; "": none, said explicitly, so that QEMU never follows what stands in the file. */
static void add_blockdev(Builder *b, const char *driver, const char *node, const char *filename,
                const char *file, const char *backing, bool read_only) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        _cleanup_free_ char *text = NULL;

        if (b->r >= 0)
                b->r = json_writer_new(0, &w);
        if (b->r < 0)
                return;
        json_write_object(w);
        json_put_string(w, "driver", driver);
        json_put_string(w, "node-name", node);
        if (filename)
                json_put_string(w, "filename", filename);
        if (file)
                json_put_string(w, "file", file);
        if (backing)
                json_put_string(w, "backing", *backing ? backing : NULL);
        json_put_boolean(w, "read-only", read_only);
        if (!read_only)
                json_put_string(w, "discard", "unmap");
        json_write_end(w);
        b->r = json_writer_finish(w, &text, NULL);
        if (b->r >= 0)
                addf(b, "-blockdev", "%s", text);
}

static void add_fdset_file(Builder *b, const char *node, int set, bool read_only) {
        _cleanup_free_ char *path = strf("/dev/fdset/%i", set);

        if (!path)
                b->r = -ENOMEM;
        else
                add_blockdev(b, "file", node, path, NULL, NULL, read_only);
}

static void add_disk(Builder *b) {
        const QemuFds *fds = &b->m->fds;
        bool base = fds->base >= 0, raw = streq_ptr(b->rec->spec.image_format, "raw");

        if (fds->overlay_rw < 0)
                return;
        if (base) {
                add_fd_to_set(b, fds->base, SET_BASE);
                add_fdset_file(b, "base-file", SET_BASE, true);
                add_blockdev(b, raw ? "raw" : "qcow2", "base", NULL, "base-file", raw ? NULL : "", true);
        }
        add_fd_to_set(b, fds->overlay_rw, SET_OVERLAY);
        add_fd_to_set(b, fds->overlay_ro, SET_OVERLAY);
        add_fdset_file(b, "disk-file", SET_OVERLAY, false);
        add_blockdev(b, "qcow2", "disk", NULL, "disk-file", base ? "base" : "", false);
        add_virtio(b, "blk", "disk0", SLOT_DISK, ",drive=disk,bootindex=1");
}

/* The guest finds them as /dev/disk/by-id/virtio-NAME. */
static void add_more_disks(Builder *b) {
        const char *list = b->rec->spec.disks;
        VmDisk d;

        for (int i = 0; i < VM_DISKS_MAX && vm_disk_next(&list, &d) > 0; i++) {
                int behind = i - (SLOT_ROOT_PORTS - SLOT_DISKS);
                _cleanup_free_ char *node = strf("more%i", i), *file = strf("more%i-file", i),
                                    *properties = strf(",drive=more%i,serial=%s", i, d.name);

                if (!node || !file || !properties) {
                        b->r = -ENOMEM;
                        return;
                }
                add_fd_to_set(b, b->m->fds.disks_rw[i], SET_DISKS + i);
                add_fd_to_set(b, b->m->fds.disks_ro[i], SET_DISKS + i);
                add_fdset_file(b, file, SET_DISKS + i, false);
                add_blockdev(b, "raw", node, NULL, file, NULL, false);
                add_virtio(b, "blk", node, behind < 0 ? SLOT_DISKS + i : SLOT_MORE_DISKS + behind,
                                properties);
        }
}

static void add_seed(Builder *b) {
        if (b->m->fds.seed < 0)
                return;
        add_fd_to_set(b, b->m->fds.seed, SET_SEED);
        add_fdset_file(b, "seed-file", SET_SEED, true);
        add_blockdev(b, "raw", "seed", NULL, "seed-file", NULL, true);
        add_virtio(b, "blk", "seed0", SLOT_SEED, ",drive=seed");
}

static void add_firmware(Builder *b) {
        if (b->m->fds.vars_rw < 0)
                return;
        add_blockdev(b, "file", "code-file", b->m->uefi_code, NULL, NULL, true);
        add_blockdev(b, "raw", "code", NULL, "code-file", NULL, true);
        add_fd_to_set(b, b->m->fds.vars_rw, SET_VARS);
        add_fd_to_set(b, b->m->fds.vars_ro, SET_VARS);
        add_fdset_file(b, "vars-file", SET_VARS, false);
        add_blockdev(b, "raw", "vars", NULL, "vars-file", NULL, false);
}

static void add_kernel(Builder *b) {
        if (b->m->fds.kernel < 0)
                return;
        addf(b, "-kernel", "/proc/self/fd/%i", b->m->fds.kernel);
        if (b->m->fds.initrd >= 0)
                addf(b, "-initrd", "/proc/self/fd/%i", b->m->fds.initrd);
        if (!isempty(b->rec->spec.append))
                addf(b, "-append", "%s", b->rec->spec.append);
}

static void add_user_netdev(Builder *b) {
        _cleanup_free_ char *netdev = NULL;
        const char *forwards = b->rec->spec.forward;
        VmForward f;

        netdev = b->rec->ssh_port > 0
                        ? strf("user,id=net,hostfwd=tcp:127.0.0.1:%" PRIu16 "-:22", b->rec->ssh_port)
                        : strdup("user,id=net");
        while (netdev && vm_forward_next(&forwards, &f) > 0) {
                char *longer = strf(
                                "%s,hostfwd=tcp:127.0.0.1:%" PRIu16 "-:%" PRIu16, netdev, f.host, f.guest);

                free(netdev);
                netdev = longer;
        }
        if (netdev)
                addf(b, "-netdev", "%s", netdev);
        else
                b->r = -ENOMEM;
}

static void add_network(Builder *b) {
        _cleanup_free_ char *properties = NULL;

        if (b->rec->spec.network != VM_NETWORK_USER)
                return;
        if (b->m->fds.network >= 0)
                addf(b, "-netdev", "stream,id=net,server=off,addr.type=fd,addr.str=%i", b->m->fds.network);
        else
                add_user_netdev(b);
        /* No option ROM: nothing boots over this network. */
        properties = strf(",netdev=net,mac=%s%s", b->rec->mac, b->microvm ? "" : ",romfile=");
        if (!properties)
                b->r = -ENOMEM;
        else
                add_virtio(b, "net", "net0", SLOT_NET, properties);
}

static void add_channels(Builder *b) {
        const QemuFds *fds = &b->m->fds;

        addf(b, "-chardev", "socket,id=monitor,fd=%i", fds->monitor);
        addf(b, "-mon", "chardev=monitor,mode=control");
        addf(b, "-chardev", "socket,id=people,fd=%i,server=on,wait=off", fds->monitor_listen);
        addf(b, "-mon", "chardev=people,mode=control");
        addf(b, "-chardev", "socket,id=serial,fd=%i", fds->serial);
        addf(b, "-serial", "chardev:serial");
        addf(b, "-chardev", "socket,id=agent,fd=%i,server=on,wait=off", fds->agent_listen);
        add_virtio(b, "serial", "channels0", SLOT_SERIAL, "");
        addf(b, "-device", "virtserialport,bus=channels0.0,chardev=agent,name=org.qemu.guest_agent.0");
}

static void add_devices(Builder *b) {
        addf(b, "-object", "rng-random,id=rng,filename=/dev/urandom");
        add_virtio(b, "rng", "rng0", SLOT_RNG, ",rng=rng");
        if (b->rec->spec.balloon)
                add_virtio(b, "balloon", "balloon0", SLOT_BALLOON, "");
        if (b->microvm)
                return;
        addf(b, "-device", "pvpanic");               /* tells us of a guest's panic */
        addf(b, "-global", "ICH9-LPC.noreboot=off"); /* lets the chipset's watchdog act */
        if (b->rec->spec.display == VM_DISPLAY_VNC) {
                addf(b, "-device", "VGA,id=video0,bus=pcie.0,addr=0x%x", SLOT_VIDEO);
                addf(b, "-vnc", "none"); /* its socket comes over QMP, as a descriptor */
        }
        for (int i = 0; i < ROOT_PORTS; i++)
                addf(b, "-device", "pcie-root-port,id=port%i,bus=pcie.0,chassis=%i,addr=0x%x", i, i + 1,
                                SLOT_ROOT_PORTS + i);
}

int qemu_command(const QemuMachine *m, char ***ret) {
        Builder b = { .m = m, .rec = m->record, .microvm = streq(m->record->machine, "microvm") };

        add(&b, m->binary);
        add_identity(&b);
        add_firmware(&b);
        add_machine(&b);
        add_kernel(&b);
        add_channels(&b);
        add_disk(&b);
        add_more_disks(&b);
        add_seed(&b);
        add_network(&b);
        add_devices(&b);
        if (b.r < 0) {
                strv_free(b.argv);
                return b.r;
        }
        *ret = b.argv;
        return 0;
}
