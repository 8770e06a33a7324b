#!/usr/bin/env bash
# Flips bytes of a repository and proves that verification names what is lost, exactly, and that no restore writes wrong data.
#
# usage: tests/proofs/flip-bytes.sh [--seed N] [--trials N] [--start-trial I] [--short] [--sabotage NAME|list]
#   --seed N          decides everything; chance without it, and printed
#   --trials N        how many trials; without it what fits into 35 minutes at most
#   --start-trial I   number of the first: trial I of a seed is the same in every run
#   --short           at most a minute
#   --sabotage NAME   plants a defect that must be found; 'list' names them
# The last line is 'flip-bytes: PASS ...' or 'flip-bytes: FAIL ...'.
set -euo pipefail

# shellcheck source=tests/proofs/parts/program.bash
. "$(dirname "${BASH_SOURCE[0]}")/parts/program.bash"
build_program VirtBackup.Proofs tests/VirtBackup.Agent.Tests/Fakes
exec "$program" flip-bytes "$@"
