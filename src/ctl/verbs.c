/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "verbs.h"

#define DEFINE "Define VMs"
#define RUN "Run VMs"
#define PROJECT "VMs of a project"
#define LOOK "Look at VMs"
#define TALK "Talk to guests"
#define IMAGES "Manage images"
#define OTHER "Other"

#define ANY_NUMBER SIZE_MAX

#define STATES "preparing prepared starting running suspended stopping stopped failed broken"

const Option global_options[] = {
        { "system", 0, NULL, "Speak to the system service" },
        { "user", 0, NULL, "Speak to your own service, vmctld --user" },
        { "host", 'H', "HOST", "Speak to another host's system service, over ssh", "@host" },
        { "json", 0, NULL, "Print JSON" },
        { "no-ask-password", 0, NULL, "Never ask for a password" },
        { "help", 'h', NULL, "Tell about vmctl, or about a verb" },
        { "version", 0, NULL, "Print the version" },
        {},
};

/* What can be changed later, too. */
static const Option definition_options[] = {
        { "vcpus", 0, "NUMBER", "Virtual CPUs, 1 to 255 (default: 1)", NULL, "vcpus", VALUE_U32 },
        { "memory", 0, "SIZE", "Guest RAM in MB, or as 2G (default: 1024)", NULL, "memory", VALUE_MIB },
        { "disk", 0, "SIZE", "Disk in GB, or as 500M (default: the image's)", NULL, "disk", VALUE_GIB },
        { "network", 0, "MODE", "user (default) or none", "user none", "network", VALUE_STRING },
        { "hostname", 0, "NAME", "Host name (default: the VM's name)", NULL, "hostname", VALUE_STRING },
        { "ssh-user", 0, "USER", "Account that ssh uses (default: vm)", NULL, "user", VALUE_STRING },
        { "append", 0, "TEXT", "Kernel command line, with --kernel", NULL, "append", VALUE_STRING },
        { "forward", 0, "HOST:GUEST,...", "TCP ports of this host that lead to the guest's", NULL, "forward",
                        VALUE_STRING },
        { "accel", 0, "ACCEL", "auto (default), kvm or tcg", "auto kvm tcg", "accel", VALUE_STRING },
        { "cpu", 0, "MODEL", "CPU model (default: host, or max without KVM)", "host max", "cpu",
                        VALUE_STRING },
        { "display", 0, "KIND", "vnc on a UNIX socket (default with q35), or none", "vnc none", "display",
                        VALUE_STRING },
        { "balloon", 0, NULL, "Have a balloon device", NULL, "balloon", VALUE_TRUE },
        { "no-balloon", 0, NULL, "Have none (default)", NULL, "balloon", VALUE_FALSE },
        { "console-log-max", 0, "SIZE", "Console output to keep, in MB (default: 16)", NULL,
                        "console-log-max", VALUE_MIB },
        {},
};

static const Option limit_options[] = {
        { "cpu-quota", 0, "PERCENT", "CPU time; 100% is one CPU", "default", "cpu-quota", VALUE_PERCENT,
                        true },
        { "cpu-weight", 0, "WEIGHT", "Share of contended CPUs, 1 to 10000", "default", "cpu-weight",
                        VALUE_U64, true },
        { "io-weight", 0, "WEIGHT", "Share of contended disks, 1 to 10000", "default", "io-weight",
                        VALUE_U64, true },
        { "memory-max", 0, "SIZE", "Memory, in MB, beyond which QEMU is killed", "default", "memory-max",
                        VALUE_MIB, true },
        { "memory-high", 0, "SIZE", "Memory, in MB, beyond which QEMU is slowed down", "default",
                        "memory-high", VALUE_MIB, true },
        { "tasks-max", 0, "NUMBER", "Threads of QEMU", "default", "tasks-max", VALUE_U64, true },
        {},
};

