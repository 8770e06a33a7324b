#!/usr/bin/env bash
# Damages a hundredth of the chunks of two repositories that hold the same, not the same ones, and proves that each is healed
# from the other, entirely, and that nothing but the damaged records is moved.
#
# usage: tests/proofs/heal.sh [--seed N] [--trials N] [--start-trial I] [--short] [--work DIR] [--sabotage NAME|list]
#   --seed N          decides everything; chance without it, and printed
#   --trials N        how many trials; without it what fits into 35 minutes at most
#   --start-trial I   number of the first: trial I of a seed is the same in every run
#   --short           at most a few seconds, of small disks
#   --work DIR        where the repositories go (default $TMPDIR, else /tmp)
#   --sabotage NAME   plants a defect that must be found; 'list' names them
# The last line is 'heal: PASS ...' or 'heal: FAIL ...'.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export MSBUILDDISABLENODEREUSE=1 DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1

program=tests/VirtBackup.Proofs/bin/Release/net10.0/VirtBackup.Proofs
if [ ! -x "$program" ] || [ -n "$(find src protos tests/VirtBackup.Proofs tests/VirtBackup.Testing tests/VirtBackup.Agent.Tests/Fakes -name '*.cs' -not -path '*/obj/*' -newer "$program.dll" -print -quit)" ]; then
  dotnet build tests/VirtBackup.Proofs -c Release -m:1 -v q -clp:NoSummary >&2
fi
exec "$program" heal "$@"
