# shellcheck shell=bash
# Read by every proof: goes to the root of the sources, and has what a proof needs to begin. Sets $arguments, the caller's.

arguments=()
for argument in "$@"; do
  # Images are given relative to where the caller stands.
  if [ "${arguments[*]: -1}" = --image ]; then argument=$(realpath -m -- "$argument"); fi
  arguments+=("$argument")
done
unset argument

cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
export MSBUILDDISABLENODEREUSE=1 DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1 PATH="$PATH:/usr/sbin:/sbin"

# is_listing ARGUMENTS...: whether only sabotages are to be listed, for which nothing needs to be installed.
is_listing() { [ "${*: -2}" = '--sabotage list' ]; }

# build_program PROJECT [PLACE...]: builds tests/PROJECT, unless its program is newer than src, protos, the project itself,
# what all proofs share, and the other places that it takes sources from. Sets $program.
build_program() {
  local project=$1
  shift
  program=tests/$project/bin/Release/net10.0/$project
  # Proofs run side by side, and what they share is built once: by the first, while the others wait. No server that a build starts gets the lock.
  exec 9< tests/proofs/parts/program.bash
  flock 9
  if [ ! -x "$program" ] || [ -n "$(find src protos "tests/$project" tests/VirtBackup.Testing "$@" \( -name '*.cs' -o -name '*.proto' -o -name '*.csproj' \) -not -path '*/obj/*' -newer "$program.dll" -print -quit)" ]; then
    dotnet build "tests/$project" -c Release -m:1 -v q -clp:NoSummary >&2 9<&-
  fi
  exec 9<&-
}