static const Option create_options[] = {
        { "name", 0, "NAME", "Name of the VM, in place of the first word" },
        { "image", 0, "IMAGE", "A file, which stays as it is; or a stored image", "@disk", "image",
                        VALUE_IMAGE },
        { "image-format", 0, "FORMAT", "raw or qcow2 (default: told from FILE)", "raw qcow2", "image-format",
                        VALUE_STRING },
        { "image-url", 0, "URL", "Image to download, unless it is stored already" },
        { "kernel", 0, "FILE", "Kernel to boot directly", "@file", "kernel", VALUE_FILE },
        { "initrd", 0, "FILE", "Initial RAM disk for the kernel", "@file", "initrd", VALUE_FILE },
        { "disks", 0, "NAME:SIZE,...", "More disks, empty", NULL, "disks", VALUE_STRING },
        { "machine", 0, "TYPE", "q35 (default), microvm, or a version of these", "q35 microvm", "machine",
                        VALUE_STRING },
        { "firmware", 0, "KIND", "bios (default) or uefi", "bios uefi", "firmware", VALUE_STRING },
        { "bridge", 0, "NAME", "Bridge for TAP networking (not supported yet)" },
        { "ssh-key", 0, "FILE", "Public key to let in (default: a new pair)", "@file", "ssh-key",
                        VALUE_TEXT },
        { "cloud-init", 0, "FILE", "Raw user-data for cloud-init", "@file", "user-data", VALUE_FILE },
        { "no-cloud-init", 0, NULL, "Make neither a seed nor a key pair", NULL, "cloud-init", VALUE_FALSE },
        { "start", 0, NULL, "Start it at once", NULL, "start", VALUE_TRUE },
        { "wait", 0, NULL, "Start it and wait until it can be reached by ssh", NULL, "start", VALUE_TRUE },
        { "timeout", 0, "TIME", "How long to wait (default: 120)" },
        {},
};

#define FILE_OPTION \
        { "file", 0, "PATH", "The VMFile (default: VMFile.kdl of this folder)", "@file" }

static const Option file_options[] = {
        FILE_OPTION,
        {},
};

/* Of up, down, reload and provision. */
static const Option project_options[] = {
        FILE_OPTION,
        { "name", 0, "NAME", "Only this VM; repeatable, as are the words" },
        {},
};

#define PROVISION_OPTIONS                                                                           \
        { "no-provision", 0, NULL, "Run no steps" },                                                \
                        { "wait", 0, NULL, "Wait until it is ready, also with no steps to run" },   \
                        { "timeout", 0, "TIME", "Time for a guest to get ready (default: 120)" }, { \
                "plan", 0, NULL, "Show what would be done, and change nothing"                      \
        }

static const Option up_options[] = {
        { "provision", 0, "WHEN", "auto (default), changed, always or never", "auto changed always never" },
        PROVISION_OPTIONS,
        {},
};

static const Option reload_options[] = {
        PROVISION_OPTIONS,
        {},
};

static const Option down_options[] = {
        { "destroy", 0, NULL, "Remove them with all that belongs to them" },
        { "timeout", 0, "TIME", "What a guest gets to shut down (default: 30)" },
        { "plan", 0, NULL, "Show what would be done, and change nothing" },
        {},
};

static const Option provision_options[] = {
        { "changed", 0, NULL, "Only steps that have changed or have never run" },
        { "timeout", 0, "TIME", "Time for a guest to get ready (default: 120)" },
        { "plan", 0, NULL, "Show what would be done, and change nothing" },
        {},
};

static const Option fmt_options[] = {
        FILE_OPTION,
        { "check", 0, NULL, "Change nothing, and fail if something would" },
        {},
};

static const Option start_options[] = {
        { "wait", 0, NULL, "Wait until it can be reached by ssh" },
        { "timeout", 0, "TIME", "How long to wait (default: 120)" },
        {},
};

static const Option stop_options[] = {
        { "timeout", 0, "TIME", "What the guest gets to shut down (default: 30)" },
        { "no-block", 0, NULL, "Return once the power button is pressed" },
        {},
};

static const Option enable_options[] = {
        { "now", 0, NULL, "Start it, too, and wait until it is ready" },
        {},
};

static const Option disable_options[] = {
        { "now", 0, NULL, "Shut it down, too" },
        {},
};

static const Option list_options[] = {
        { "state", 0, "STATE", "Only VMs in this state; several with commas", STATES },
        { "quiet", 'q', NULL, "Print names only" },
        {},
};

static const Option status_options[] = {
        { "lines", 'n', "NUMBER", "Lines of the console to show (default: 5)" },
        {},
};

static const Option console_options[] = {
        { "timeout", 0, "TIME", "With no terminal: how long to go on after input" },
        {},
};

