/* SPDX-License-Identifier: GPL-2.0-or-later */

/* What the kernel shows of the guest's hardware in sysfs, and the drivers for it. */

#include "guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/input.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#define AGENT_PORT "org.qemu.guest_agent.0"

typedef int (*name_fn)(const char *path, const char *name, void *data);

void close_fd(int *fd) {
        if (*fd >= 0)
                close(*fd);
}

void close_file(FILE **file) {
        if (*file)
                fclose(*file);
}

static void free_names(struct dirent ***names) {
        free(*names);
}

int read_word(const char *path, char *ret, size_t size) {
        CLEANUP(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;

        ssize_t n = read(fd, ret, size - 1);
        if (n < 0)
                return -errno;

        ret[n] = '\0';
        ret[strcspn(ret, "\r\n")] = '\0';
        return 0;
}

int write_file(const char *path, const char *text) {
        CLEANUP(close_fd) int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;

        return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static int not_hidden(const struct dirent *entry) {
        return entry->d_name[0] != '.';
}

/* Calls f for each name in a folder, in alphabetical order, until one call doesn't return 0. */
static int for_each_name(const char *folder, name_fn f, void *data) {
        CLEANUP(free_names) struct dirent **names = NULL;
        int n = scandir(folder, &names, not_hidden, alphasort), r = 0;

        for (int i = 0; i < n; i++) {
                char path[512];

                snprintf(path, sizeof(path), "%s/%s", folder, names[i]->d_name);
                if (r == 0)
                        r = f(path, names[i]->d_name, data);
                free(names[i]);
        }

        return n < 0 ? -errno : r;
}

static int load_module(const char *path, const char *name, void *data) {
        CLEANUP(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);

        (void)data;
        if (fd < 0)
                return -errno;

        if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST)
                printf("init: cannot load %s: %m\n", name);
        return 0;
}

void load_modules(const char *folder) {
        for_each_name(folder, load_module, NULL);
}

static int open_power_button(const char *path, const char *name, void *data) {
        unsigned char keys[KEY_MAX / 8 + 1] = {};

        (void)data;
        if (strncmp(name, "event", 5) != 0 || guest.n_power_buttons == POWER_BUTTONS_MAX)
                return 0;

        int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
                return -errno;

        if (ioctl(fd, EVIOCGBIT(EV_KEY, sizeof(keys)), keys) < 0 ||
                        !(keys[KEY_POWER / 8] & 1 << KEY_POWER % 8))
                close(fd);
        else
                guest.power_buttons[guest.n_power_buttons++] = fd;

        return 0;
}

void open_power_buttons(void) {
        for_each_name("/dev/input", open_power_button, NULL);
}

static int print_disk(const char *path, const char *name, void *data) {
        char file[600], sectors[32], read_only[8];
        const char **separator = data;

        snprintf(file, sizeof(file), "%s/device", path);
        if (access(file, F_OK) < 0)
                return 0;

        snprintf(file, sizeof(file), "%s/size", path);
        if (read_word(file, sectors, sizeof(sectors)) < 0)
                return 0;

        snprintf(file, sizeof(file), "%s/ro", path);
        if (read_word(file, read_only, sizeof(read_only)) < 0)
                return 0;

        printf("%s%s:%llu:%s", *separator, name, strtoull(sectors, NULL, 10) * 512,
                        *read_only == '1' ? "ro" : "rw");
        *separator = ",";
        return 0;
}

static int print_mac(const char *path, const char *name, void *data) {
        char file[600], mac[32];
        const char **separator = data;

        snprintf(file, sizeof(file), "%s/address", path);
        if (strcmp(name, "lo") == 0 || read_word(file, mac, sizeof(mac)) < 0)
                return 0;

        printf("%s%s", *separator, mac);
        *separator = ",";
        return 0;
}

void print_facts(void) {
        const char *separator = "";
        struct timespec now;
        struct sysinfo info;

        clock_gettime(CLOCK_BOOTTIME, &now);
        sysinfo(&info);
        printf("uptime=%lld.%02ld vcpus=%ld memory=%" PRIu64 " disks=", (long long)now.tv_sec,
                        now.tv_nsec / 10000000, sysconf(_SC_NPROCESSORS_ONLN),
                        (uint64_t)info.totalram * info.mem_unit / MIB);
        for_each_name("/sys/block", print_disk, &separator);

        printf(" macs=");
        separator = "";
        for_each_name("/sys/class/net", print_mac, &separator);
        printf("\n");
}

typedef struct DevicePath {
        char *path;
        size_t size;
} DevicePath;

/* The label of an iso9660 volume stands at a fixed place. */
static int match_seed_disk(const char *path, const char *name, void *data) {
        CLEANUP(close_fd) int fd = -EBADF;
        DevicePath *ret = data;
        char device[300], label[6];

        (void)path;
        snprintf(device, sizeof(device), "/dev/%s", name);
        fd = open(device, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || pread(fd, label, sizeof(label), 16 * 2048 + 40) != sizeof(label) ||
                        strncasecmp(label, "cidata", sizeof(label)) != 0)
                return 0;

        snprintf(ret->path, ret->size, "%s", device);
        return 1;
}

static int match_agent_port(const char *path, const char *name, void *data) {
        DevicePath *ret = data;
        char file[600], word[64];

        snprintf(file, sizeof(file), "%s/name", path);
        if (read_word(file, word, sizeof(word)) < 0 || strcmp(word, AGENT_PORT) != 0)
                return 0;

        snprintf(ret->path, ret->size, "/dev/%s", name);
        return 1;
}

int find_seed_disk(char *ret, size_t size) {
        return for_each_name("/sys/block", match_seed_disk, &(DevicePath){ ret, size }) > 0 ? 0 : -ENODEV;
}

int find_agent_port(char *ret, size_t size) {
        return for_each_name("/sys/class/virtio-ports", match_agent_port, &(DevicePath){ ret, size }) > 0
                        ? 0
                        : -ENODEV;
}

/* Debian's cloud kernel has no watchdog driver, so this speaks to QEMU's i6300esb itself: two timers that
 * run one after the other, after which the machine's watchdog action comes. A tick is 2^15 PCI clocks, near
 * enough a millisecond; the two unlocking words must precede every write to a timer. */
static int start_i6300esb(const char *path, const char *name, void *data) {
        uint32_t ticks = *(uint32_t *)data / 2;
        CLEANUP(close_fd) int config = -EBADF, bar = -EBADF;
        char file[600], id[16];

        (void)name;
        snprintf(file, sizeof(file), "%s/device", path);
        if (read_word(file, id, sizeof(id)) < 0 || strcmp(id, "0x25ab") != 0)
                return 0;

        snprintf(file, sizeof(file), "%s/enable", path);
        int r = write_file(file, "1");
        if (r < 0)
                return r;

        snprintf(file, sizeof(file), "%s/config", path);
        config = open(file, O_RDWR | O_CLOEXEC);
        snprintf(file, sizeof(file), "%s/resource0", path);
        bar = open(file, O_RDWR | O_CLOEXEC);
        if (config < 0 || bar < 0)
                return -errno;

        volatile uint32_t *registers = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, bar, 0);
        if (registers == MAP_FAILED)
                return -errno;

        volatile uint16_t *unlock = (volatile uint16_t *)(registers + 3);
        for (int timer = 0; timer < 2; timer++) {
                *unlock = 0x80;
                *unlock = 0x86;
                registers[timer] = ticks;
        }

        /* No interrupt at the end of the first timer, which QEMU doesn't have; then enable. */
        if (pwrite(config, &(uint16_t){ 0x0003 }, 2, 0x60) < 0 ||
                        pwrite(config, &(uint8_t){ 0x02 }, 1, 0x68) < 0)
                return -errno;

        return 1;
}

int start_watchdog(uint64_t seconds) {
        uint32_t ms = (uint32_t)seconds * 1000;

        int r = for_each_name("/sys/bus/pci/devices", start_i6300esb, &ms);
        return r == 0 ? -ENODEV : r < 0 ? r : 0;
}
