#!/usr/bin/env bash
# Measures how long the writes of a guest take, at the host and in the guest, under a paced load of 50 fsynced writes of 4 KiB a
# second: without a backup, and with one by an agent at idle priority whose controller is healthy, behind a link of 1 MB/s, or
# dead; and by virtnbdbackup, of the same guest under libvirt. Proves that the medians are at most twice the idle one, that they
# suffer no more than by virtnbdbackup, and that no load stands still.
#
# usage: tests/proofs/guest-impact.sh [--seed N] [--trials N] [--start-trial I] [--short] [--sabotage NAME|list]
#   --seed N          decides what the disks hold; chance without it, and printed
#   --trials N        how many runs the medians are of; 5 without it
#   --start-trial I   number of the first
#   --short           one small run without virtnbdbackup, of which only far too slow writes (five times idle) and a
#                     standstill are refuted
#   --sabotage NAME   plants a fault that must be found; 'list' names them
# The last line is 'guest-impact: PASS ...' or 'guest-impact: FAIL ...'.
# The suite runs it alone.
set -euo pipefail

# shellcheck source=tests/proofs/parts/program.bash
. "$(dirname "${BASH_SOURCE[0]}")/parts/program.bash"
if ! is_listing "$@"; then
  bash deploy/lab/install-dependencies.sh >&2
  bash deploy/lab/build-guest.sh >&2
fi
build_program VirtBackup.Proofs.GuestImpact
exec "$program" "$@"
