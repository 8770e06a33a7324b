#!/usr/bin/env bash
# Two real guests, each on an agent of its own, exchange numbered messages over one TCP connection and count them in memory. Both are
# backed up with their running state as a group, at one cut, destroyed, and restored: 1,000 further messages follow without gap or
# reset, and uptime and counters go on.
#
# usage: tests/proofs/state-resume.sh [--seed N] [--trials N] [--start-trial I] [--short] [--sabotage NAME|list]
#   --seed N          decides when the cuts are; chance without it, and printed
#   --trials N        how often the two are captured, destroyed and restored; 10 without it, each from where the last one ended
#   --start-trial I   number of the first
#   --short           one
#   --sabotage NAME   plants a fault that must be found; 'list' names them
# The last line is 'state-resume: PASS ...' or 'state-resume: FAIL ...'.
set -euo pipefail

# shellcheck source=tests/proofs/parts/program.bash
. "$(dirname "${BASH_SOURCE[0]}")/parts/program.bash"
if ! is_listing "$@"; then
  bash deploy/lab/install-dependencies.sh >&2
  bash deploy/lab/build-guest.sh >&2
fi
build_program VirtBackup.Proofs.StateResume
exec "$program" "$@"
