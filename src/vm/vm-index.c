/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/fd-util.h"
#include "vm-index.h"

static const char *name_of(const void *vm) {
        return vm_name(vm);
}

static size_t position(const Manager *m, const char *name) {
        return sorted_position(m->vms, m->n_vms, name_of, name);
}

Vm *manager_find_vm(const Manager *m, const char *name) {
        size_t i = position(m, name);

        return i < m->n_vms && streq(vm_name(m->vms[i]), name) ? m->vms[i] : NULL;
}

int manager_get_vm(const Manager *m, const char *name, Vm **ret, Error **reterr) {
        Vm *vm = manager_find_vm(m, name);
        int r;

        if (!vm) {
                r = vm_name_check(name, reterr);
                return r < 0 ? r : error_set(reterr, ERROR_NO_SUCH_VM, "There is no VM '%s'", name);
        }
        *ret = vm;
        return 0;
}

int manager_get_vm_by_pid(const Manager *m, pid_t pid, Vm **ret, Error **reterr) {
        for (size_t i = 0; i < m->n_vms; i++) {
                const Process *p = m->vms[i]->process;

                if (p && (process_qemu_pid(p) == pid || process_shim_pid(p) == pid)) {
                        *ret = m->vms[i];
                        return 0;
                }
        }
        return error_set(reterr, ERROR_NO_SUCH_VM, "Process %i belongs to no VM", (int)pid);
}

/* --- Ports */

static Vm **port_slot(Manager *m, uint16_t port) {
        return port >= m->core->config.port_first && port <= m->core->config.port_last
                        ? &m->ports[port - m->core->config.port_first]
                        : NULL;
}

static int check_name(const Manager *m, const char *name, uid_t owner, Error **reterr) {
        const char *file = m->core->config.system && owner != 0 ? machine_names_find(m->machine_names, name)
                                                                : NULL;

        return file ? error_set(reterr, ERROR_VM_EXISTS, "'%s' is the name of a VM of the machine, by '%s'",
                                      name, file)
                    : 0;
}

/* Another instance of the service, or another program, may have it. */
static bool port_is_free(uint16_t port) {
        const struct sockaddr_in sa = {
                .sin_family = AF_INET,
                .sin_port = htons(port),
                .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        };
        _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const int on = 1;

        /* As QEMU does it: only who listens counts, and no connection that is about to be forgotten. */
        return fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) >= 0 &&
                        bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) >= 0;
}

/* The same name gets the same port wherever it can: FNV-1a of the name, then the next one that is free. */
static int find_port(const Vm *vm, uint16_t *ret, Error **reterr) {
        const Manager *m = vm->manager;
        uint32_t n = (uint32_t)(m->core->config.port_last - m->core->config.port_first) + 1,
                 hash = 2166136261U, n_others = 0;

        for (const char *c = vm_name(vm); *c; c++)
                hash = (hash ^ (uint8_t)*c) * 16777619U;
        for (uint32_t i = 0; i < n; i++) {
                uint32_t slot = (hash % n + i) % n;
                uint16_t port = (uint16_t)(m->core->config.port_first + slot);

                if (!m->ports[slot] && port_is_free(port)) {
                        *ret = port;
                        return 0;
                }
                n_others += m->ports[slot] && m->ports[slot] != vm;
        }
        return error_set(reterr, ERROR_PORTS_EXHAUSTED,
                        "No SSH port from %" PRIu16 " to %" PRIu16 " (SSHPortRange=) is left for VM '%s': "
                        "other VMs have %" PRIu32 ", and at %" PRIu32 " other programs listen",
                        m->core->config.port_first, m->core->config.port_last, vm_name(vm), n_others,
                        n - n_others);
}

int manager_pick_port(Vm *vm, uint16_t *ret, Error **reterr) {
        Manager *m = vm->manager;
        uint16_t port;
        int r;

        r = find_port(vm, &port, reterr);
        if (r >= 0 && !vm->port.accounts)
                r = charge(m->core->accounts, vm->record.owner, RESOURCE_PORTS, 1, &vm->port, reterr);
        if (r < 0)
                return r;
        *port_slot(m, port) = vm;
        *ret = port;
        return 0;
}

