#!/usr/bin/env bash
# Sets everything up, builds the solution and runs every test project and every proof.
#
# usage: tests/run.sh [--only PATTERN] [--no-build] [--limit SECONDS] [--sabotages one|all]
#   --only PATTERN    only test projects and proofs whose name contains PATTERN (a shell pattern)
#   --no-build        no set-up and no build: run what is built
#   --limit SECONDS   time limit of each test project (default 2100); a third of it for each run of a proof
#   --sabotages WHICH of every sixth proof 'one' (default), other ones with every commit; or 'all', which takes many minutes more
#
# Each test counts as one. Each proof (tests/proofs/*.sh) counts as one, and so does each sabotage of it that is planted,
# which must make it fail. A skipped test, a crash and an exceeded time limit are failures. Logs: artifacts/tests.
# The last line is always "N passed, N failed"; the exit code is 0 only when something ran and nothing failed.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export MSBUILDDISABLENODEREUSE=1 DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1 NO_COLOR=1 LC_ALL=C.UTF-8

configuration=Release
logs=$PWD/artifacts/tests
only=
build=yes
limit=2100
sabotages=one

passed=0
failed=0
failures=()
summary=()
running=()
scratch=
# What tests start lives for seconds: half of its processor time would go into compiling methods twice and into guarding their pages.
# What is measured runs without, as installed programs do.
brief=(env DOTNET_TC_CallCountThreshold=400 DOTNET_TieredPGO=0 DOTNET_EnableWriteXorExecute=0)

say() { printf '%s\n' "$*"; }

finish() {
  local line
  if [ "${#summary[@]}" -gt 0 ]; then
    say ''
    say 'Summary'
    for line in "${summary[@]}"; do say "  $line"; done
  fi
  if [ "${#failures[@]}" -gt 0 ]; then
    say ''
    say 'Failed'
    for line in "${failures[@]}"; do say "  $line"; done
  fi
  say ''
  if [ $((passed + failed)) -eq 0 ]; then say 'Nothing ran.'; fi
  say "$passed passed, $failed failed"
  [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}

stop_running() {
  local leader
  # The programs of a test share the process group of its time limit, so none of them outlives it. What has no group is beside.
  for leader in "${running[@]}"; do kill -KILL -- "-$leader" 2> /dev/null || kill -TERM "$leader" 2> /dev/null || true; done
  running=()
}

# shellcheck disable=SC2317 # the trap calls it
clean_up() {
  stop_running
  if [ -n "$scratch" ]; then rm -rf "$scratch"; fi
}

give_up() {
  failed=$((failed + 1))
  failures+=("$1")
  finish
  exit 1
}

trap clean_up EXIT
trap 'give_up "interrupted"' INT TERM

while [ $# -gt 0 ]; do
  case "$1" in
    --only) only=${2:?--only needs a pattern}; shift ;;
    --limit) limit=${2:?--limit needs seconds}; shift ;;
    --no-build) build=no ;;
    --sabotages)
      sabotages=${2:?--sabotages needs one or all}
      [[ $sabotages == one || $sabotages == all ]] || give_up "--sabotages is one or all, not '$sabotages'"
      shift
      ;;
    -h | --help) sed -n '2,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) give_up "unknown option '$1'; see tests/run.sh --help" ;;
  esac
  shift
done

# wanted NAME: whether --only selects it.
# shellcheck disable=SC2053 # the pattern is meant to be one
wanted() { [[ -z $only || $1 == *$only* ]]; }

