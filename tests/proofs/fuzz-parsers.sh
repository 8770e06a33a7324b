#!/usr/bin/env bash
# Fires damaged inputs at every parser of bytes from outside, and proves that each accepts one spelling or refuses with a
# sentence, in bounded time and memory.
#
# usage: tests/proofs/fuzz-parsers.sh [--seed N] [--trials N] [--start-trial I] [--short] [--keep DIR] [--sabotage NAME|list]
#   --seed N          decides the damage; chance without it, and printed
#   --trials N        how many trials of 2,000 inputs for each parser; without it 2,000, or what 35 minutes allow
#   --start-trial I   number of the first
#   --short           about six seconds
#   --keep DIR        where inputs go that were answered in a way not seen before; see tests/VirtBackup.Proofs.Fuzz/README.md
#   --sabotage NAME   plants a fault that must be found; 'list' names them
# The last line is 'fuzz-parsers: PASS ...' or 'fuzz-parsers: FAIL ...'.
set -euo pipefail

# shellcheck source=tests/proofs/parts/program.bash
. "$(dirname "${BASH_SOURCE[0]}")/parts/program.bash"
build_program VirtBackup.Proofs.Fuzz tests/VirtBackup.Format.Tests/ChecksumRepair.cs
exec "$program" --corpus tests/VirtBackup.Proofs.Fuzz/Corpus "$@"
