#!/usr/bin/env bash
# Kills the controller again and again while it backs up, collects and scrubs at once, and proves that no committed recovery
# point is lost, that none is half deleted, and that the index counts what an audit counts. In the controller under test the
# times that must pass before anything is deleted are shortened to nothing.
#
# usage: tests/proofs/kill-controller.sh [--seed N] [--trials N] [--start-trial I] [--short] [--sabotage NAME|list]
#   --seed N          decides when it is killed, and what the machines hold; chance without it, and printed
#   --trials N        how many kills; without it what fits into 35 minutes, at most 1,000
#   --start-trial I   number of the first: trial I of a seed is the same in every run, up to the clocks of real programs
#   --short           5 kills
#   --sabotage NAME   plants a fault that must be found; 'list' names them
# The last line is 'kill-controller: PASS ...' or 'kill-controller: FAIL ...'.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export MSBUILDDISABLENODEREUSE=1 DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1

name=VirtBackup.Proofs.KillController
program=tests/$name/bin/Release/net10.0/$name
if [ "${*: -2}" != '--sabotage list' ]; then bash deploy/lab/install-dependencies.sh >&2; fi
if [ ! -x "$program" ] || [ -n "$(find src protos tests/$name tests/VirtBackup.Testing \( -name '*.cs' -o -name '*.proto' -o -name '*.csproj' \) -not -path '*/obj/*' -newer "$program.dll" -print -quit)" ]; then
  dotnet build "tests/$name" -c Release -m:1 -v q -clp:NoSummary >&2
fi
exec "$program" "$@"
