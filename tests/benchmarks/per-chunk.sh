#!/usr/bin/env bash
# Measures what one chunk costs: processor time of agent and controller, bytes beside its own in packs, maps and index. deploy/SCALE.md
# computes with these figures.
#
# usage: tests/benchmarks/per-chunk.sh IMAGE.raw [--rounds N] [--work DIR]
#   --rounds N     rounds (default 3), each with a new repository; medians are reported
#   --work DIR     where copy and repository go (default: a new folder in $TMPDIR); needs about 3 times the image's content
#
# IMAGE is only read. A real agent and controller on loopback, with TLS, encryption and fsync.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
image='' rounds=3 work=''
fail() { printf 'per-chunk: %s\n' "$*" >&2; exit 1; }
say() { printf 'per-chunk: %s\n' "$*" >&2; }
while [ $# -gt 0 ]; do
  case "$1" in
    --rounds) rounds=${2:?--rounds needs a number}; shift ;;
    --work) work=${2:?--work needs a folder}; shift ;;
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    -*) fail "unknown option '$1'; see --help" ;;
    *) [ -z "$image" ] || fail "one image only: '$1' is one too many"; image=$1 ;;
  esac
  shift
done
[ -n "$image" ] || fail 'which image? usage: per-chunk.sh IMAGE.raw [--rounds N] [--work DIR]'
[ -r "$image" ] && [ -f "$image" ] || fail "the image $image cannot be read"
[[ $rounds =~ ^[1-9][0-9]*$ ]] || fail "--rounds needs a number of 1 or more, not '$rounds'"

export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1 MSBUILDDISABLENODEREUSE=1 NO_COLOR=1 LC_ALL=C.UTF-8
command -v jq > /dev/null || "$here/deploy/lab/install-dependencies.sh" --peers >&2
bin=$here/artifacts/compare/bin
say 'building Release'
rm -rf "$bin"
"$here/deploy/publish.sh" "$bin" >&2

[ -z "$work" ] || mkdir -p "$work"
work=$(mktemp -d "$(readlink -f "${work:-${TMPDIR:-/tmp}}")/per-chunk.XXXXXX")
# shellcheck source=tests/benchmarks/parts/services.bash
. "$here/tests/benchmarks/parts/services.bash"
trap 'stop_services; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
disk=$work/disk.raw
cp --sparse=always "$image" "$disk"
export VIRTBACKUP_CREDENTIALS=$work/vb/operator

# step NAME COMMAND...: appends a line of JSON with the seconds that agent, controller and wall clock took
step() {
  local name=$1 agent controller began
  shift
  agent=$(cpu_of "$agent_pid") controller=$(cpu_of "$controller_pid") began=$(date +%s.%N)
  "$@" > "$work/out" 2> "$work/err" || { cat "$work/err" >&2; fail "$name failed"; }
  jq -cn --arg step "$name" --argjson wall "$(awk "BEGIN { print $(date +%s.%N) - $began }")" \
    --argjson agent "$(awk "BEGIN { print $(cpu_of "$agent_pid") - $agent }")" --argjson controller "$(awk "BEGIN { print $(cpu_of "$controller_pid") - $controller }")" \
    '{step: $step, wall: $wall, agent: $agent, controller: $controller}' >> "$work/steps"
  say "$(tail -n 1 "$work/steps")"
}

: > "$work/steps"
for round in $(seq "$rounds"); do
  say "round $round of $rounds"
  start_services
  cat "$disk" > /dev/null
  step full "$bin/virtbackup" backup run bench --output json
  "$bin/virtbackup" repository status --output json > "$work/status"
  step unchanged "$bin/virtbackup" backup run bench --output json
  : > "$work/none"
  step untouched "$bin/virtbackup" backup run bench --changed-extents "disk=$work/none" --output json
  step restore "$bin/virtbackup" restore run bench@latest --folder "$work/restored" --format raw --no-start --output json
  cmp -s "$disk" "$work/restored/disk.raw" || fail 'the restore differs from the image'
  rm -rf "$work/restored"
  stop_services
  index=$(find "$work/vb/controller" -name 'index.db' -exec stat -c %s {} +)
  jq -c --argjson index "$index" --argjson packs "$(find "$work/vb/repository/packs" -name '*.vbp' -exec stat -c %s {} + | awk '{ s += $1 } END { print s }')" \
    '{step: "sizes", chunks: (.chunks | tonumber), index: $index, packs: $packs}' "$work/status" >> "$work/steps"
done

jq -rs '
  def median: sort | .[(length - 1) / 2 | floor];
  (map(select(.step == "sizes"))) as $sizes | ($sizes | map(.chunks) | median) as $chunks
  | "chunks \($chunks), packs \(($sizes | map(.packs) | median) / 1048576 | round) MiB, index \($sizes | map(.index / .chunks) | median | round) bytes a chunk",
    (group_by(.step)[] | select(.[0].step != "sizes")
      | "\(.[0].step): wall \(map(.wall) | median * 100 | round / 100) s, of each chunk: agent \(map(.agent) | median / $chunks * 1e6 | round) µs, controller \(map(.controller) | median / $chunks * 1e6 | round) µs")' "$work/steps"
