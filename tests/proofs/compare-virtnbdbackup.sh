#!/usr/bin/env bash
# Backs up the same libvirt guest with VirtBackup as it ships and with 'virtnbdbackup -z', in turn: in full, by what changed, and
# restores both; all restored disks are compared with what the guest's disk held. Proves, by medians, that a full backup takes at
# most as long, an incremental one and a restore at most 0.7 times as long, that 0.7 times as much is stored, and that the guest
# is frozen no longer: from its agent's answer to the freeze to its answer to the thaw; over QMP, at most 60 ms. What does not depend
# on the disk's size (small disks, nothing changed) is measured apart and printed as 'fixed-'. VirtBackup's services are started anew
# for each turn, with an empty repository, and have made one backup of 2 MiB before they are measured.
#
# usage: tests/proofs/compare-virtnbdbackup.sh [--seed N] [--trials N] [--start-trial I] [--short] [--image FILE] [--work DIR] [--sabotage NAME|list]
#   --seed N          decides what is on the disk and what changes; chance without it, and printed
#   --trials N        how many rounds the medians are of (default 3: 4.3 GiB of this system's files, logs and media, 0.6 GiB change)
#   --start-trial I   number of the first: in even ones VirtBackup comes first, in odd ones virtnbdbackup
#   --short           one small round, of which only far too much of anything is refuted
#   --image FILE      a raw image of a disk in place of the one made here, only read; at least 4 GiB of data, unless it is --short
#   --work DIR        where images, backups and restored disks go (default $TMPDIR, else /tmp): 36 GiB; QEMU's user must be able to enter it
#   --sabotage NAME   plants a fault that must be found; 'list' names them
# The last line is 'compare-virtnbdbackup: PASS ...' or 'compare-virtnbdbackup: FAIL ...'.
# The suite runs it alone.
set -euo pipefail

# shellcheck source=tests/proofs/parts/program.bash
. "$(dirname "${BASH_SOURCE[0]}")/parts/program.bash"
if ! is_listing "$@"; then
  bash deploy/lab/install-dependencies.sh >&2
  bash deploy/lab/build-guest.sh >&2
fi
build_program VirtBackup.Proofs.Comparison
if [[ " $* " != *' --short '* ]] && ! is_listing "$@"; then
  # As they are installed; a build of the tests is compiled while it runs.
  bash deploy/publish.sh .lab/published >&2
  export VIRTBACKUP_TEST_PROGRAMS=$PWD/.lab/published
fi
exec "$program" "${arguments[@]+"${arguments[@]}"}"
