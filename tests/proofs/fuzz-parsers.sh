#!/usr/bin/env bash
# Fires damaged inputs at every parser of bytes from outside, and proves that each accepts one spelling or refuses with a
# sentence, in bounded time and memory.
#
# usage: tests/proofs/fuzz-parsers.sh [--seed N] [--trials N] [--start-trial I] [--short] [--keep DIR] [--sabotage NAME|list]
#   --seed N          decides the damage; chance without it, and printed
#   --trials N        how many trials of 2,000 inputs for each parser; without it 2,000, or what 35 minutes allow
#   --start-trial I   number of the first
#   --short           about six seconds
#   --keep DIR        where inputs go that were answered in a way not seen before; see tests/VirtBackup.Proofs.Fuzz/README.md
#   --sabotage NAME   plants a fault that must be found; 'list' names them
# The last line is 'fuzz-parsers: PASS ...' or 'fuzz-parsers: FAIL ...'.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export MSBUILDDISABLENODEREUSE=1 DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1

name=VirtBackup.Proofs.Fuzz
program=tests/$name/bin/Release/net10.0/$name
if [ ! -x "$program" ] || [ -n "$(find src protos tests/$name tests/VirtBackup.Testing \( -name '*.cs' -o -name '*.proto' -o -name '*.csproj' \) -not -path '*/obj/*' -newer "$program.dll" -print -quit)" ]; then
  dotnet build "tests/$name" -c Release -m:1 -v q -clp:NoSummary >&2
fi
exec "$program" --corpus "tests/$name/Corpus" "$@"
