#!/usr/bin/env bash
# Proves that a recovery of several machines starts none before all that it needs are ready, whatever the graph and whatever
# fails; that with unlimited slots it takes at most 1.05 times its critical path; and that a circle is refused by names. Graphs of
# up to 50 machines in imagined time, with the order that the controller uses; then real machines through controller and agent,
# where the witnesses are the guests' consoles and the kernel's start times of processes.
#
# usage: tests/proofs/dependency-order.sh [--seed N] [--trials N] [--start-trial I] [--short] [--sabotage NAME|list]
#   --seed N          decides graphs, times and failures; chance without it, and printed
#   --trials N        how many times 25 simulated recoveries; without it 800
#   --start-trial I   number of the first: trial I of a seed is the same in every run
#   --short           at most 1,500 simulated recoveries, and 2 real machines instead of 6
#   --sabotage NAME   plants a fault that must be found; 'list' names them
# The last line is 'dependency-order: PASS ...' or 'dependency-order: FAIL ...'.
set -euo pipefail

# shellcheck source=tests/proofs/parts/program.bash
. "$(dirname "${BASH_SOURCE[0]}")/parts/program.bash"
is_listing "$@" || bash deploy/lab/install-dependencies.sh >&2
build_program VirtBackup.Proofs.DependencyOrder
exec "$program" "$@"