static void release_port(Vm *vm, uint16_t port) {
        Vm **slot = port_slot(vm->manager, port);

        if (slot && *slot == vm)
                *slot = NULL;
}

void manager_settle_port(Vm *vm, uint16_t port) {
        release_port(vm, vm->record.ssh_port);
        vm->record.ssh_port = port;
}

void manager_drop_port(Vm *vm, uint16_t port) {
        release_port(vm, port);
        if (vm->record.ssh_port == 0)
                charge_release(&vm->port);
}

int manager_give_port(Vm *vm, Error **reterr) {
        uint16_t port;
        int r;

        r = manager_pick_port(vm, &port, reterr);
        if (r >= 0)
                manager_settle_port(vm, port);
        return r;
}

/* --- VMs */

int manager_add_vm(Manager *m, Vm *vm) {
        size_t i = position(m, vm_name(vm));
        Vm **grown = reallocarray(m->vms, m->n_vms + 1, sizeof(Vm *)),
           **slot = port_slot(m, vm->record.ssh_port);

        if (!grown) {
                vm_free(vm);
                return -ENOMEM;
        }
        m->vms = grown;
        memmove(m->vms + i + 1, m->vms + i, (m->n_vms++ - i) * sizeof(Vm *));
        m->vms[i] = vm;
        record_name_set_object(vm->place.name, vm);
        uid_pool_hold(m->core->uids, vm->record.uid, true);
        if (slot)
                *slot = vm;
        return 0;
}

void manager_forget_vm(Manager *m, Vm *vm) {
        _cleanup_error_ Error *e = NULL;
        size_t i = position(m, vm_name(vm));

        (void)error_set(&e, ERROR_NO_SUCH_VM, "VM '%s' is gone", vm_name(vm));
        operations_cancel(&m->core->operations, vm->record.uuid, ~0U, e);
        assert(!operation_find(&m->core->operations, vm->record.uuid,
                        ~(1U << OPERATION_MAKE | 1U << OPERATION_REMOVE)));
        memmove(m->vms + i, m->vms + i + 1, (--m->n_vms - i) * sizeof(Vm *));
        uid_pool_hold(m->core->uids, vm->record.uid, false);
        for (size_t p = 0; p <= (size_t)(m->core->config.port_last - m->core->config.port_first); p++)
                if (m->ports[p] == vm)
                        m->ports[p] = NULL;
        vm_free(vm);
}

void manager_remove_vm(Manager *m, Vm *vm) {
        _cleanup_free_ char *name = strdup(vm_name(vm));
        uid_t owner = vm->record.owner;

        manager_forget_vm(m, vm);
        if (name)
                m->hooks->vm_removed(m, name, owner);
}

bool manager_port_is_taken(const Vm *vm) {
        return vm->record.ssh_port > 0 && !port_is_free(vm->record.ssh_port);
}

static bool mac_is_taken(const Manager *m, const char *mac) {
        for (size_t i = 0; i < m->n_vms; i++)
                if (streq(m->vms[i]->record.mac, mac))
                        return true;
        return false;
}

int manager_pick_mac(const Manager *m, char **ret) {
        for (;;) {
                _cleanup_free_ char *mac = NULL;
                uint8_t b[3];

                if (getrandom(b, sizeof(b), 0) != sizeof(b))
                        return -errno;
                mac = strf("52:54:00:%02x:%02x:%02x", b[0], b[1],
                                b[2]); /* QEMU's locally administered prefix */
                if (!mac)
                        return -ENOMEM;
                if (!mac_is_taken(m, mac)) {
                        *ret = TAKE_PTR(mac);
                        return 0;
                }
        }
}

int vm_reserve(Manager *manager, const char *name, uid_t owner, VmPlace *ret, Error **reterr) {
        VmPlace place = {};
        int r;

        r = record_name_reserve(manager->records, name, NULL, &place.name, reterr);
        if (r >= 0)
                r = check_name(manager, name, owner, reterr);
        if (r >= 0)
                r = charge(manager->core->accounts, owner, RESOURCE_VMS, 1, &place.charge, reterr);
        if (r < 0) {
                vm_place_done(&place);
                return r;
        }
        *ret = place;
        return 0;
}
