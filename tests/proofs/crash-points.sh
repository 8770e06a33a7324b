#!/usr/bin/env bash
# Loses power before every operation of the store and beside every transaction during backups and proves that nothing acknowledged is lost.
#
# usage: tests/proofs/crash-points.sh [--seed N] [--trials N] [--start-trial I] [--short] [--sabotage NAME|list]
#   --seed N          decides everything; chance without it, and printed
#   --trials N        how many trials; without it what fits into 35 minutes at most
#   --start-trial I   number of the first: trial I of a seed is the same in every run
#   --short           at most a minute
#   --sabotage NAME   plants a defect that must be found; 'list' names them
# The last line is 'crash-points: PASS ...' or 'crash-points: FAIL ...'.
set -euo pipefail

# shellcheck source=tests/proofs/parts/program.bash
. "$(dirname "${BASH_SOURCE[0]}")/parts/program.bash"
build_program VirtBackup.Proofs tests/VirtBackup.Agent.Tests/Fakes
exec "$program" crash-points "$@"
