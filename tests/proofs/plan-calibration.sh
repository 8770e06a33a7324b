#!/usr/bin/env bash
# Proves that what a restore plan says is so: the P90 of restore times holds in 85 to 95 % of real restores, under loads that
# come and go, one to four at once; and every incompatibility that is put into a recovery point or its target is reported,
# by item and verdict, before a byte is written. The estimator also has to hold in thousands of replayed restores.
#
# usage: tests/proofs/plan-calibration.sh [--seed N] [--trials N] [--start-trial I] [--short] [--sabotage NAME|list]
#   --seed N          decides loads, sizes and what is injected; chance without it, and printed
#   --trials N        how many waves of one to four restores; without it 120, some 240 restores
#   --start-trial I   number of the first: trial I of a seed is the same in every run, up to the clocks of real programs
#   --short           4 waves: the share of fewer than 100 must only not be too unlikely for a P90
#   --sabotage NAME   plants a fault that must be found; 'list' names them
# The last line is 'plan-calibration: PASS ...' or 'plan-calibration: FAIL ...'.
# The suite runs it alone.
set -euo pipefail

# shellcheck source=tests/proofs/parts/program.bash
. "$(dirname "${BASH_SOURCE[0]}")/parts/program.bash"
is_listing "$@" || bash deploy/lab/install-dependencies.sh >&2
build_program VirtBackup.Proofs.PlanCalibration
exec "$program" "$@"
