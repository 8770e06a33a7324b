#!/usr/bin/env bash
# Measures VirtBackup (a real agent and controller on loopback: TLS, encryption, fsync) beside restic, borg, qemu-img and
# zstd: same image, same machine, same run, warm cache, tools interleaved.
#
# usage: tests/benchmarks/compare.sh IMAGE.raw [--rounds N] [--json] [--seed N] [--work DIR] [--tools LIST]
#   --rounds N     rounds per tool and work (default 3); medians are reported, with the least and the most
#   --json         print everything as one line of JSON at the end
#   --seed N       which blocks change (default: random, printed)
#   --work DIR     where copies and repositories go (default: a new folder in $TMPDIR); needs about 4 times the image's content
#   --tools LIST   comma-separated, of virtbackup,restic,borg,qemu-img,zstd
#
# IMAGE is only read. Every time includes `sync -f` of the target. CPU counts every process that a tool started.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
image='' rounds=3 json=no seed=$((RANDOM * 32768 + RANDOM)) work='' tools=virtbackup,restic,borg,qemu-img,zstd
fail() { printf 'compare: %s\n' "$*" >&2; exit 1; }
say() { printf 'compare: %s\n' "$*" >&2; }
while [ $# -gt 0 ]; do
  case "$1" in
    --rounds) rounds=${2:?--rounds needs a number}; shift ;;
    --json) json=yes ;;
    --seed) seed=${2:?--seed needs a number}; shift ;;
    --work) work=${2:?--work needs a folder}; shift ;;
    --tools) tools=${2:?--tools needs a list}; shift ;;
    -h | --help) sed -n '2,13s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    -*) fail "unknown option '$1'; see --help" ;;
    *) [ -z "$image" ] || fail "one image only: '$1' is one too many"; image=$1 ;;
  esac
  shift
done
[ -n "$image" ] || fail 'which image? usage: compare.sh IMAGE.raw [--rounds N] [--json]'
[ -r "$image" ] && [ -f "$image" ] || fail "the image $image cannot be read"
[[ $rounds =~ ^[1-9][0-9]*$ ]] || fail "--rounds needs a number of 1 or more, not '$rounds'"
[[ $seed =~ ^[0-9]+$ ]] || fail "--seed needs a number, not '$seed'"
image=$(readlink -f "$image")

export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1 MSBUILDDISABLENODEREUSE=1 NO_COLOR=1 LC_ALL=C.UTF-8
bin=$here/artifacts/compare/bin
mkdir -p "$(dirname "$bin")"
say 'installing peers and building Release'
"$here/deploy/lab/install-dependencies.sh" --peers >&2
rm -rf "$bin"
"$here/deploy/publish.sh" "$bin" >&2

if [ -z "$work" ]; then work=$(mktemp -d "${TMPDIR:-/tmp}/virtbackup-compare.XXXXXX"); made=yes; else mkdir -p "$work"; work=$(mktemp -d "$(readlink -f "$work")/compare.XXXXXX"); made=yes; fi
# shellcheck source=tests/benchmarks/parts/services.bash
. "$here/tests/benchmarks/parts/services.bash"
clean_up() { stop_services; [ "$made" = yes ] && rm -rf "$work"; }
trap clean_up EXIT
trap 'exit 130' INT TERM

disk=$work/disk.raw
runs=$work/runs.jsonl
: > "$runs"
size=$(stat -c %s "$image")
blocks=$((size / 65536))
[ "$blocks" -ge 100 ] || fail "the image has only $size bytes; at least 100 blocks of 64 KiB are needed"
export RESTIC_PASSWORD=compare BORG_PASSPHRASE=compare BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes BORG_RELOCATED_REPO_ACCESS_IS_OK=yes
export RESTIC_CACHE_DIR=$work/restic-cache BORG_BASE_DIR=$work/borg-base VIRTBACKUP_CREDENTIALS=$work/vb/operator
mkdir -p "$BORG_BASE_DIR"

random_bytes() { openssl enc -aes-128-ctr -nosalt -pass "pass:$1" -pbkdf2 -iter 1 < /dev/zero 2> /dev/null; }

# Overwrites 1 % of the 64 KiB blocks, and writes their extents: change NUMBER
change() {
  local count=$((blocks / 100)) block i=0
  shuf -i "0-$((blocks - 1))" -n "$count" --random-source=<(random_bytes "$seed-$1") | sort -n > "$work/blocks"
  head -c $((count * 65536)) < <(random_bytes "$seed-data-$1") > "$work/fresh"
  while read -r block; do
    dd if="$work/fresh" of="$disk" bs=65536 count=1 skip=$i seek="$block" conv=notrunc status=none
    i=$((i + 1))
  done < "$work/blocks"
  awk '{ printf "%.0f 65536\n", $1 * 65536 }' "$work/blocks" > "$work/extents"
  touched=$(awk '{ print int($1 / 4) }' "$work/blocks" | uniq | wc -l)
  sync -f "$disk"
  warm
}

