#!/usr/bin/env bash
# Shows the whole product on one machine: boots a tiny real VM, backs it up twice while it runs, destroys it, restores
# both recovery points, boots each and lets each guest read its data back.
#
# usage: deploy/quickstart.sh [--marker TEXT] [--keep]
#   --marker TEXT   what the guest writes before the first backup (TEXT) and before the second (TEXT-2)
#   --keep          leave the folder with repository, restored machines and logs in place
#
# Needs Debian with the .NET SDK 10; everything else is installed. The last line is JSON.
set -euo pipefail

marker="hello-$(date -u +%Y%m%dT%H%M%SZ)"
keep=no
while [ $# -gt 0 ]; do
  case "$1" in
    --marker) marker=${2:?--marker needs a text}; shift ;;
    --keep) keep=yes ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) echo "quickstart: unknown option '$1'; see --help" >&2; exit 2 ;;
  esac
  shift
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."
repo=$PWD
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1 MSBUILDDISABLENODEREUSE=1 NO_COLOR=1 LC_ALL=C.UTF-8
began=$SECONDS
step=0
work=
bin=$repo/artifacts/quickstart/bin
children=()

say() { step=$((step + 1)); printf '\n[%3ds] %d. %s\n' "$((SECONDS - began))" "$step" "$*" >&2; }
note() { printf '        %s\n' "$*" >&2; }
fail() { printf '\nquickstart: %s\n' "$*" >&2; exit 1; }

