#!/usr/bin/env bash
# Installs what the lab and the tests need on Debian 12: QEMU, its image tools, libvirt, an NBD server, a TPM emulator, file-system tools,
# tools for networks, and the backup program beside which guests' latencies are measured.
# Installs nothing, and needs no privileges, when everything is already there.
#
# usage: deploy/lab/install-dependencies.sh [--peers] [--object-stores]
#   --peers           also install the backup programs that the comparison measurements run against
#   --object-stores   also install Ceph with its S3 gateway, and Azurite
# environment: VIRTBACKUP_LAB   where Azurite is put (default: .lab in the repository)
#
# Services are never started: a policy file that forbids it is put in place for the duration of the installation.
set -euo pipefail

export PATH="$PATH:/usr/sbin:/sbin"

# command:package
wanted=(
  qemu-system-x86_64:qemu-system-x86
  qemu-img:qemu-utils
  libvirtd:libvirt-daemon
  virsh:libvirt-clients
  nbdkit:nbdkit
  nbdinfo:libnbd-bin
  mke2fs:e2fsprogs
  mkfs.xfs:xfsprogs
  mkntfs:ntfs-3g
  mkswap:util-linux
  pvcreate:lvm2
  sfdisk:fdisk
  losetup:mount
  busybox:busybox-static
  flock:util-linux
  taskset:util-linux
  nsenter:util-linux
  ip:iproute2
  tc:iproute2
  openssl:openssl
  dpkg-deb:dpkg
  curl:curl
  socat:socat
  swtpm:swtpm
  swtpm_setup:swtpm-tools
  jq:jq
  lz4:lz4
  virtnbdbackup:virtnbdbackup
)
object_stores=(
  ceph-mon:ceph-mon
  ceph-osd:ceph-osd
  ceph-authtool:ceph-common
  radosgw:radosgw
  node:nodejs
  npm:npm
)
peers=(
  restic:restic
  borg:borgbackup
  zstd:zstd
)

say() { printf 'install-dependencies: %s\n' "$*"; }
fail() { printf 'install-dependencies: %s\n' "$*" >&2; exit 1; }

has_object_stores=no
for argument in "$@"; do
  case "$argument" in
    --object-stores) wanted+=("${object_stores[@]}") has_object_stores=yes ;;
    --peers) wanted+=("${peers[@]}") ;;
    -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) fail "unknown option '$argument'; usage: install-dependencies.sh [--peers] [--object-stores]" ;;
  esac
done

missing_packages() {
  local pair
  for pair in "${wanted[@]}"; do
    command -v "${pair%%:*}" > /dev/null || printf '%s\n' "${pair#*:}"
  done
  # A driver of the daemon, and no command: the tests run a libvirtd of their own, never the machine's.
  compgen -G '/usr/lib*/*/libvirt/connection-driver/libvirt_driver_qemu.so' > /dev/null || printf '%s\n' libvirt-daemon-driver-qemu
}

check_dotnet() {
  local needed=10
  command -v dotnet > /dev/null ||
    fail "the .NET SDK $needed is not installed; get it from https://dotnet.microsoft.com/download and put 'dotnet' on the PATH"
  dotnet --list-sdks | grep -q "^$needed\." ||
    fail "'dotnet' is here, but not its SDK $needed; get it from https://dotnet.microsoft.com/download"
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

# apt-get fails at once when another one holds the list lock, so it gets a few more chances.
apt() {
  local attempt
  for attempt in 1 2 3 4 5 6; do
    if as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" > "$log" 2>&1 9<&-; then return 0; fi
    grep -Eq 'Could not get lock|Unable to lock|Unable to acquire' "$log" || break
    say "another package installation is running; waiting (attempt $attempt)"
    sleep 10
  done
  cat "$log" >&2
  return 1
}

# Azurite comes from npm, into the lab's folder: no Debian package has it.
azurite_version=3.35.0
lab=${VIRTBACKUP_LAB:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/.lab}
azurite=$lab/azurite-$azurite_version

install_azurite() {
  local new=$azurite.new.$$
  if [ "$has_object_stores" = no ] || [ -x "$azurite/node_modules/.bin/azurite-blob" ]; then return 0; fi
  say "installing azurite $azurite_version into $azurite"
  mkdir -p "$new"
  npm install --prefix "$new" --no-audit --no-fund --no-save --loglevel=error "azurite@$azurite_version" > /dev/null ||
    fail "azurite could not be installed by npm; check the network and npm's registry"
  # Another installation may have been faster.
  mv -T "$new" "$azurite" 2> /dev/null || rm -rf "$new"
  [ -x "$azurite/node_modules/.bin/azurite-blob" ] || fail "$azurite is in the way and not whole; remove it"
}

lists_are_old() {
  [ -z "$(find /var/lib/apt/lists -maxdepth 1 -name '*Packages*' -mtime -7 -print -quit 2> /dev/null)" ]
}

log=
policy=/usr/sbin/policy-rc.d
policy_is_ours=no
clean_up() {
  if [ "$policy_is_ours" = yes ]; then as_root rm -f "$policy"; fi
  if [ -n "$log" ]; then rm -f "$log"; fi
}
trap clean_up EXIT

end_if_all_is_there() {
  mapfile -t missing < <(missing_packages)
  # Building the guest downloads packages without installing them, which also needs the lists.
  if [ "${#missing[@]}" -eq 0 ] && apt-cache show linux-image-cloud-amd64 > /dev/null 2>&1; then
    install_azurite
    check_dotnet
    say 'everything is installed'
    exit 0
  fi
}
end_if_all_is_there

# One at a time: whoever put the policy file in place removes it, also from under the installation of another.
if [ -d /var/lib/dpkg ] && command -v flock > /dev/null; then
  exec 9< /var/lib/dpkg
  flock -w 900 9 || fail 'another installation has held /var/lib/dpkg for 15 minutes'
  end_if_all_is_there
fi

command -v apt-get > /dev/null || fail "this is not Debian; install these by hand: ${missing[*]}"
if [ "$(id -u)" -ne 0 ] && ! sudo -n true 2> /dev/null; then
  fail "these packages are missing: ${missing[*]:-package lists}; run this script as root or with sudo"
fi
log=$(mktemp)

if lists_are_old; then
  say 'reading the package lists'
  apt update || fail 'apt-get update failed; check the package sources and the network'
fi
if [ "${#missing[@]}" -gt 0 ]; then
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" > /dev/null
    policy_is_ours=yes
    as_root chmod 755 "$policy"
  fi
  say "installing ${missing[*]}"
  if ! apt install -y --no-install-recommends "${missing[@]}"; then
    say 'once more with new package lists'
    apt update || fail 'apt-get update failed; check the package sources and the network'
    apt install -y --no-install-recommends "${missing[@]}" || fail "could not install ${missing[*]}"
  fi
  mapfile -t missing < <(missing_packages)
  [ "${#missing[@]}" -eq 0 ] || fail "still missing after the installation: ${missing[*]}"
fi
install_azurite
check_dotnet
say 'done'