warm() { cat "$disk" > /dev/null; }
du_mib() { du -sk "$1" 2> /dev/null | awk '{ printf "%.1f", $1 / 1024 }'; }
peak_of() { awk '/^VmHWM/ { printf "%.1f", $2 / 1024 }' "/proc/$1/status"; }
reset_peak() { echo 5 > "/proc/$1/clear_refs" 2> /dev/null || true; }

# measure TOOL WORK TARGET COMMAND...: runs it and appends one line to $runs
measure() {
  local tool=$1 name=$2 target=$3 began ended cpu before=0 after=0 agent=null controller=null
  shift 3
  read_mib=null restore_equal=null
  if [ "$tool" = virtbackup ]; then
    reset_peak "$agent_pid"; reset_peak "$controller_pid"
    before=$(awk "BEGIN { print $(cpu_of "$agent_pid") + $(cpu_of "$controller_pid") }")
  fi
  began=$(date +%s.%N)
  TIMEFORMAT='%U %S'
  { time { "$@" > "$work/out" 2> "$work/err" && sync -f "$target"; }; } 2> "$work/times" || { tail -n 20 "$work/err" >&2; fail "$tool failed at $name"; }
  ended=$(date +%s.%N)
  if [ "$tool" = virtbackup ]; then
    after=$(awk "BEGIN { print $(cpu_of "$agent_pid") + $(cpu_of "$controller_pid") }")
    agent=$(peak_of "$agent_pid") controller=$(peak_of "$controller_pid")
    read_mib=$(jq -r '(.result.backup.read_bytes // empty) / 1048576' "$work/out" 2> /dev/null || true)
    [ -n "$read_mib" ] || read_mib=null
  fi
  if [ "$name" = restore ]; then
    if cmp -s "$disk" "$restored"; then restore_equal=true; else restore_equal=false; fi
    rm -rf "${restored_folder:?}"
  fi
  cpu=$(awk -v b="$before" -v a="$after" '{ print $1 + $2 + a - b }' "$work/times")
  jq -cn --arg tool "$tool" --arg work "$name" --argjson wall "$(awk "BEGIN { print $ended - $began }")" --argjson cpu "$cpu" \
    --argjson stored "$(du_mib "$repository")" --argjson read "$read_mib" --argjson agent "$agent" --argjson controller "$controller" --argjson equal "$restore_equal" \
    '{tool:$tool,work:$work,wall_s:$wall,cpu_s:$cpu,stored_mib:$stored,read_mib:$read,agent:$agent,controller:$controller,restore_equal:$equal}' >> "$runs"
  say "$(tail -n 1 "$runs" | jq -r '"\(.tool) \(.work): \(.wall_s * 100 | round / 100) s, CPU \(.cpu_s * 100 | round / 100) s, stored \(.stored_mib) MiB"')"
}

one() {
  local tool=$1 name=$2
  restored_folder=$work/restored-$tool
  rm -rf "$restored_folder"
  case "$tool" in
    virtbackup)
      repository=$work/vb/repository
      restored=$restored_folder/disk.raw
      case "$name" in
        full | unchanged | changed-1pct) measure "$tool" "$name" "$repository" "$bin/virtbackup" backup run bench --output json ;;
        unchanged-cbt) : > "$work/none"; measure "$tool" "$name" "$repository" "$bin/virtbackup" backup run bench --changed-extents "disk=$work/none" --output json ;;
        changed-1pct-cbt) measure "$tool" "$name" "$repository" "$bin/virtbackup" backup run bench --changed-extents "disk=$work/extents" --output json ;;
        restore) measure "$tool" "$name" "$work" "$bin/virtbackup" restore run bench@latest --folder "$restored_folder" --format raw --no-start --output json ;;
      esac ;;
    restic)
      repository=$work/restic
      restored=$restored_folder$disk
      case "$name" in
        full) rm -rf "$repository" "$RESTIC_CACHE_DIR"; restic init -q --repo "$repository" > /dev/null; measure "$tool" "$name" "$repository" restic -q --repo "$repository" backup "$disk" ;;
        unchanged | changed-1pct) measure "$tool" "$name" "$repository" restic -q --repo "$repository" backup --force "$disk" ;;
        restore) measure "$tool" "$name" "$work" restic -q --repo "$repository" restore latest --target "$restored_folder" ;;
      esac ;;
    borg)
      repository=$work/borg
      restored=$restored_folder$disk
      case "$name" in
        full) rm -rf "$repository" "$BORG_BASE_DIR"; mkdir -p "$BORG_BASE_DIR"; borg init -e repokey "$repository" 2> /dev/null; measure "$tool" "$name" "$repository" borg create --compression zstd,1 --files-cache disabled "$repository::full-$round" "$disk" ;;
        unchanged | changed-1pct) measure "$tool" "$name" "$repository" borg create --compression zstd,1 --files-cache disabled "$repository::$name-$round" "$disk" ;;
        restore) mkdir -p "$restored_folder"; measure "$tool" "$name" "$work" sh -c 'cd "$1" && borg extract "$2"' sh "$restored_folder" "$repository::changed-1pct-$round" ;;
      esac ;;
    qemu-img | zstd)
      repository=$work/$tool.out
      restored=$restored_folder/disk.raw
      case "$tool/$name" in
        qemu-img/full | qemu-img/changed-1pct) rm -f "$repository"; measure "$tool" "$name" "$work" qemu-img convert -f raw -O qcow2 -c -o compression_type=zstd "$disk" "$repository" ;;
        qemu-img/restore) mkdir -p "$restored_folder"; measure "$tool" "$name" "$work" qemu-img convert -f qcow2 -O raw "$repository" "$restored" ;;
        zstd/full | zstd/changed-1pct) rm -f "$repository"; measure "$tool" "$name" "$work" zstd -q -1 -T2 -f "$disk" -o "$repository" ;;
        zstd/restore) mkdir -p "$restored_folder"; measure "$tool" "$name" "$work" zstd -q -d -f "$repository" -o "$restored" ;;
      esac ;;
  esac
}

