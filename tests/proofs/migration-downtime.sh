#!/usr/bin/env bash
# Moves a machine warm and cold between two real agents while its disk is written to at a steady pace, and watches it from outside:
# what the product says of the downtime is what it was, the prediction made beforehand is scored, and a warm move interrupts for less
# time than a cold one.
#
# usage: tests/proofs/migration-downtime.sh [--seed N] [--trials N] [--start-trial I] [--short] [--sabotage NAME|list]
#   --seed N          decides what is written; chance without it, and printed
#   --trials N        how many pairs of a warm and a cold move; 12 without it
#   --start-trial I   number of the first
#   --short           one pair, on a small disk
#   --sabotage NAME   plants a fault that must be found; 'list' names them
# The last line is 'migration-downtime: PASS ...' or 'migration-downtime: FAIL ...'.
# The suite runs it alone.
set -euo pipefail

# shellcheck source=tests/proofs/parts/program.bash
. "$(dirname "${BASH_SOURCE[0]}")/parts/program.bash"
if ! is_listing "$@"; then bash deploy/lab/install-dependencies.sh >&2; fi
build_program VirtBackup.Proofs.Migration
exec "$program" migration-downtime "$@"
