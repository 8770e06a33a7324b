#!/usr/bin/env bash
# Two guests on two agents exchange numbered messages over a cable: each writes a number to its disk and sends it when it lies there,
# and writes to its disk what it receives. Both are backed up as a group, again and again, with and without a freeze of their file
# systems and with and without a guest agent, as the seed says. Proves that the restored disks hold no message that was received and not
# sent, in either direction; and that cutting the same guests one after the other does leave such messages, and how many.
#
# usage: tests/proofs/group-cut.sh [--seed N] [--trials N] [--start-trial I] [--short] [--sabotage NAME|list]
#   --seed N          decides how the guests are held, and when; chance without it, and printed
#   --trials N        how many cuts; 200 without it
#   --start-trial I   number of the first
#   --short           2 cuts at most, and the control
#   --sabotage NAME   plants a fault that must be found; 'list' names them
# The last line is 'group-cut: PASS ...' or 'group-cut: FAIL ...'.
set -euo pipefail

# shellcheck source=tests/proofs/parts/program.bash
. "$(dirname "${BASH_SOURCE[0]}")/parts/program.bash"
if ! is_listing "$@"; then
  bash deploy/lab/install-dependencies.sh >&2
  bash deploy/lab/build-guest.sh >&2
fi
build_program VirtBackup.Proofs.GroupCut
exec "$program" "$@"
