#!/usr/bin/env bash
# Runs Azurite, Microsoft's emulator of Azure Blob Storage, on the loopback interface until it is told to stop.
#
# usage: deploy/lab/run-azurite.sh DIR PORT
# environment: VIRTBACKUP_LAB   where install-dependencies.sh --object-stores has put it (default: .lab in the repository)
#
# Prints "ready" when blobs can be used: account vblab, container virtbackup, key in base64 dmlydGJhY2t1cC1sYWJvcmF0b3J5.
# Azurite has no immutability policies: what needs them cannot be tested with it.
set -euo pipefail

export LC_ALL=C.UTF-8
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lab=${VIRTBACKUP_LAB:-$(cd "$here/../.." && pwd)/.lab}
program=$lab/azurite-3.35.0/node_modules/.bin/azurite-blob
key=dmlydGJhY2t1cC1sYWJvcmF0b3J5
version=2021-08-06

say() { printf 'run-azurite: %s\n' "$*"; }
fail() { printf 'run-azurite: %s\n' "$*" >&2; exit 1; }

[ $# -eq 2 ] || fail 'usage: run-azurite.sh DIR PORT'
folder=$1 port=$2
for tool in node openssl curl; do
  command -v "$tool" > /dev/null || fail "'$tool' is missing; run deploy/lab/install-dependencies.sh --object-stores first"
done
[ -x "$program" ] || fail "Azurite is missing in $lab; run deploy/lab/install-dependencies.sh --object-stores first"
mkdir -p "$folder"

AZURITE_ACCOUNTS=vblab:$key "$program" -l "$folder" --blobHost 127.0.0.1 --blobPort "$port" --disableTelemetry --silent --skipApiVersionCheck > "$folder/out" 2>&1 &
server=$!
# shellcheck disable=SC2317 # the trap calls it
stop() {
  trap - EXIT INT TERM
  kill -TERM "$server" 2> /dev/null || true
  wait "$server" 2> /dev/null || true
}
trap stop EXIT
trap 'exit 0' INT TERM

until (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; do
  kill -0 "$server" 2> /dev/null || fail "it ended at once: $(cat "$folder/out")"
  [ "$SECONDS" -lt 60 ] || fail 'it did not come up within 60 s'
  sleep 0.1
done

date=$(date -u '+%a, %d %b %Y %H:%M:%S GMT')
to_sign=$(printf 'PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:%s\nx-ms-version:%s\n/vblab/vblab/virtbackup\nrestype:container' "$date" "$version")
hex=$(printf '%s' "$key" | base64 -d | od -An -v -tx1 | tr -d ' \n')
signature=$(printf '%s' "$to_sign" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$hex" -binary | base64)
curl -sS -f -o /dev/null --max-time 30 -X PUT -H "x-ms-date: $date" -H "x-ms-version: $version" -H "Authorization: SharedKey vblab:$signature" -H 'Content-Length: 0' \
  "http://127.0.0.1:$port/vblab/virtbackup?restype=container" || fail 'the container could not be made'
say ready
wait "$server"
