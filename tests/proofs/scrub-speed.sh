#!/usr/bin/env bash
# Ages a repository by 100 incremental backups and proves that a full restore reads at least 4 MiB with each request, and that
# a scrub is at least 0.8 times as fast as 'openssl dgst -sha256' of the same packs on the same processor.
#
# usage: tests/proofs/scrub-speed.sh [--seed N] [--trials N] [--start-trial I] [--short] [--work DIR] [--sabotage NAME|list]
#   --seed N          decides everything; chance without it, and printed
#   --trials N        how many trials (default 1: a disk of 512 MiB, 1 GiB of packs)
#   --start-trial I   number of the first: trial I of a seed is the same in every run
#   --short           64 MiB of disk; judges how many requests there are more than the fewest, and 0.5 times openssl
#   --work DIR        where the repositories go (default $TMPDIR, else /tmp)
#   --sabotage NAME   plants a defect that must be found; 'list' names them
# The last line is 'scrub-speed: PASS ...' or 'scrub-speed: FAIL ...'.
# The suite runs it alone.
set -euo pipefail

# shellcheck source=tests/proofs/parts/program.bash
. "$(dirname "${BASH_SOURCE[0]}")/parts/program.bash"
is_listing "$@" || bash deploy/lab/install-dependencies.sh >&2
build_program VirtBackup.Proofs tests/VirtBackup.Agent.Tests/Fakes
exec "$program" scrub-speed "$@"