test_projects() {
  local project name
  for project in tests/*.Tests/*.csproj; do
    [ -e "$project" ] || continue
    name=$(basename "$project" .csproj)
    wanted "$name" || continue
    [ -n "$(find "$(dirname "$project")" -name '*.cs' -not -path '*/bin/*' -not -path '*/obj/*' -print -quit)" ] || continue
    say "$name"
  done
}

proofs() {
  local proof
  for proof in tests/proofs/*.sh; do
    [ -e "$proof" ] || continue
    if wanted "$(basename "$proof" .sh)"; then say "$proof"; fi
  done
}

set_up() {
  local started=$SECONDS said=$logs/build.said built code=0
  say '== Set-up'
  # What is fetched and what is computed do not wait for each other.
  rm -f "$said"
  # In a process group of its own, as what begin starts.
  set -m
  compile > "$said" 2>&1 < /dev/null &
  built=$!
  set +m
  running+=("$built")
  bash deploy/lab/install-dependencies.sh --object-stores || give_up 'set-up: deploy/lab/install-dependencies.sh'
  bash deploy/lab/build-guest.sh || give_up 'set-up: deploy/lab/build-guest.sh'
  say '== Build'
  wait "$built" || code=$?
  running=()
  cat "$said"
  if [ "$code" -ne 0 ]; then give_up 'build'; fi
  say "   done in $((SECONDS - started)) s"
}

compile() {
  local log=$logs/build.log
  # One compiler for all projects: to start one for each takes twice as long in all.
  if ! { dotnet restore VirtBackup.sln -v q &&
    dotnet build VirtBackup.sln -c "$configuration" --no-restore -m:2 -v q -clp:NoSummary -p:UseSharedCompilation=true; } > "$log" 2>&1; then
    # MSBuild says each error once per project that meets it.
    grep -E ': error |error :|error [A-Z]+[0-9]+' "$log" | sort -u | head -n 50 || tail -n 50 "$log"
    say "All of it is in $log"
    return 1
  fi
  dotnet build-server shutdown --vbcscompiler > /dev/null 2>&1 || true
  bash tests/compile-ahead.sh "$configuration"
}

# begin LOG COMMAND...: starts a command in a process group of its own, $!, under the time limit.
begin() {
  local log=$1
  shift
  TMPDIR=$scratch timeout --signal=TERM --kill-after=15 "$limit" "${brief[@]}" "$@" < /dev/null > "$log" 2>&1 &
  running+=($!)
}

# limited LOG COMMAND...: runs a command likewise, alone; its exit code is in $code. The caller may have a $limit of its own.
limited() {
  code=0
  begin "$@"
  wait "$!" || code=$?
  stop_running
}

timed_out() { [ "$code" -eq 124 ] || [ "$code" -eq 137 ]; }

# fail NAME REASON LOG
fail() {
  failed=$((failed + 1))
  failures+=("$1: $2")
  say "   FAILED: $2"
  tail -n 40 "$3" | sed 's/^/   | /'
}

# counts REPORT: "passed failed" of an xunit XML report; what was skipped or not run has failed. Nothing if it is incomplete.
counts() {
  awk 'BEGIN { RS = "<" }
    function attribute(name) { return match($0, "[ \n]" name "=\"[0-9]+\"") ? substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 4) : 0 }
    /^assembly[ \n]/ { passed += attribute("passed"); failed += attribute("failed") + attribute("skipped") + attribute("not-run") + attribute("errors") }
    /^\/assemblies>/ { complete = 1 }
    END { if (complete) print passed + 0, failed + 0 }' "$1"
}

# unsuccessful_tests REPORT: the names of the tests that did not pass.
unsuccessful_tests() {
  awk 'BEGIN { RS = "<" }
    /^test[ \n]/ && !/[ \n]result="Pass"/ && match($0, /[ \n]name="[^"]*"/) { print substr($0, RSTART + 7, RLENGTH - 8) }' "$1" |
    sed "s/&quot;/\"/g; s/&apos;/'/g; s/&lt;/</g; s/&gt;/>/g; s/&amp;/\&/g"
}

# judge_project NAME STARTED: counts what a test program that ended with $code has reported.
judge_project() {
  local name=$1 started=$2 report log=$logs/$1.log result= good=0 bad=0 test
  report=$logs/$name.xml
  say "== $name"
  if [ -f "$report" ]; then result=$(counts "$report"); fi
  if timed_out; then
    fail "$name" "it was still running after $limit s and was killed" "$log"
    summary+=("$(printf '%-34s killed after %s s' "$name" "$limit")")
    return
  fi
  if [ -z "$result" ]; then
    fail "$name" "it ended with exit code $code and left no report" "$log"
    bad=1
  else
    read -r good bad <<< "$result"
    passed=$((passed + good))
    failed=$((failed + bad))
    if [ "$bad" -gt 0 ]; then
      while IFS= read -r test; do failures+=("$test"); done < <(unsuccessful_tests "$report")
      say "   $bad failed; the log $log says:"
      tail -n 200 "$log" | sed 's/^/   | /'
    elif [ "$code" -ne 0 ]; then
      fail "$name" "it ended with exit code $code though its report has no failure" "$log"
      bad=1
    elif [ "$good" -eq 0 ]; then
      fail "$name" 'it has code but no tests' "$log"
      bad=1
    fi
  fi
  summary+=("$(printf '%-34s %5s passed %5s failed %6s s' "$name" "$good" "$bad" "$((SECONDS - started))")")
  say "   $good passed, $bad failed, $((SECONDS - started)) s"
}

# run_project NAME: its test program, and what that reported.
run_project() {
  local name=$1 started=$SECONDS program threads code
  rm -f "$logs/$name.xml"
  : > "$logs/$name.log"
  program=$(find "tests/$name/bin/$configuration" -maxdepth 2 -type f -name "$name" -perm -u+x -print -quit 2> /dev/null || true)
  if [ -z "$program" ]; then
    say "== $name"
    fail "$name" 'it is not built' "$logs/$name.log"
    summary+=("$(printf '%-34s %5s passed %5s failed %6s s' "$name" 0 1 0)")
    return
  fi
  threads=$(nproc)
  # They wait most of their time: for guests to start, for what libvirt and agents look at every so often.
  if [[ $name == *EndToEnd* || $name == *Hypervisors* ]]; then threads=$((threads + 1)); fi
  limited "$logs/$name.log" "$program" -xml "$logs/$name.xml" -maxThreads "$threads" -noColor -noLogo
  judge_project "$name" "$started"
}

last_line() { awk 'NF { line = $0 } END { print line }' "$1"; }

run_proof() {
  local proof=$1 name started=$SECONDS log line code sabotage outcome limit=$((limit / 3))
  local -a brief=("${brief[@]}")
  # A tenth of a proof's processor time; test programs live longer and would be slower by as much.
  if [ "${#brief[@]}" -gt 0 ]; then brief+=(DOTNET_TC_CallCountingDelayMs=3000); fi
  name=$(basename "$proof" .sh)
  log=$logs/proof-$name.log
  say "== proof $name"
  limited "$log" bash "$proof" --short
  line=$(last_line "$log")
  outcome=failed
  if timed_out; then
    fail "proof $name" "it was still running after $limit s and was killed" "$log"
  elif [ "$code" -ne 0 ]; then
    fail "proof $name" "exit code $code: $line" "$log"
  elif [[ $line != *': PASS'* ]]; then
    fail "proof $name" "it did not end with a line 'NAME: PASS ...'" "$log"
  else
    passed=$((passed + 1))
    outcome=passed
    say "   $line"
  fi
  summary+=("$(printf '%-34s %-19s %6s s  %s' "proof $name" "$outcome" "$((SECONDS - started))" "$line")")

  limited "$logs/proof-$name.sabotages" bash "$proof" --sabotage list
  if [ "$code" -ne 0 ]; then
    fail "proof $name" "'--sabotage list' ended with exit code $code" "$logs/proof-$name.sabotages"
    return
  fi
  while read -r sabotage; do
    run_sabotage "$proof" "$name" "$sabotage"
  done < <(chosen_sabotages "$logs/proof-$name.sabotages")
}

# chosen_sabotages LIST: their names; of many commits each proof, and each of its sabotages, gets its turn.
chosen_sabotages() {
  local names turn
  mapfile -t names < <(awk 'NF { print $1 }' "$1")
  if [ "$sabotages" = one ] && [ "${#names[@]}" -gt 0 ]; then
    turn=$(git rev-parse HEAD 2> /dev/null || date +%F)
    turn=$(printf '%s %s' "$turn" "${1##*/}" | cksum | cut -d ' ' -f 1)
    if [ $((turn % 6)) -eq 0 ]; then names=("${names[turn / 6 % ${#names[@]}]}"); else names=(); fi
  fi
  if [ "${#names[@]}" -gt 0 ]; then printf '%s\n' "${names[@]}"; fi
}

