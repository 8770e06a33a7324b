#!/usr/bin/env bash
# Backs up and restores a big and a small disk and proves that the peak memory of agent and controller is the same.
#
# usage: tests/proofs/constant-memory.sh [--seed N] [--trials N] [--start-trial I] [--short] [--work DIR] [--sabotage NAME|list]
#   --seed N          decides where the disks hold content, and what; chance without it, and printed
#   --trials N        how many trials (default 1: 64 GiB of disk with 16 GiB of content against 8 GiB with 2 GiB)
#   --start-trial I   number of the first: trial I of a seed is the same in every run
#   --short           4 GiB with 1 GiB against 1 GiB with 256 MiB, which does not fill every buffer: 15 % apart are allowed, not 10 %
#   --work DIR        where the disks and repositories go (default $TMPDIR, else /tmp); the room needed is told and checked
#   --sabotage NAME   plants a fault that must be found; 'list' names them
# The last line is 'constant-memory: PASS ...' or 'constant-memory: FAIL ...'.
# The suite runs it alone.
set -euo pipefail

# shellcheck source=tests/proofs/parts/program.bash
. "$(dirname "${BASH_SOURCE[0]}")/parts/program.bash"
is_listing "$@" || bash deploy/lab/install-dependencies.sh >&2
build_program VirtBackup.Proofs.ConstantMemory
exec "$program" "$@"
