#!/usr/bin/env bash
# Damages a hundredth of the chunks of two repositories that hold the same, not the same ones, and proves that each is healed
# from the other, entirely, and that nothing but the damaged records is moved.
#
# usage: tests/proofs/heal.sh [--seed N] [--trials N] [--start-trial I] [--short] [--work DIR] [--sabotage NAME|list]
#   --seed N          decides everything; chance without it, and printed
#   --trials N        how many trials; without it what fits into 35 minutes at most
#   --start-trial I   number of the first: trial I of a seed is the same in every run
#   --short           at most a few seconds, of small disks
#   --work DIR        where the repositories go (default $TMPDIR, else /tmp)
#   --sabotage NAME   plants a defect that must be found; 'list' names them
# The last line is 'heal: PASS ...' or 'heal: FAIL ...'.
set -euo pipefail

# shellcheck source=tests/proofs/parts/program.bash
. "$(dirname "${BASH_SOURCE[0]}")/parts/program.bash"
build_program VirtBackup.Proofs tests/VirtBackup.Agent.Tests/Fakes
exec "$program" heal "$@"
