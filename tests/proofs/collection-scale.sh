#!/usr/bin/env bash
# Deletes recovery points of generated repositories and proves that the cost follows what became free, not what is stored.
#
# usage: tests/proofs/collection-scale.sh [--seed N] [--trials N] [--start-trial I] [--short] [--chunks N] [--work DIR] [--sabotage NAME|list]
#   --seed N          decides names and places of all chunks; chance without it, and printed
#   --trials N        how many trials (default 1: 1,000,000 chunks against 10,000,000)
#   --start-trial I   number of the first: trial I of a seed is the same in every run
#   --short           200,000 chunks against 1,000,000, with a fifth of the recovery points
#   --chunks N        measures one size and compares it with nothing but the limit of memory
#   --work DIR        where the repositories go (default $TMPDIR, else /tmp); the room needed is checked
#   --sabotage NAME   plants a fault that must be found; 'list' names them
# The last line is 'collection-scale: PASS ...' or 'collection-scale: FAIL ...'.
# The suite runs it alone.
set -euo pipefail

# shellcheck source=tests/proofs/parts/program.bash
. "$(dirname "${BASH_SOURCE[0]}")/parts/program.bash"
build_program VirtBackup.Proofs.CollectionScale
exec "$program" "$@"
