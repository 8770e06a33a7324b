#!/usr/bin/env bash
# Runs a small Ceph cluster with an S3 gateway on the loopback interface, as the user who calls it, until it is told to stop.
#
# usage: deploy/lab/run-ceph.sh DIR MONITOR_PORT S3_PORT [--osds N] [--on-disk]
#   DIR         a folder that does not exist yet: data, logs, and run/NAME.pid of every daemon
#   --osds N    storage daemons, each object is kept on every one of them (default 1)
#   --on-disk   objects in files below DIR (bluestore) instead of in memory
#
# Prints "ready" when buckets can be used: key VIRTBACKUPLAB, secret virtbackup-laboratory, bucket virtbackup.
# SIGTERM or SIGINT ends it with all its daemons; they share its process group.
set -euo pipefail

export PATH="$PATH:/usr/sbin:/sbin" LC_ALL=C.UTF-8

say() { printf 'run-ceph: %s\n' "$*"; }
fail() { printf 'run-ceph: %s\n' "$*" >&2; exit 1; }

[ $# -ge 3 ] || fail 'usage: run-ceph.sh DIR MONITOR_PORT S3_PORT [--osds N] [--on-disk]'
folder=$1 monitor_port=$2 s3_port=$3
shift 3
osds=1
store=memstore
while [ $# -gt 0 ]; do
  case "$1" in
    --osds) osds=${2:?--osds needs a number}; shift ;;
    --on-disk) store=bluestore ;;
    *) fail "unknown option '$1'" ;;
  esac
  shift
done
for program in ceph-mon ceph-osd ceph-authtool monmaptool ceph radosgw radosgw-admin curl openssl; do
  command -v "$program" > /dev/null || fail "'$program' is missing; run deploy/lab/install-dependencies.sh --object-stores first"
done
mkdir "$folder" || fail "the folder '$folder' exists or cannot be made"
folder=$(cd "$folder" && pwd)
mkdir "$folder"/{mon,run,log}

daemons=()
# shellcheck disable=SC2317 # the trap calls it
stop() {
  trap - EXIT INT TERM
  if [ "${#daemons[@]}" -gt 0 ]; then
    kill -TERM "${daemons[@]}" 2> /dev/null || true
    for _ in 1 2 3 4 5 6 7 8 9 10; do
      kill -0 "${daemons[@]}" 2> /dev/null || break
      sleep 0.2
    done
    kill -KILL "${daemons[@]}" 2> /dev/null || true
  fi
}
trap stop EXIT
trap 'exit 0' INT TERM

# begin NAME COMMAND...: a daemon in the foreground of its own job.
begin() {
  local name=$1
  shift
  "$@" -f > "$folder/log/$name.out" 2>&1 &
  daemons+=($!)
  printf '%s\n' "$!" > "$folder/run/$name.pid"
}

# await SECONDS WHAT COMMAND...
await() {
  local until=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" > /dev/null 2>&1; do
    [ "$SECONDS" -lt "$until" ] || fail "$what did not come up; the logs are in $folder/log"
    sleep 0.2
  done
}

fsid=$(cat /proc/sys/kernel/random/uuid)
export CEPH_CONF=$folder/ceph.conf
# Authentication stays on: without it the gateway never begins to listen.
cat > "$CEPH_CONF" << END
[global]
fsid = $fsid
mon host = [v2:127.0.0.1:$monitor_port/0]
ms bind msgr1 = false
ms bind msgr2 = true
public addr = 127.0.0.1
cluster addr = 127.0.0.1
public network = 127.0.0.0/8
debug mon = 0/0
debug osd = 0/0
debug rgw = 1/1
debug ms = 0/0
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
osd pool default size = $osds
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data = $folder/mon
mon pg warn min per osd = 0
mon max pg per osd = 2000
run dir = $folder/run
log file = $folder/log/\$name.log
admin socket = $folder/run/\$name.asok
keyring = $folder/keyring
osd data = $folder/osd\$id
osd objectstore = $store
memstore device bytes = 4294967296
bluestore block size = 10737418240
bluestore block create = true
bluestore fsck on mount = false
osd memory target = 939524096
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:$s3_port
rgw dns name = localhost
rgw enable usage log = false
rgw init timeout = 60
rgw thread pool size = 64
END

keys() { ceph-authtool "$folder/keyring" --gen-key "$@" > /dev/null; }
ceph-authtool --create-keyring "$folder/keyring" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mds 'allow *' --cap mgr 'allow *' > /dev/null
keys -n mon. --cap mon 'allow *'
keys -n client.rgw --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
for ((osd = 0; osd < osds; osd++)); do
  keys -n "osd.$osd" --cap mon 'allow profile osd' --cap mgr 'allow profile osd' --cap osd 'allow *'
done
monmaptool --create --clobber --fsid "$fsid" --addv a "[v2:127.0.0.1:$monitor_port]" "$folder/monmap" > /dev/null
ceph-mon --mkfs -i a --monmap "$folder/monmap" --keyring "$folder/keyring"
begin mon.a ceph-mon -i a
for ((osd = 0; osd < osds; osd++)); do
  mkdir "$folder/osd$osd"
  uuid=$(cat /proc/sys/kernel/random/uuid)
  ceph --connect-timeout 60 osd new "$uuid" > /dev/null
  ceph-osd -i "$osd" --mkfs --osd-uuid "$uuid" > "$folder/log/mkfs$osd.out" 2>&1 || fail "a storage daemon could not be set up; see $folder/log"
  begin "osd.$osd" ceph-osd -i "$osd"
done
osds_up() { ceph --connect-timeout 5 osd stat -f json 2> /dev/null | grep -Eq "\"num_up_osds\": *$osds[,}]"; }
await 90 'the storage daemons' osds_up
begin rgw radosgw -n client.rgw
listening() { (exec 3<> "/dev/tcp/127.0.0.1/$s3_port"); }
await 120 'the gateway' listening
radosgw-admin user create --uid=lab --display-name=lab --access-key=VIRTBACKUPLAB --secret=virtbackup-laboratory > /dev/null 2> "$folder/log/user.out" ||
  fail "the user could not be made; see $folder/log/user.out"
# The first requests of a new gateway may be answered with an error.
bucket() {
  local date signature
  date=$(date -u '+%a, %d %b %Y %H:%M:%S GMT')
  signature=$(printf 'PUT\n\n\n%s\n/virtbackup' "$date" | openssl dgst -sha1 -hmac virtbackup-laboratory -binary | base64)
  curl -sf -o /dev/null --max-time 60 -X PUT -H "Date: $date" -H "Authorization: AWS VIRTBACKUPLAB:$signature" "http://127.0.0.1:$s3_port/virtbackup"
}
await 60 'the bucket' bucket
say ready
# A storage daemon may be killed by a test; the cluster ends with this script.
while true; do
  wait -n || true
  [ -n "$(jobs -r)" ] || fail 'all daemons have ended'
done