# A sabotaged proof has to end in its own verdict: a crash would say nothing about what it can detect.
run_sabotage() {
  local proof=$1 name=$2 sabotage=$3 started=$SECONDS log=$logs/proof-$2-$3.log line code outcome=failed
  limited "$log" bash "$proof" --short --sabotage "$sabotage"
  line=$(last_line "$log")
  if timed_out; then
    fail "proof $name --sabotage $sabotage" "it was still running after $limit s and was killed" "$log"
  elif [ "$code" -eq 0 ]; then
    fail "proof $name --sabotage $sabotage" 'the proof passed although it was sabotaged' "$log"
  elif [[ $line != *': FAIL'* ]]; then
    fail "proof $name --sabotage $sabotage" "exit code $code, but no last line 'NAME: FAIL ...'" "$log"
  else
    passed=$((passed + 1))
    outcome='caught'
    say "   sabotage $sabotage: caught"
  fi
  summary+=("$(printf '%-34s %-19s %6s s' "  sabotage $sabotage" "$outcome" "$((SECONDS - started))")")
}

# alone PROOF: it measures time or memory, and says so.
alone() { grep -q '^# The suite runs it alone\.' "$1"; }

# run_beside COMMAND NAME...: runs COMMAND with each of them, three at a time.
declare -A names=()
run_beside() {
  local command=$1 item name
  shift
  for item in "$@"; do
    if [ "${#names[@]}" -ge 3 ]; then await; fi
    name=$(basename "$item" .sh)
    rm -f "$logs/$name.result"
    beside "$command" "$item" > "$logs/$name.said" 2>&1 &
    running+=($!)
    names[$!]=$name
  done
}