clean_up() {
  local status=$? pid
  for pid in ${children[@]+"${children[@]}"}; do kill "$pid" 2> /dev/null || true; done
  for pid in ${children[@]+"${children[@]}"}; do
    for _ in $(seq 50); do kill -0 "$pid" 2> /dev/null || break; sleep 0.1; done
    kill -KILL "$pid" 2> /dev/null || true
  done
  if [ "$status" -ne 0 ] && [ -n "$work" ]; then
    for log in controller agent; do
      [ ! -s "$work/$log.log" ] || { printf '\nlast lines of the %s log:\n' "$log"; tail -n 15 "$work/$log.log"; } >&2
    done
  fi
  if [ -n "$work" ]; then
    if [ "$keep" = yes ]; then printf '\nkept: %s\n' "$work" >&2; else rm -rf "$work"; fi
  fi
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Not for what runs in the background: the shell around a function would be killed in place of the program.
virtbackup() { "$bin/virtbackup" "$@"; }

# One command of a guest agent: guest SOCKET JSON. The connection stays open until the answer is here: QEMU drops what a
# guest still has to say when its peer is done sending.
guest() {
  local id=$RANDOM$RANDOM line answer= in out pid
  coproc AGENT { exec socat - "UNIX-CONNECT:$1" 2> /dev/null; }
  in=${AGENT[1]:-} out=${AGENT[0]:-} pid=${AGENT_PID:-}
  [ -n "$in" ] && [ -n "$out" ] || return 1
  printf '{"execute":"guest-sync","arguments":{"id":%d}}\n%s\n' "$id" "$2" 2> /dev/null >&"$in" || true
  while read -r -t 5 line <&"$out"; do
    if [ "$line" = "{\"return\": $id}" ]; then
      read -r -t 10 answer <&"$out" || true
      break
    fi
  done
  kill "$pid" 2> /dev/null || true
  wait "$pid" 2> /dev/null || true
  [ -n "$answer" ] && printf '%s\n' "$answer"
}

wait_for_guest() {
  local i
  for i in $(seq 120); do
    [ "$(guest "$1" '{"execute":"guest-ping"}' | jq -c .return 2> /dev/null)" = '{}' ] && return 0
    sleep 0.5
  done
  fail "the guest behind $1 did not come up within 60 seconds"
}

# Runs a shell command line in the guest and prints its output: guest_shell SOCKET LINE
guest_shell() {
  local pid state i
  pid=$(guest "$1" "$(jq -cn --arg line "$2" '{execute:"guest-exec",arguments:{path:"/bin/sh",arg:["-c",$line],"capture-output":true}}')" | jq -r .return.pid)
  for i in $(seq 100); do
    state=$(guest "$1" "{\"execute\":\"guest-exec-status\",\"arguments\":{\"pid\":$pid}}")
    if [ "$(jq -r .return.exited <<< "$state")" = true ]; then
      [ "$(jq -r .return.exitcode <<< "$state")" = 0 ] || fail "the guest could not run: $2"
      jq -r '.return["out-data"] // "" | @base64d' <<< "$state"
      return 0
    fi
    sleep 0.2
  done
  fail "the guest did not finish: $2"
}

wait_for_line() {
  local i
  for i in $(seq 150); do
    grep -q "$2" "$1" 2> /dev/null && return 0
    kill -0 "$3" 2> /dev/null || fail "$4 ended early; see its log below"
    sleep 0.2
  done
  fail "$4 did not become ready within 30 seconds"
}

say 'Installing what is missing, building the programs and the guest'
deploy/lab/install-dependencies.sh >&2
mkdir -p "$(dirname "$bin")"
for project in Controller.Host Agent.Host Cli; do
  dotnet publish "src/VirtBackup.$project" -c Release -o "$bin" -v quiet -clp:NoSummary -m:2 > "$bin.log" 2>&1 || { cat "$bin.log" >&2; fail "src/VirtBackup.$project does not build"; }
done
lab=$(deploy/lab/build-guest.sh | tee /dev/stderr | tail -n 1)

work=$(mktemp -d "${TMPDIR:-/tmp}/vb-quick.XXXXXX")
[ ${#work} -le 36 ] || { rmdir "$work"; work=$(mktemp -d /tmp/vb-quick.XXXXXX); } # sockets need short paths
export VIRTBACKUP_CREDENTIALS=$work/operator
port=$((20000 + RANDOM % 20000))

say 'Making a controller: certificate authority, repository, recovery kit'
virtbackup controller init --data "$work/controller" --repository "$work/repository" --listen "127.0.0.1:$port" \
  --server-name 127.0.0.1 --kit "$work/recovery-kit.txt" --operator-credentials "$work/operator" >&2
"$bin/virtbackup" controller run --data "$work/controller" > "$work/controller.log" 2>&1 &
children+=($!)
wait_for_line "$work/controller.log" 'ready: listening' $! 'the controller'

say 'Booting a real VM (QEMU, software emulation) from launch files of its own'
mkdir -p "$work/vm"
cp "$lab/root.qcow2" "$lab/data.qcow2" "$work/vm/"
uuid=$(cat /proc/sys/kernel/random/uuid)
cat > "$work/vm/launch.sh" << LAUNCH
#!/bin/sh
exec qemu-system-x86_64 -machine q35,accel=tcg -cpu max -smp 1 -m 256 -uuid $uuid -name guest=quickstart \\
  -nodefaults -display none -serial file:$work/vm/serial.log \\
  -blockdev driver=qcow2,node-name=root,file.driver=file,file.filename=$work/vm/root.qcow2 \\
  -device virtio-blk-pci,id=disk-root,drive=root \\
  -blockdev driver=qcow2,node-name=data,file.driver=file,file.filename=$work/vm/data.qcow2 \\
  -device virtio-blk-pci,id=disk-data,drive=data \\
  -netdev user,id=n0,restrict=on -device virtio-net-pci,netdev=n0,mac=52:54:00:12:34:56 \\
  -chardev socket,id=qga0,path=$work/vm/agent.sock,server=on,wait=off \\
  -device virtio-serial -device virtserialport,chardev=qga0,name=org.qemu.guest_agent.0 \\
  -qmp unix:$work/vm/qmp.sock,server=on,wait=off \\
  -kernel $lab/vmlinuz -initrd $lab/initrd.gz -append "console=ttyS0 quiet panic=-1 mitigations=off cryptomgr.notests"
LAUNCH
sh "$work/vm/launch.sh" > "$work/vm/qemu.log" 2>&1 &
vm=$!
children+=("$vm")

say 'Enrolling an agent for this host with a one-time token'
mkdir -p "$work/agent"
cat > "$work/agent.yaml" << YAML
home: $work/agent
machines:
  - name: quickstart
    uuid: $uuid
    qmp: $work/vm/qmp.sock
    guest_agent: $work/vm/agent.sock
YAML
virtbackup agent token --output json | jq -r .join_token |
  virtbackup agent enroll - --name "quickstart-host" --home "$work/agent" --controller "127.0.0.1:$port" >&2
wait_for_guest "$work/vm/agent.sock"
"$bin/virtbackup" agent run --config "$work/agent.yaml" > "$work/agent.log" 2>&1 &
children+=($!)
wait_for_line "$work/agent.log" 'ready: connected' $! 'the agent'
for _ in $(seq 60); do
  virtbackup vm list --output json | jq -e --arg id "${uuid//-/}" 'any(.. | .vm_id? // empty; . == $id)' > /dev/null && break
  sleep 0.5
done
virtbackup vm list >&2

backups=()
back_up() {
  local text=$1 result
  guest_shell "$work/vm/agent.sock" "echo $(printf '%s\n' "$text" | base64 -w 0) | base64 -d > /data/marker && sync" > /dev/null
  note "the running guest wrote '$(guest_shell "$work/vm/agent.sock" 'cat /data/marker')' to /data/marker"
  result=$(virtbackup backup run quickstart --output json) || fail 'the backup failed'
  result=$(jq -c '.result.backup + {duration_s: .duration_seconds}' <<< "$result")
  backups+=("$result")
  note "recovery point $(jq -r .point_id <<< "$result"): read $(jq -r .read_bytes <<< "$result") bytes, stored $(jq -r .stored_bytes <<< "$result") bytes, $(jq -r .consistency <<< "$result")-consistent"
}

say 'First backup, of everything, while the guest runs'
back_up "$marker"
say 'Second backup, of what changed since'
back_up "$marker-2"
virtbackup recovery-point list >&2

say 'Losing the VM: its process, its disks, its launch files'
kill -KILL "$vm"
wait "$vm" 2> /dev/null || true
rm -rf "$work/vm"

answers=()
restore() {
  local point=$1 name=$2 began_restore=$SECONDS result socket pid
  result=$(virtbackup restore run "$point" --folder "$work/$name" --name "$name" --output json) || fail "the restore of $point failed"
  result=$(jq -c '.result.restore.details | from_entries' <<< "$result")
  pid=$(jq -r .pid <<< "$result")
  socket=$(jq -r '."guest agent socket"' <<< "$result")
  children+=("$pid")
  wait_for_guest "$socket"
  answer=$(guest_shell "$socket" 'cat /data/marker')
  note "the restored guest booted and read back '$answer' ($((SECONDS - began_restore)) s)"
  answers+=("$(jq -cn --arg point "$point" --arg answer "$answer" --argjson seconds $((SECONDS - began_restore)) '{point_id:$point,read_back:$answer,restore_and_boot_s:$seconds}')")
  kill "$pid" 2> /dev/null || true
}
say 'Restoring the first recovery point and booting it'
restore "$(jq -r .point_id <<< "${backups[0]}")" restored-1
say 'Restoring the second recovery point and booting it'
restore "$(jq -r .point_id <<< "${backups[1]}")" restored-2

first=$(jq -r .read_back <<< "${answers[0]}")
second=$(jq -r .read_back <<< "${answers[1]}")
ok=false
[ "$first" = "$marker" ] && [ "$second" = "$marker-2" ] && ok=true
stored=$(du -sk "$work/repository" | cut -f1)
jq -cn --argjson ok "$ok" --arg marker "$marker" --argjson seconds $((SECONDS - began)) --argjson repository_kib "$stored" \
  --argjson backups "[$(IFS=,; echo "${backups[*]}")]" --argjson restores "[$(IFS=,; echo "${answers[*]}")]" \
  '{ok:$ok,marker:$marker,seconds:$seconds,repository_kib:$repository_kib,
    points:[range(0;2) as $i | {point_id:$backups[$i].point_id,read_bytes:$backups[$i].read_bytes,stored_bytes:$backups[$i].stored_bytes,
      backup_s:$backups[$i].duration_s,read_back:$restores[$i].read_back,restore_and_boot_s:$restores[$i].restore_and_boot_s}]}'
[ "$ok" = true ]