IFS=, read -r -a chosen <<< "$tools"
say "image $image, $((size >> 20)) MiB, seed $seed, $rounds rounds"
touched=0
for round in $(seq "$rounds"); do
  say "round $round of $rounds"
  rm -f "$disk"
  cp --sparse=always "$image" "$disk"
  sync -f "$disk"
  warm
  case ",$tools," in *,virtbackup,*) stop_services; start_services ;; esac
  for name in full unchanged unchanged-cbt; do for tool in "${chosen[@]}"; do one "$tool" "$name"; done; done
  change "$round-a"
  for tool in "${chosen[@]}"; do one "$tool" changed-1pct-cbt; done
  change "$round-b"
  for name in changed-1pct restore; do for tool in "${chosen[@]}"; do one "$tool" "$name"; done; done
done
stop_services

result=$(jq -cs --arg image "$image" --argjson size "$size" --argjson seed "$seed" --argjson rounds "$rounds" '
  def median: sort | if length % 2 == 1 then .[(length - 1) / 2] else (.[length / 2 - 1] + .[length / 2]) / 2 end;
  def round2: . * 100 | round / 100;
  {image: $image, image_bytes: $size, seed: $seed, rounds: $rounds, runs: (group_by([.work, .tool]) | map({
    tool: .[0].tool, work: .[0].work,
    wall_s: (map(.wall_s) | median | round2), wall_min_s: (map(.wall_s) | min | round2), wall_max_s: (map(.wall_s) | max | round2),
    cpu_s: (map(.cpu_s) | median | round2), stored_mib: (map(.stored_mib) | median | round2),
    read_mib: (map(.read_mib | select(. != null)) | if length > 0 then (median | round2) else null end),
    peak_rss_mib: (if .[0].agent == null then null else {agent: (map(.agent) | max), controller: (map(.controller) | max)} end),
    restore_equal: (if .[0].work == "restore" then all(.restore_equal) else null end)}))}' "$runs")

{
  printf '\n%-18s %-11s %10s %17s %9s %12s %10s %s\n' work tool wall 'min-max' CPU 'stored MiB' 'read MiB' 'peak MiB (agent, controller)'
  jq -r '["full","unchanged","unchanged-cbt","changed-1pct","changed-1pct-cbt","restore"] as $order
    | .runs | sort_by([(.work as $w | $order | index($w)), .wall_s])[]
    | [.work, .tool, .wall_s, "\(.wall_min_s)-\(.wall_max_s)", .cpu_s, .stored_mib, (.read_mib // "-"), (if .peak_rss_mib then "\(.peak_rss_mib.agent), \(.peak_rss_mib.controller)" else "" end) + (if .restore_equal == true then "equal" elif .restore_equal == false then "DIFFERS" else "" end)] | @tsv' <<< "$result" |
    while IFS=$'\t' read -r name tool wall range cpu stored read peak; do printf '%-18s %-11s %9ss %17s %8ss %12s %10s %s\n' "$name" "$tool" "$wall" "$range" "$cpu" "$stored" "$read" "$peak"; done
  printf '\nfixed chunks of 256 KiB touched by the last change: %s (%s MiB)\n' "$touched" "$((touched / 4))"
}
[ "$json" = no ] || printf '%s\n' "$result"
jq -e '[.runs[] | select(.restore_equal == false)] | length == 0' <<< "$result" > /dev/null || fail 'a restore differed from its image'
