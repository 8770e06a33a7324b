#!/usr/bin/env bash
# Restores every disk of a real guest byte for byte: {plain QEMU, libvirt} × {full, incremental, bitmap lost, disk added, disk grown, overlay added,
# overlay committed, VM rebooted, VM killed, VM off} × {qcow2, raw, block device}. The reference is a copy by qemu-img while
# the guest is paused for the cut; the guest writes on while the disks are read. Each cell states how a disk must be read
# (changed blocks only, or in full and why), and that is asserted. The disks hold ext4, XFS, NTFS, swap and LVM.
#
# usage: tests/proofs/restore-matrix.sh [--seed N] [--trials N] [--start-trial I] [--short] [--image FILE]... [--sabotage NAME|list]
#   --seed N          decides the order of the scenarios and what the guest writes; chance without it, and printed
#   --trials N        how many rows (platform and scenario); without it all twenty, each with all kinds of disks
#   --start-trial I   number of the first: trial I of a seed is the same in every run, up to the clocks of real programs
#   --short           one row, some seconds
#   --image FILE      adds a disk with this content (any format that qemu-img reads; the file is only read)
#   --sabotage NAME   plants a fault that must be found; 'list' names them
# Needs root, for the loop devices. The last line is 'restore-matrix: PASS ...' or 'restore-matrix: FAIL ...'.
set -euo pipefail

# shellcheck source=tests/proofs/parts/program.bash
. "$(dirname "${BASH_SOURCE[0]}")/parts/program.bash"
if ! is_listing "$@"; then
  bash deploy/lab/install-dependencies.sh >&2
  bash deploy/lab/build-guest.sh >&2
fi
build_program VirtBackup.Proofs.RestoreMatrix
exec "$program" "${arguments[@]+"${arguments[@]}"}"
