#!/usr/bin/env bash
# Backs up a machine, its second day, a clone, and a machine that was installed separately, with VirtBackup as it ships and
# with restic, and proves that VirtBackup stores at most 5 % more. Prints a table of all ways to cut disks into chunks.
#
# usage: tests/proofs/stored-size.sh [--seed N] [--trials N] [--start-trial I] [--short] [--image FILE]... [--work DIR] [--sabotage NAME|list]
#   --seed N          decides what is on the disks and what changes; chance without it, and printed
#   --trials N        how many trials (default 1: 1.2 GiB of this system's files in ext4 images)
#   --start-trial I   number of the first: trial I of a seed is the same in every run on the same system
#   --short           64 MiB of files, and only the default way of cutting; at most 15 % more, as where few chunks are cut is chance
#   --image FILE      a raw disk image in place of those made here, only read: the first is a machine, of which a second day
#                     and a clone are made; each further one is a machine of its own
#   --work DIR        where images and restic's repository go (default $TMPDIR, else /tmp)
#   --sabotage NAME   plants a fault that must be found; 'list' names them
# The last line is 'stored-size: PASS ...' or 'stored-size: FAIL ...'.
set -euo pipefail

# shellcheck source=tests/proofs/parts/program.bash
. "$(dirname "${BASH_SOURCE[0]}")/parts/program.bash"
is_listing "$@" || bash deploy/lab/install-dependencies.sh --peers >&2
build_program VirtBackup.Proofs.StoredSize
exec "$program" "${arguments[@]+"${arguments[@]}"}"
