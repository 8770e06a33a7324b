#!/usr/bin/env bash
# Kills the controller again and again while it backs up, collects and scrubs at once, and proves that no committed recovery
# point is lost, that none is half deleted, and that the index counts what an audit counts. In the controller under test the
# times that must pass before anything is deleted are shortened to nothing.
#
# usage: tests/proofs/kill-controller.sh [--seed N] [--trials N] [--start-trial I] [--short] [--sabotage NAME|list]
#   --seed N          decides when it is killed, and what the machines hold; chance without it, and printed
#   --trials N        how many kills; without it what fits into 35 minutes, at most 1,000
#   --start-trial I   number of the first: trial I of a seed is the same in every run, up to the clocks of real programs
#   --short           5 kills
#   --sabotage NAME   plants a fault that must be found; 'list' names them
# The last line is 'kill-controller: PASS ...' or 'kill-controller: FAIL ...'.
set -euo pipefail

# shellcheck source=tests/proofs/parts/program.bash
. "$(dirname "${BASH_SOURCE[0]}")/parts/program.bash"
is_listing "$@" || bash deploy/lab/install-dependencies.sh >&2
build_program VirtBackup.Proofs.KillController
exec "$program" "$@"