static const Option ssh_options[] = {
        { "name", 0, "NAME", "Name of the VM, in place of the first word", "@vm" },
        { "user", 0, "USER", "Account to log in to (default: the VM's)" },
        { "key", 0, "FILE", "Private key to offer, behind the VM's own", "@file" },
        { "option", 'o', "OPTION", "Option for ssh, as in ssh_config(5); repeatable" },
        { "timeout", 0, "TIME", "How long to wait (default: 120 after start, or 30)" },
        {},
};

static const Option cp_options[] = {
        { "recursive", 'r', NULL, "Copy folders, with all that is in them" },
        { "preserve", 'p', NULL, "Keep times, too" },
        { "key", 0, "FILE", "Private key to log in with (default: the VM's own)", "@file" },
        { "timeout", 0, "TIME", "How long to wait (default: 120 after start, or 30)" },
        { "quiet", 'q', NULL, "Show no progress" },
        {},
};

static const Option ssh_config_options[] = {
        { "install", 0, NULL, "Have ~/.ssh/config include it, always up to date" },
        { "uninstall", 0, NULL, "Take that back" },
        { "update", 0, NULL, "Renew what is included, as ssh itself asks for" },
        {},
};

static const Option log_options[] = {
        { "console", 0, NULL, "Only what the guest printed on its console" },
        { "provision", 0, NULL, "Only what provisioning printed" },
        { "tail", 'n', "NUMBER", "Only the last lines (0: all)" },
        { "follow", 'f', NULL, "Go on with what is printed from now on" },
        { "raw", 0, NULL, "Leave control sequences in, on a terminal, too" },
        {},
};

