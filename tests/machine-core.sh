#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 1500
#
# What "make check" does of "make check-machine"

exec "$(dirname "$0")/machine" --core
