#!/usr/bin/env bash
# Proves that kill -9 at any moment of a backup loses nothing: agent, controller or both die while a guest writes; after
# the restart every recovery point is restored as the machine was at its cut, the repository verifies, and the next
# backup misses no change.
#
# usage: tests/proofs/kill-backup.sh [--seed N] [--trials N] [--start-trial N] [--short] [--sabotage NAME|list]
#   --seed N          chooses victims and moments (default: random, printed)
#   --trials N        kills (default 40: less than 45 minutes on two processors)
#   --start-trial N   number of the first trial, to repeat one that failed
#   --short           one trial, at most 90 seconds
#   --sabotage NAME   plants a fault that must make the proof fail; "list" names them
#
# The last line is "kill-backup: PASS|FAIL figures".
set -euo pipefail

case ${1:-} in -h | --help) sed -n '2,14s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export MSBUILDDISABLENODEREUSE=1 DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1
name=VirtBackup.Proofs.KillBackup
program=tests/$name/bin/Release/net10.0/$name
if [ ! -x "$program" ]; then
  dotnet build "tests/$name" -c Release -m:2 -v q -clp:NoSummary >&2 || { echo "kill-backup: FAIL tests/$name does not build"; exit 1; }
fi
exec "$program" "$@"