const Verb verbs[] = {
        {
                        .name = "create",
                        .group = DEFINE,
                        .arguments = "NAME",
                        .max_words = 1,
                        .help = "Create a VM from a disk image or a kernel",
                        .details = "The image becomes the base of the VM's own disk and is never written. "
                                   "Unless told otherwise the guest gets a cloud-init seed and a new key "
                                   "pair, so that 'vmctl ssh NAME' needs nothing more.",
                        .options = { create_options, definition_options, limit_options, pull_options },
                        .run = verb_create,
        },
        {
                        .name = "update",
                        .group = DEFINE,
                        .arguments = "NAME",
                        .min_words = 1,
                        .max_words = 1,
                        .words = "@vm",
                        .help = "Change the definition of a VM that does not run",
                        .details = "Disks only grow. A new host name is known to vmctl alone: the guest "
                                   "keeps that of its seed.",
                        .options = { definition_options, limit_options },
                        .run = verb_update,
        },
        {
                        .name = "set",
                        .group = DEFINE,
                        .arguments = "NAME LIMIT=VALUE...",
                        .min_words = 1,
                        .max_words = ANY_NUMBER,
                        .words = "@limit",
                        .help = "Change limits, also while the VM runs",
                        .details = "As in 'vmctl set web cpu-quota=50% memory-max=2G'. A limit may also be "
                                   "written as an option; the value 'default' takes one back.",
                        .options = { limit_options },
                        .run = verb_set,
        },
        {
                        .name = "destroy",
                        .alias = "rm",
                        .group = DEFINE,
                        .arguments = "NAME...",
                        .min_words = 1,
                        .max_words = ANY_NUMBER,
                        .words = "@anyvm",
                        .help = "Remove VMs with all that belongs to them",
                        .details = "A running VM is killed first. The image stays. There is no way back. "
                                   "One "
                                   "that is broken can be destroyed by who may manage all.",
                        .run = verb_action,
        },
        {
                        .name = "up",
                        .group = PROJECT,
                        .arguments = "[NAME...]",
                        .max_words = ANY_NUMBER,
                        .help = "Bring up the VMs of a VMFile",
                        .details = "Creates what is missing, starts what is stopped, sets the limits of "
                                   "what "
                                   "runs, and says what a restart or a new VM is needed for. A VM that was "
                                   "started is provisioned; one that runs is not, unless that was cut off "
                                   "before. VMs come up side by side, each after those that it depends on.",
                        .options = { project_options, up_options },
                        .run = verb_up,
        },
        {
                        .name = "down",
                        .group = PROJECT,
                        .arguments = "[NAME...]",
                        .max_words = ANY_NUMBER,
                        .help = "Shut down the VMs of a VMFile, or destroy them",
                        .details = "Those that need others go first.",
                        .options = { project_options, down_options },
                        .run = verb_down,
        },
        {
                        .name = "reload",
                        .group = PROJECT,
                        .arguments = "[NAME...]",
                        .max_words = ANY_NUMBER,
                        .help = "Destroy the VMs of a VMFile and make them anew",
                        .details = "Nothing is destroyed before the VMFile was found right and its images "
                                   "are "
                                   "there. What is on the old disks is lost.",
                        .options = { project_options, reload_options },
                        .run = verb_reload,
        },
        {
                        .name = "provision",
                        .group = PROJECT,
                        .arguments = "[NAME...]",
                        .max_words = ANY_NUMBER,
                        .help = "Run the steps of a VMFile in VMs that run",
                        .details = "One after the other, up to the first that fails. 'vmctl log NAME "
                                   "--provision' shows what they printed.",
                        .options = { project_options, provision_options },
                        .run = verb_provision,
        },
        {
                        .name = "init",
                        .group = PROJECT,
                        .arguments = "[NAME]",
                        .max_words = 1,
                        .help = "Write a VMFile.kdl to start from",
                        .details = "It defines one VM, called NAME or as the folder is. A file that is "
                                   "there already stays as it is.",
                        .options = { file_options },
                        .run = verb_init,
        },
        {
                        .name = "validate",
                        .group = PROJECT,
                        .help = "Check a VMFile without touching anything",
                        .details = "Files of this host that it names must be there. Exits with status 1 if "
                                   "something is wrong.",
                        .options = { file_options },
                        .run = verb_validate,
        },
        {
                        .name = "fmt",
                        .group = PROJECT,
                        .help = "Format a VMFile",
                        .details = "Comments stay, and so does the way numbers and strings are written. KDL "
                                   "1 "
                                   "becomes KDL 2.",
                        .options = { fmt_options },
                        .run = verb_fmt,
        },
        {
                        .name = "start",
                        .group = RUN,
                        .arguments = "NAME...",
                        .min_words = 1,
                        .max_words = ANY_NUMBER,
                        .words = "@vm",
                        .help = "Start VMs",
                        .options = { start_options },
                        .run = verb_action,
        },
        {
                        .name = "stop",
                        .group = RUN,
                        .arguments = "NAME...",
                        .min_words = 1,
                        .max_words = ANY_NUMBER,
                        .words = "@vm",
                        .help = "Shut guests down, and wait until they are",
                        .details = "Presses the power button. A guest that still runs after the timeout has "
                                   "its QEMU ended by SIGTERM, and by SIGKILL as a last resort.",
                        .options = { stop_options },
                        .run = verb_action,
        },
        {
                        .name = "kill",
                        .group = RUN,
                        .arguments = "NAME...",
                        .min_words = 1,
                        .max_words = ANY_NUMBER,
                        .words = "@vm",
                        .help = "End VMs at once, as if the power cord was pulled",
                        .run = verb_action,
        },
        {
                        .name = "reset",
                        .group = RUN,
                        .arguments = "NAME...",
                        .min_words = 1,
                        .max_words = ANY_NUMBER,
                        .words = "@vm",
                        .help = "Press the reset button",
                        .run = verb_action,
        },
        {
                        .name = "suspend",
                        .group = RUN,
                        .arguments = "NAME...",
                        .min_words = 1,
                        .max_words = ANY_NUMBER,
                        .words = "@vm",
                        .help = "Halt the virtual CPUs; the memory stays",
                        .run = verb_action,
        },
        {
                        .name = "resume",
                        .group = RUN,
                        .arguments = "NAME...",
                        .min_words = 1,
                        .max_words = ANY_NUMBER,
                        .words = "@vm",
                        .help = "Let suspended VMs go on",
                        .run = verb_action,
        },
        {
                        .name = "enable",
                        .group = RUN,
                        .arguments = "NAME...",
                        .min_words = 1,
                        .max_words = ANY_NUMBER,
                        .words = "@vm",
                        .help = "Have VMs started at boot",
                        .details = "Enables vm@NAME.service; systemd asks who may do that. VMs of files in "
                                   "/etc/vmctl say 'autostart' there instead.",
                        .options = { enable_options },
                        .run = verb_enable,
        },
        {
                        .name = "disable",
                        .group = RUN,
                        .arguments = "NAME...",
                        .min_words = 1,
                        .max_words = ANY_NUMBER,
                        .words = "@vm",
                        .help = "Have VMs not started at boot any more",
                        .details = "A VM whose file says 'autostart' is started all the same.",
                        .options = { disable_options },
                        .run = verb_enable,
        },
        {
                        .name = "list",
                        .alias = "ls",
                        .group = LOOK,
                        .help = "List VMs",
                        .options = { list_options },
                        .run = verb_list,
        },
        {
                        .name = "status",
                        .group = LOOK,
                        .arguments = "[NAME...]",
                        .max_words = ANY_NUMBER,
                        .words = "@vm",
                        .help = "Show all about VMs, or an overview",
                        .options = { status_options },
                        .run = verb_status,
        },
        {
                        .name = "log",
                        .alias = "logs",
                        .group = LOOK,
                        .arguments = "NAME",
                        .min_words = 1,
                        .max_words = 1,
                        .words = "@vm",
                        .help = "Show what the guest and its provisioning printed",
                        .options = { log_options },
                        .flags = VERB_RELAY,
                        .run = verb_log,
        },
        {
                        .name = "monitor",
                        .group = LOOK,
                        .arguments = "[NAME...]",
                        .max_words = ANY_NUMBER,
                        .words = "@vm",
                        .help = "Show what happens to VMs, as it happens",
                        .run = verb_monitor,
        },
        {
                        .name = "capabilities",
                        .group = LOOK,
                        .help = "Show what the host can do",
                        .run = verb_capabilities,
        },
        {
                        .name = "ssh",
                        .group = TALK,
                        .arguments = "[NAME [COMMAND...]]",
                        .max_words = ANY_NUMBER,
                        .words = "@vm",
                        .help = "Log in to the guest, or run a command in it",
                        .details = "Waits until sshd answers, then becomes ssh(1) and hands its exit status "
                                   "on. NAME may be left out where there is but one VM. '--user' behind the "
                                   "verb is the account in the guest: the choice of the bus stands before "
                                   "the verb.",
                        .options = { ssh_options },
                        .flags = VERB_RELAY | VERB_COMMAND,
                        .run = verb_ssh,
        },
        {
                        .name = "cp",
                        .group = TALK,
                        .arguments = "SOURCE... DESTINATION",
                        .min_words = 2,
                        .max_words = ANY_NUMBER,
                        .words = "@guestfile",
                        .help = "Copy files to or from a guest",
                        .details = "NAME:PATH is in the guest, where PATH begins in the user's home unless "
                                   "it begins with a slash. A '-' in place of a file of this host is "
                                   "standard input or output. Where DESTINATION is a folder, files are "
                                   "made in it.",
                        .options = { cp_options },
                        .run = verb_cp,
        },
        {
                        .name = "ssh-config",
                        .group = TALK,
                        .arguments = "[NAME...]",
                        .max_words = ANY_NUMBER,
                        .words = "@vm",
                        .help = "Let ssh, scp, rsync and others know your VMs",
                        .details = "Prints a configuration for OpenSSH in which your VMs are called vm/NAME "
                                   "and NAME.vm. Once installed it renews itself whenever ssh is to reach a "
                                   "VM. scp and rsync take vm/NAME for a file: NAME.vm is for them.",
                        .options = { ssh_config_options },
                        .run = verb_ssh_config,
        },
        {
                        .name = "console",
                        .group = TALK,
                        .arguments = "NAME",
                        .min_words = 1,
                        .max_words = 1,
                        .words = "@vm",
                        .help = "Attach to the serial console; Ctrl-] detaches",
                        .options = { console_options },
                        .flags = VERB_RELAY,
                        .run = verb_console,
        },
        {
                        .name = "qmp",
                        .group = TALK,
                        .arguments = "NAME COMMAND [ARGUMENTS]",
                        .min_words = 2,
                        .max_words = 3,
                        .words = "@vm",
                        .help = "Send a command to QEMU's monitor, for debugging",
                        .details = "COMMAND is a name, with ARGUMENTS as a JSON object, or a whole JSON "
                                   "object.",
                        .run = verb_qmp,
        },
        {
                        .name = "image",
                        .group = IMAGES,
                        .arguments = "VERB...",
                        .verbs = image_verbs,
                        .help = "Pull, import, list, share, export and remove images",
                        .details = "Images are kept by the service, which never changes them. 'vmctl create "
                                   "--image NAME' makes a VM from one.",
        },
        {
                        .name = "help",
                        .group = OTHER,
                        .arguments = "[VERB...]",
                        .max_words = 2,
                        .words = "@verb",
                        .help = "Tell about vmctl, or about a verb",
                        .run = verb_help,
        },
        {},
};
