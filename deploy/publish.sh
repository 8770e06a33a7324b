#!/usr/bin/env bash
# Builds the programs as they are installed: Release, compiled ahead of time where the start of a command counts.
#
# usage: deploy/publish.sh FOLDER      virtbackup, virtbackupd and virtbackup-agent appear in FOLDER
set -euo pipefail

out=${1:?usage: deploy/publish.sh FOLDER}
mkdir -p "$out"
out=$(readlink -f "$out")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1 MSBUILDDISABLENODEREUSE=1
case "$(uname -m)" in
  x86_64) runtime=linux-x64 ;;
  aarch64) runtime=linux-arm64 ;;
  *) echo "publish: $(uname -m) is not supported" >&2; exit 1 ;;
esac
for project in Controller.Host Agent.Host Cli; do
  # A runtime-specific restore keeps its own lock file: the committed ones are for portable builds.
  if ! dotnet publish "src/VirtBackup.$project" -c Release -r "$runtime" --self-contained false -p:PublishReadyToRun=true \
    -p:NuGetLockFilePath=obj/publish.lock.json -p:RestoreLockedMode=false -o "$out" -v quiet -clp:NoSummary -m:2 > "$out/publish.log" 2>&1; then
    cat "$out/publish.log" >&2
    echo "publish: src/VirtBackup.$project does not build" >&2
    exit 1
  fi
done
rm -f "$out/publish.log"
