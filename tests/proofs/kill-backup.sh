#!/usr/bin/env bash
# Kills agent, controller or both in the middle of backups of a real guest and proves that no committed recovery point is
# lost or wrong, that verification is clean, and that the next backup misses nothing.
#
# usage: tests/proofs/kill-backup.sh [--seed N] [--trials N] [--start-trial I] [--short] [--sabotage NAME|list]
#   --seed N          decides who is killed, when, and what the guest writes; chance without it, and printed
#   --trials N        how many trials; without it what fits into 35 minutes at most
#   --start-trial I   number of the first: trial I of a seed is the same in every run, up to the clocks of real programs
#   --short           at most a minute
#   --sabotage NAME   plants a fault that must be found; 'list' names them
# The last line is 'kill-backup: PASS ...' or 'kill-backup: FAIL ...'.
set -euo pipefail

# shellcheck source=tests/proofs/parts/program.bash
. "$(dirname "${BASH_SOURCE[0]}")/parts/program.bash"
if ! is_listing "$@"; then
  bash deploy/lab/install-dependencies.sh >&2
  bash deploy/lab/build-guest.sh >&2
fi
build_program VirtBackup.Proofs.KillBackup
exec "$program" "$@"
