#!/usr/bin/env bash
# Backs up into Ceph's S3 gateway with the real programs. A full backup takes at most 1.1 times as long as one into a folder
# and a loop of bare puts of the same bytes together, and at most 20 requests per GiB stored (the scrub, which reads by
# itself, is off for these; what keeps the lease comes with time, 6 requests a minute, and is told apart). A proxy spoils requests and answers by chance: 500, 503 SlowDown, no answer, a reset in the
# middle of a body, a short body, a flipped byte, a put that was done and whose answer is lost, a stale list. One of three
# storage daemons is killed in the middle of a backup. Nothing is lost, doubled or acknowledged too early: what is listed
# restores, verification is clean, and what fails says why in one sentence.
#
# usage: tests/proofs/object-store.sh [--seed N] [--trials N] [--start-trial I] [--short] [--image FILE] [--sabotage NAME|list]
#   --seed N          decides disks, changes and faults; chance without it, and printed
#   --trials N        how many sites meet faults; without it 40
#   --start-trial I   number of the first: trial I of a seed is the same in every run, up to the clocks of real programs
#   --short           Azurite, or with every fourth seed Ceph with one daemon; one site and two kinds of faults; no times
#   --image FILE      a raw disk image for the backups that are timed (only read); made without it
#   --sabotage NAME   plants a fault that must be found; 'list' names them
# The last line is 'object-store: PASS ...' or 'object-store: FAIL ...'.
set -euo pipefail

# shellcheck source=tests/proofs/parts/program.bash
. "$(dirname "${BASH_SOURCE[0]}")/parts/program.bash"
if ! is_listing "$@"; then bash deploy/lab/install-dependencies.sh --object-stores >&2; fi
build_program VirtBackup.Proofs.ObjectStore
exec "$program" "$@"
