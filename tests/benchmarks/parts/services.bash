# A controller and an agent with one image as a machine, on loopback, for benchmarks. Sourced; needs $bin, $work, $disk and fail().
# shellcheck shell=bash
controller_pid='' agent_pid=''
ticks=$(getconf CLK_TCK)

# cpu_of PID: CPU seconds of a process and its ended children, from proc(5) fields 14 to 17
cpu_of() { awk -v t="$ticks" '{ sub(/^.*\) /, ""); print ($12 + $13 + $14 + $15) / t }' "/proc/$1/stat"; }

stop_services() {
  local pid
  for pid in $agent_pid $controller_pid; do kill "$pid" 2> /dev/null || true; wait "$pid" 2> /dev/null || true; done
  controller_pid='' agent_pid=''
}

# wait_for FILE TEXT PID: until a service has said so
wait_for() {
  local i
  for i in $(seq 300); do
    grep -q "$2" "$1" 2> /dev/null && return 0
    kill -0 "$3" 2> /dev/null || { cat "$1" >&2; fail 'a service ended early'; }
    sleep 0.1
  done
  cat "$1" >&2
  fail 'a service did not become ready'
}

# start_services: a new repository below $work/vb; the machine is called bench
start_services() {
  local port=$((20000 + RANDOM % 20000)) vb=$work/vb
  rm -rf "$vb"
  mkdir -p "$vb/agent"
  "$bin/virtbackup" controller init --data "$vb/controller" --repository "$vb/repository" --listen "127.0.0.1:$port" --server-name 127.0.0.1 \
    --kit "$vb/kit.txt" --operator-credentials "$vb/operator" > "$vb/init.log" 2>&1 || { cat "$vb/init.log" >&2; fail 'controller init failed'; }
  "$bin/virtbackupd" --data "$vb/controller" > "$vb/controller.log" 2>&1 &
  controller_pid=$!
  wait_for "$vb/controller.log" 'ready: listening' "$controller_pid"
  printf 'home: %s\nimages:\n  - name: bench\n    uuid: 5f0b9cbe-6c0f-4a55-8f0f-0d6a7a4b3c21\n    disks:\n      - name: disk\n        path: %s\n        format: raw\n' "$vb/agent" "$disk" > "$vb/agent.yaml"
  "$bin/virtbackup" agent token --output json | jq -r .join_token | "$bin/virtbackup" agent enroll - --name bench --home "$vb/agent" --controller "127.0.0.1:$port" > /dev/null
  "$bin/virtbackup-agent" --config "$vb/agent.yaml" > "$vb/agent.log" 2>&1 &
  agent_pid=$!
  wait_for "$vb/agent.log" 'ready: connected' "$agent_pid"
  for _ in $(seq 100); do
    "$bin/virtbackup" vm list --output json | grep -q '"bench"' && return 0
    sleep 0.1
  done
  fail 'the agent did not report its machine'
}
