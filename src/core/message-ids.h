/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What happens to VMs and images, for sd-journal's MESSAGE_ID= (systemd.journal-fields(7)): as stable as the
 * D-Bus interface. units/vmctl.catalog explains each of them to people (journalctl -x). */

#define MESSAGE_OPERATION_DONE "9e2c7da3b337439fb55e82c3c0c23719"
#define MESSAGE_OPERATION_FAILED "4022b58bb0a64d899890977594ce1749"

/* Why a VM failed, one for each VmFailure */
#define MESSAGE_VM_EXIT_CODE "cf5c152c8a9841edadffc39388442e55"
#define MESSAGE_VM_SIGNAL "46a7b364a2404529ad2dde613cb70ee4"
#define MESSAGE_VM_OOM "d4ef2aa1169a462ab0ae84f1dcd6cf83"
#define MESSAGE_VM_GUEST_PANIC "e9332689bf2f4fa0adbded43a7273795"
#define MESSAGE_VM_INTERNAL_ERROR "af88f42df9cc47a68e741b9ac8f8407d"
#define MESSAGE_VM_TIMEOUT "cd1c0cbdf5ce48da8955a6b17501b5c5"
#define MESSAGE_VM_QMP "2137e7ef535e4a82a5cfacd54a3e8ab2"

/* Warnings that ask for something to be done */
#define MESSAGE_VM_FORCED "8b800160b8b940c69598a39ea37c1bb4"
#define MESSAGE_VM_NO_KVM "b630ede1942f4bddad1c20cdcd95a337"
#define MESSAGE_VM_PORT_CHANGED "a6b635900f1c4010a5e39922b68c71f1"
#define MESSAGE_VM_DISK_FULL "345f33504f1643618a4af6c2a00a676f"
#define MESSAGE_VM_IO_ERROR "4d3c75385a444bd2ad65f92a5aa4e9ae"
#define MESSAGE_VM_NOT_ATTACHED "6de5ed4da181463992da4ad15280bd85"
#define MESSAGE_VM_IMAGE_CHANGED "c52d2c97ef18448dbe1ebe3164a73fad"
#define MESSAGE_VM_SHIM_LOST "045a253948ea4ec6ade771cbba8b170b"
#define MESSAGE_VM_NETWORK_LOST "556094324c5a40db8b8aa88ab5873e1f"
#define MESSAGE_RECORD_BROKEN "54fd5f04e2204b5584b698901c54ef94"
