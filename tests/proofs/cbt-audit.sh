#!/usr/bin/env bash
# Lets change tracking lose 1, 10 and 100 dirty blocks in incremental runs, 200 times each, and proves that the audit finds them
# as often as each run prints (99 % binomial interval; what lies outside is counted anew once, since one in a hundred right
# counts does), that a lost block is found within one rotation, and that the run that notices makes a right point. Every
# other trial loses told extents of a real QEMU's dirty bitmap.
#
# usage: tests/proofs/cbt-audit.sh [--seed N] [--trials N] [--start-trial I] [--short] [--work DIR] [--sabotage NAME|list]
#   --seed N          decides everything; chance without it, and printed
#   --trials N        how many trials (default 12, half of them with QEMU)
#   --start-trial I   number of the first: trial I of a seed is the same in every run
#   --short           one trial of each kind; QEMU's guest is not booted
#   --work DIR        where the repositories go (default $TMPDIR, else /tmp)
#   --sabotage NAME   plants a defect that must be found; 'list' names them
# The last line is 'cbt-audit: PASS ...' or 'cbt-audit: FAIL ...'.
set -euo pipefail

# shellcheck source=tests/proofs/parts/program.bash
. "$(dirname "${BASH_SOURCE[0]}")/parts/program.bash"
is_listing "$@" || bash deploy/lab/install-dependencies.sh >&2
build_program VirtBackup.Proofs tests/VirtBackup.Agent.Tests/Fakes
exec "$program" cbt-audit "$@"
