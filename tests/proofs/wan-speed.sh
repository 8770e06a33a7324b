#!/usr/bin/env bash
# Replicates over a link of 200 Mbit/s between two sites, which are network namespaces, and compares it with one bare TLS stream of as
# many bytes over the same link in the same run: at 0, 40 and 150 ms round trip it is at least 0.9 times as fast. A disk of 1 TiB that
# has not changed costs less than 100 KiB on the link, in both directions and with all headers.
#
# usage: tests/proofs/wan-speed.sh [--seed N] [--trials N] [--start-trial I] [--short] [--work DIR] [--sabotage NAME|list]
#   --seed N          decides what is on the disks; chance without it, and printed
#   --trials N        how many comparisons at each round trip, of which the median counts; 3 without it
#   --start-trial I   number of the first
#   --short           one comparison, at 40 ms, on a small disk; 0.7 times is enough then
#   --sabotage NAME   plants a fault that must be found; 'list' names them
# Needs root: network namespaces, /dev/net/tun.
# The last line is 'wan-speed: PASS ...' or 'wan-speed: FAIL ...'.
# The suite runs it alone.
set -euo pipefail

# shellcheck source=tests/proofs/parts/program.bash
. "$(dirname "${BASH_SOURCE[0]}")/parts/program.bash"
if ! is_listing "$@"; then bash deploy/lab/install-dependencies.sh >&2; fi
build_program VirtBackup.Proofs.Replication
exec "$program" wan-speed "$@"
