#!/usr/bin/env bash
# Kills the source's agent, the target's, both, the controller, everybody, or the image servers, or cuts a link, at random moments of
# warm and cold migrations between two real agents, and proves that then one machine runs, that its disk holds what was written to it,
# and that nothing is left in the place that it left or did not reach. The machine's disk is written to while it is copied. A third of the trials
# mirror the disks of a running machine to another folder of its host, and kill agent, controller, both or the machine, silence the agent, cancel
# the order or fill the target, half of them at the change-over.
#
# usage: tests/proofs/migration-faults.sh [--seed N] [--trials N] [--start-trial I] [--short] [--sabotage NAME|list]
#   --seed N          decides who is killed, when, and what is written; chance without it, and printed
#   --trials N        how many trials; without it what fits into 35 minutes
#   --start-trial I   number of the first: the plan of trial I of a seed is the same in every run, up to the clocks of real programs
#   --short           one trial
#   --sabotage NAME   plants a fault that must be found; 'list' names them
# The last line is 'migration-faults: PASS ...' or 'migration-faults: FAIL ...'.
set -euo pipefail

# shellcheck source=tests/proofs/parts/program.bash
. "$(dirname "${BASH_SOURCE[0]}")/parts/program.bash"
if ! is_listing "$@"; then bash deploy/lab/install-dependencies.sh >&2; fi
build_program VirtBackup.Proofs.Migration
exec "$program" migration-faults "$@"
