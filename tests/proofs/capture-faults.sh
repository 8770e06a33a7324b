#!/usr/bin/env bash
# Kills the agent, the controller, QEMU, libvirtd or the guest agent, fills the folder for temporary copies, or cuts the
# connection to the frozen disks, at any moment of backups and restores of two real guests, one reached over QMP and one through
# libvirt; also of restores onto, and instead of, a machine of libvirt that is off, which must be what it was or what the point
# holds, or be known to be half restored. It proves that the guest lives, is thawed and has seen no error, that nothing is
# left behind, and that the next backup holds exactly what the machine's disks hold.
#
# usage: tests/proofs/capture-faults.sh [--seed N] [--trials N] [--start-trial I] [--short] [--sabotage NAME|list]
#   --seed N          decides what breaks, and when; chance without it, and printed
#   --trials N        how many faults; without it what fits into 35 minutes, at most 500
#   --start-trial I   number of the first: trial I of a seed is the same in every run, up to the clocks of real programs
#   --short           2 faults
#   --sabotage NAME   plants a fault that must be found; 'list' names them
# Needs root: the folder for temporary copies is a small file system in memory.
# The last line is 'capture-faults: PASS ...' or 'capture-faults: FAIL ...'.
set -euo pipefail

# shellcheck source=tests/proofs/parts/program.bash
. "$(dirname "${BASH_SOURCE[0]}")/parts/program.bash"
if ! is_listing "$@"; then
  bash deploy/lab/install-dependencies.sh >&2
  bash deploy/lab/build-guest.sh >&2
fi
build_program VirtBackup.Proofs.CaptureFaults
exec "$program" "$@"
