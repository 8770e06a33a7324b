#!/usr/bin/env bash
# Compiles the product's programs ahead of time where they were built, and what test programs load of them: the tests start programs by
# the hundred, and most of what one does in a few seconds is to compile itself. Done again only for what has changed.
#
# usage: tests/compile-ahead.sh [CONFIGURATION]      of a built solution; Release without it
# environment: VIRTBACKUP_LAB                        where what was compiled is kept (default: .lab in the repository)
set -euo pipefail

configuration=${1:-Release}
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1 MSBUILDDISABLENODEREUSE=1
kept=${VIRTBACKUP_LAB:-$PWD/.lab}/compiled-ahead
mkdir -p "$kept"

fail() { printf 'compile-ahead: %s\n' "$*" >&2; exit 1; }

case "$(uname -m)" in
  x86_64) runtime=linux-x64 ;;
  aarch64) runtime=linux-arm64 ;;
  *) fail "$(uname -m) is not supported" ;;
esac

# The compiler is a package that a publication ahead of time restores.
packages=${NUGET_PACKAGES:-$HOME/.nuget/packages}/microsoft.netcore.app.crossgen2.$runtime
newest_compiler() { { find "$packages" -maxdepth 3 -path '*/tools/crossgen2' -perm -u+x 2> /dev/null || true; } | sort -V | tail -n 1; }
compiler=$(newest_compiler)
if [ -z "$compiler" ]; then
  dotnet restore src/VirtBackup.Agent.Host -r "$runtime" -p:PublishReadyToRun=true -p:NuGetLockFilePath=obj/publish.lock.json -p:RestoreLockedMode=false -v quiet >&2
  compiler=$(newest_compiler)
  # The build's own again.
  dotnet restore src/VirtBackup.Agent.Host -v quiet >&2
fi
[ -n "$compiler" ] || fail "there is no crossgen2 below $packages"

arguments=(--targetos:linux "--targetarch:${runtime#linux-}" -O)
while read -r framework version folder; do
  case "$framework" in
    Microsoft.NETCore.App | Microsoft.AspNetCore.App) arguments+=("-r:${folder:1:-1}/$version/*.dll") ;;
  esac
done < <(dotnet --list-runtimes | sort -k 1,1 -k 2,2V | awk '{ newest[$1] = $0 } END { for (name in newest) print newest[name] }')
export kept compiler

# compile ARGUMENT... ASSEMBLY HASH
compile() {
  local assembly=${*: -2:1} made=$kept/${*: -1}.making
  if "$compiler" "$assembly" -o:"$made" "${@:1:$#-2}" "-r:${assembly%/*}/*.dll" > "$made.log" 2>&1; then
    # What came out is not to be compiled once more.
    : > "$kept/$(sha256sum "$made" | cut -d ' ' -f 1)"
    mv "$made" "$kept/${*: -1}"
  else
    cat "$made.log" >&2
    return 255
  fi
  rm -f "$made.log"
}
export -f compile

# What the three programs load, but for the libraries of cloud providers: few tests use them, and they take longer than all else.
mapfile -t own < <(find src/VirtBackup.{Agent.Host,Controller.Host,Cli}/bin/"$configuration"/net* -maxdepth 1 -name '*.dll' \
  -not -name 'AWSSDK.*' -not -name 'Azure.*' -not -name 'Microsoft.Identity*' -not -name 'Apache.*' -print0 | xargs -0 -r sha256sum)
[ "${#own[@]}" -gt 0 ] || fail "nothing is built: build VirtBackup.sln as $configuration first"
declare -A sources=()
for line in "${own[@]}"; do sources[${line%% *}]=${line#*  }; done
for hash in "${!sources[@]}"; do
  if [ ! -f "$kept/$hash" ]; then printf '%s\0%s\0' "${sources[$hash]}" "$hash"; fi
done | xargs -0 -r -n 2 -P "$(nproc)" bash -c 'compile "$@"' compile "${arguments[@]}" || fail 'an assembly does not compile'

mapfile -t others < <(find tests/*/bin/"$configuration"/net* -maxdepth 1 -name '*.dll' -print0 | xargs -0 -r sha256sum)
for line in "${own[@]}" "${others[@]}"; do
  if [ -n "${sources[${line%% *}]:-}" ] && [ -s "$kept/${line%% *}" ]; then
    # Written beside: an unfinished copy must not be taken for a built one.
    cp "$kept/${line%% *}" "${line#*  }.new"
    mv "${line#*  }.new" "${line#*  }"
  fi
done
find "$kept" -type f -mtime +7 -delete
printf 'compile-ahead: %s assemblies\n' "${#sources[@]}"
