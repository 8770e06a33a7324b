#!/usr/bin/env bash
# Two sites that pull from each other, or three in a chain, each a network namespace with a controller and an agent. While recovery
# points are pulled, links are cut and controllers killed at random. The replicas converge; no point is ever listed that is not whole
# (each new one is verified at once, without keys), and with all links cut each is restored and compared. On every link no more than 1.02
# times what was missing travels in both directions, 16 MiB for each fault, and 32 KiB for each pull after a
# replica's first: who waits for another asks again.
#
# usage: tests/proofs/replication-faults.sh [--seed N] [--trials N] [--start-trial I] [--short] [--work DIR] [--sabotage NAME|list]
#   --seed N          decides sites, links, disks and faults; chance without it, and printed
#   --trials N        how many times faults come; without it what fits into 35 minutes, at most 200
#   --start-trial I   number of the first: trial I of a seed is the same in every run, up to the clocks of real programs
#   --short           one trial, with two or three sites as the seed has it
#   --sabotage NAME   plants a fault that must be found; 'list' names them
# Needs root: network namespaces, /dev/net/tun.
# Run so far: 503 trials of four seeds; 2026112805 and 2026112807 from trial 0 are 396 of them.
# The last line is 'replication-faults: PASS ...' or 'replication-faults: FAIL ...'.
set -euo pipefail

# shellcheck source=tests/proofs/parts/program.bash
. "$(dirname "${BASH_SOURCE[0]}")/parts/program.bash"
if ! is_listing "$@"; then bash deploy/lab/install-dependencies.sh >&2; fi
build_program VirtBackup.Proofs.Replication
exec "$program" replication-faults "$@"
