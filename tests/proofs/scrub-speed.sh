#!/usr/bin/env bash
# Ages a repository by 100 incremental backups and proves that a full restore reads at least 4 MiB with each request, and that
# a scrub is at least 0.8 times as fast as 'openssl dgst -sha256' of the same packs on the same processor.
#
# usage: tests/proofs/scrub-speed.sh [--seed N] [--trials N] [--start-trial I] [--short] [--work DIR] [--sabotage NAME|list]
#   --seed N          decides everything; chance without it, and printed
#   --trials N        how many trials (default 1: a disk of 512 MiB, 1 GiB of packs)
#   --start-trial I   number of the first: trial I of a seed is the same in every run
#   --short           64 MiB of disk; judges how many requests there are more than the fewest, and 0.5 times openssl
#   --work DIR        where the repositories go (default $TMPDIR, else /tmp)
#   --sabotage NAME   plants a defect that must be found; 'list' names them
# The last line is 'scrub-speed: PASS ...' or 'scrub-speed: FAIL ...'.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export MSBUILDDISABLENODEREUSE=1 DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1

if [ "${*: -2}" != '--sabotage list' ]; then bash deploy/lab/install-dependencies.sh >&2; fi
program=tests/VirtBackup.Proofs/bin/Release/net10.0/VirtBackup.Proofs
if [ ! -x "$program" ] || [ -n "$(find src protos tests/VirtBackup.Proofs tests/VirtBackup.Testing tests/VirtBackup.Agent.Tests/Fakes -name '*.cs' -not -path '*/obj/*' -newer "$program.dll" -print -quit)" ]; then
  dotnet build tests/VirtBackup.Proofs -c Release -m:1 -v q -clp:NoSummary >&2
fi
exec "$program" scrub-speed "$@"
