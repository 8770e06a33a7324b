#!/usr/bin/env bash
# Kills agent, controller or both in the middle of backups of a real guest and proves that no committed recovery point is
# lost or wrong, that verification is clean, and that the next backup misses nothing.
#
# usage: tests/proofs/kill-backup.sh [--seed N] [--trials N] [--start-trial I] [--short] [--sabotage NAME|list]
#   --seed N          decides who is killed, when, and what the guest writes; chance without it, and printed
#   --trials N        how many trials; without it what fits into 35 minutes at most
#   --start-trial I   number of the first: trial I of a seed is the same in every run, up to the clocks of real programs
#   --short           at most a minute
#   --sabotage NAME   plants a fault that must be found; 'list' names them
# The last line is 'kill-backup: PASS ...' or 'kill-backup: FAIL ...'.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export MSBUILDDISABLENODEREUSE=1 DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1 PATH="$PATH:/usr/sbin:/sbin"

project=tests/VirtBackup.Proofs.KillBackup
program=$project/bin/Release/net10.0/VirtBackup.Proofs.KillBackup
sources=(src protos "$project" tests/VirtBackup.Testing)
if [ "${*: -2}" != '--sabotage list' ]; then
  bash deploy/lab/install-dependencies.sh >&2
  bash deploy/lab/build-guest.sh >&2
fi
if [ ! -x "$program" ] || [ -n "$(find "${sources[@]}" \( -name '*.cs' -o -name '*.proto' -o -name '*.csproj' \) -not -path '*/obj/*' -newer "$program.dll" -print -quit)" ]; then
  dotnet build "$project" -c Release -m:1 -v q -clp:NoSummary >&2
fi
exec "$program" "$@"
