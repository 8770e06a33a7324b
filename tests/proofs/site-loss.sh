#!/usr/bin/env bash
# Ends a site with controller, agent, machines and repository while it backs up three machines that need each other. At the other
# site, with the lost one's recovery kit, the newest recovery points that came are recovered in order on that site's agent, as real
# guests. Reports how old what was recovered is (RPO) and how long it took (RTO).
#
# usage: tests/proofs/site-loss.sh [--seed N] [--trials N] [--start-trial I] [--short] [--work DIR] [--sabotage NAME|list]
#   --seed N          decides the graph, the link, and when the site ends; chance without it, and printed
#   --trials N        how many sites are lost; 12 without it
#   --start-trial I   number of the first: trial I of a seed is the same in every run, up to the clocks of real programs
#   --short           one
#   --sabotage NAME   plants a fault that must be found; 'list' names them
# Needs root: network namespaces, /dev/net/tun.
# The last line is 'site-loss: PASS ...' or 'site-loss: FAIL ...'.
set -euo pipefail

# shellcheck source=tests/proofs/parts/program.bash
. "$(dirname "${BASH_SOURCE[0]}")/parts/program.bash"
if ! is_listing "$@"; then bash deploy/lab/install-dependencies.sh >&2; fi
build_program VirtBackup.Proofs.Replication
exec "$program" site-loss "$@"