# beside COMMAND ITEM: runs it in this process, whose counts go to a file.
beside() {
  trap stop_running EXIT
  trap 'exit 1' INT TERM
  passed=0 failed=0 failures=() summary=() running=()
  "$1" "$2"
  declare -p passed failed failures summary > "$logs/$(basename "$2" .sh).result"
}

# await: adds up the first of run_beside's processes that ends.
await() {
  local ended= good=$passed bad=$failed
  local -a lost=("${failures[@]}") lines=("${summary[@]}")
  wait -n -p ended "${!names[@]}" || true
  cat "$logs/${names[$ended]}.said"
  passed=0 failed=1 failures=("${names[$ended]}: it left no result") summary=()
  # shellcheck source=/dev/null # written by beside
  if [ -f "$logs/${names[$ended]}.result" ]; then . <(sed 's/^declare -[-a]* //' "$logs/${names[$ended]}.result"); fi
  passed=$((good + passed))
  failed=$((bad + failed))
  failures=("${lost[@]}" "${failures[@]}")
  summary=("${lines[@]}" "${summary[@]}")
  unset "names[$ended]"
  running=("${!names[@]}")
}

mkdir -p "$logs"
if [ "$build" = yes ]; then set_up; fi
scratch=$(mktemp -d /tmp/vbtest.XXXXXX)
# The libvirtd of tests runs without privileges, and has its folders below.
chmod 711 "$scratch"
# The longest first. What measures comes last, alone.
mapfile -t selected < <(test_projects | awk '{ print /Hypervisors|EndToEnd/ ? 0 : 1, $0 }' | sort -s -n -k 1,1 | cut -d ' ' -f 2)
run_beside run_project "${selected[@]}"
mapfile -t selected < <(proofs)
measuring=()
for proof in "${selected[@]}"; do
  if alone "$proof"; then measuring+=("$proof"); else run_beside run_proof "$proof"; fi
done
while [ "${#names[@]}" -gt 0 ]; do await; done
brief=()
for proof in "${measuring[@]}"; do run_proof "$proof"; done
if finish; then exit 0; else exit 1; fi
