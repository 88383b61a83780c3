# SPDX-License-Identifier: GPL-2.0-or-later
#
# What people type; meson does the work. "make help" tells the targets.

BUILD ?= build
export MESON_OPTIONS ?=

.DEFAULT_GOAL := all
.PHONY: all setup setup-roots compile check check-machine soak demo bench install uninstall clean help \
	$(BUILD)/bookworm $(BUILD)/trixie

help:
	@echo 'make             install the packages that are needed (as root), and build'
	@echo 'make install     build and install on this machine (as root); DESTDIR as usual'
	@echo 'make uninstall   remove what was installed; VMs, images and settings stay'
	@echo 'make check       build and run all tests (as root)'
	@echo 'make check-machine'
	@echo '                 build and test in a Debian 13 that runs as a VM (as root)'
	@echo 'make soak        build and run the tests that take half an hour and more (as root)'
	@echo 'make demo        build and show a VM from a cloud image, from create to ssh (as root);'
	@echo '                 KEEP=1 ends in a shell where vmctl works'
	@echo 'make bench       build and measure (as root)'
	@echo 'make clean       remove the builds'
	@echo
	@echo 'All from check to bench build and run in Debian root file systems, made once and kept in'
	@echo '/var/cache/vmctl-roots. BUILD=DIR builds in DIR rather than build; MESON_OPTIONS is for meson setup:'
	@echo '    make check BUILD=build-san MESON_OPTIONS="-Db_sanitize=address,undefined"'

setup:
	@tests/setup build host

# The same for those that build and run elsewhere than on this machine itself
setup-roots:
	@tests/setup machine

$(BUILD)/build.ninja:
	meson setup --prefix=/usr --sysconfdir=/etc --localstatedir=/var $(MESON_OPTIONS) $(BUILD)

compile: $(BUILD)/build.ninja
	meson compile -C $(BUILD)

all: setup
	@+$(MAKE) --no-print-directory compile

check: setup-roots
	tests/check --build $(BUILD)

check-machine: $(BUILD)/trixie
	tests/machine --all --build $(BUILD)/trixie

$(BUILD)/bookworm $(BUILD)/trixie: setup-roots
	tests/check --build $(BUILD) --only-build $(@F)

soak: $(BUILD)/bookworm
	tests/root --bind $(BUILD) -- tests/soak --build $(BUILD)/bookworm

demo: $(BUILD)/bookworm
	tests/demo --build $(BUILD)/bookworm

bench: $(BUILD)/bookworm
	tests/bench/run --build $(BUILD)/bookworm

# With DESTDIR, what follows is the packager's to do.
install: all
	meson install --no-rebuild -C $(BUILD)
ifeq ($(DESTDIR),)
	systemd-sysusers vmctl.conf
	systemd-tmpfiles --create vmctl.conf
	journalctl --update-catalog
	[ ! -d /run/systemd/system ] || systemctl daemon-reload
	[ ! -d /run/systemd/system ] || systemctl reload dbus.service
	@echo 'Installed. The bus starts the service; "systemctl enable vmctld.service" also starts it at boot.'
	@echo 'Where it runs already, "systemctl restart vmctl-launch vmctld" has the new one run; VMs do not mind.'
endif

# ninja leaves a folder that was there before the last of several installs.
uninstall:
	[ ! -d /run/systemd/system ] || systemctl disable --now vmctld.service
	[ ! -d /run/systemd/system ] || systemctl stop vmctl-launch.socket vmctl-launch.service vmctl-kvm.service
	ninja -C $(BUILD) uninstall
	[ ! -d /usr/lib/vmctl ] || rmdir --ignore-fail-on-non-empty /usr/lib/vmctl
	[ ! -d /run/systemd/system ] || systemctl daemon-reload
	@echo 'Uninstalled. Left in place: /var/lib/vmctl, /etc/vmctl, the group vmctl, the user vmctld, and running VMs.'

clean:
	rm -rf $(BUILD)
