#!/usr/bin/env bash
# Builds the small Linux guest that the tests back up: Debian's cloud kernel, a busybox initial RAM disk that loads the
# virtio and ATA drivers, and an ext4 root disk with busybox and QEMU's real guest agent. Nothing is mounted and no
# privileges are needed; packages are downloaded and unpacked, not installed.
#
# usage: deploy/lab/build-guest.sh      prints the directory of the guest on its last line
# environment: VIRTBACKUP_LAB           where to keep it (default: .lab in the repository)
#
# Result, in $VIRTBACKUP_LAB/guest: vmlinuz, vmlinux, initrd.gz, root.qcow2 (label vmroot), data.qcow2 (label vmdata, at /data).
# It is kept, and made again only when this script has changed. Concurrent runs wait for each other.
set -euo pipefail

export PATH="$PATH:/usr/sbin:/sbin" LC_ALL=C
umask 022

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
self=$here/$(basename "${BASH_SOURCE[0]}")
lab=${VIRTBACKUP_LAB:-$(cd "$here/../.." && pwd)/.lab}
root_size=64M
data_size=96M
# A driver that is in neither the module directory nor the kernel ends the build. The last line may be absent.
drivers_needed='virtio_pci virtio_blk virtio_scsi sd_mod virtio_console virtio_net virtio_rng virtio_balloon'
drivers_optional='ahci ata_piix ata_generic button evdev'

say() { printf 'build-guest: %s\n' "$*"; }
fail() { printf 'build-guest: %s\n' "$*" >&2; exit 1; }

mkdir -p "$lab"
lab=$(cd "$lab" && pwd)
guest=$lab/guest
debs=$lab/debs
exec 9> "$lab/guest.lock"
flock -w 600 9 || fail "another build has held $lab/guest.lock for 10 minutes"

stamp=$(sha256sum "$self" | cut -d' ' -f1)
if [ -f "$guest/stamp" ] && [ "$(cat "$guest/stamp")" = "$stamp" ]; then
  printf '%s\n' "$guest"
  exit 0
fi

for tool in apt-get dpkg-deb mke2fs qemu-img busybox flock lz4; do
  command -v "$tool" > /dev/null || fail "'$tool' is missing; run deploy/lab/install-dependencies.sh first"
done

# What an interrupted build left behind; nobody else builds while the lock is held.
rm -rf "$lab"/guest.build.* "$lab"/guest.old.*
work=$(mktemp -d "$lab/guest.build.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$debs" "$work/out"

# --- packages ----------------------------------------------------------------------------------------------------
kernel_package=$(apt-cache depends linux-image-cloud-amd64 2> /dev/null | awk '/Depends: linux-image-/ { print $2; exit }')
[ -n "$kernel_package" ] || fail "the package lists do not know linux-image-cloud-amd64; run deploy/lab/install-dependencies.sh"

# fetch PACKAGE: prints the path of its .deb, downloading it when it is not kept yet.
fetch() {
  local found
  found=$(find "$debs" -maxdepth 1 -name "$1_*.deb" -print -quit)
  if [ -z "$found" ]; then
    mkdir -p "$work/download"
    (cd "$work/download" && apt-get download -q -o APT::Sandbox::User=root "$1") > "$work/download.log" 2>&1 ||
      { cat "$work/download.log" >&2; fail "could not download the package $1"; }
    mv "$work/download/$1"_*.deb "$debs/"
    found=$(find "$debs" -maxdepth 1 -name "$1_*.deb" -print -quit)
  fi
  printf '%s\n' "$found"
}

say "fetching $kernel_package, qemu-guest-agent, busybox-static"
kernel_deb=$(fetch "$kernel_package")
agent_deb=$(fetch qemu-guest-agent)
busybox_deb=$(fetch busybox-static)
cd "$work"
mkdir kernel agent busybox
dpkg-deb --fsys-tarfile "$kernel_deb" | tar -x -C kernel ./boot ./lib/modules
dpkg-deb --fsys-tarfile "$agent_deb" | tar -x -C agent
dpkg-deb --fsys-tarfile "$busybox_deb" | tar -x -C busybox
cp kernel/boot/vmlinuz-* out/vmlinuz
cp out/vmlinuz out/vmlinux
# Unpacked, where QEMU can start it so (PVH): a guest unpacks its kernel in emulation, for a sixth of all that its boot costs. Places
# are from the boot protocol (Documentation/arch/x86/boot.rst); the payload's last four bytes are its length. It stays packed where it is
# made in another way.
if grep -q '^CONFIG_PVH=y' kernel/boot/config-* && grep -q '^CONFIG_KERNEL_LZ4=y' kernel/boot/config-*; then
  number_at() { od -An -t "u$2" -j "$1" -N "$2" out/vmlinuz | tr -d ' '; }
  head -c $(($(number_at 588 4) - 4)) <(tail -c "+$((($(number_at 497 1) + 1) * 512 + $(number_at 584 4) + 1))" out/vmlinuz) > packed
  lz4 -dcq packed > unpacked
  [ "$(head -c 4 unpacked | tail -c 3)" = ELF ] || fail "what $kernel_package is unpacked to is no ELF file"
  mv unpacked out/vmlinux
fi

# --- initial RAM disk: the drivers in load order, then the disk labelled vmroot -------------------------------------
say 'making the initial RAM disk'
module_files() { find kernel/lib/modules -name "${1//[-_]/[-_]}.ko" -print -quit; }
is_built_in() { grep -Eq "/${1//[-_]/[-_]}\.ko\$" kernel/lib/modules/*/modules.builtin; }

# load_order MODULE: the module's file after the files of all that it depends on.
load_order() {
  local file dependency
  file=$(module_files "$1")
  [ -n "$file" ] || return 0
  for dependency in $(tr '\0' '\n' < "$file" | sed -n 's/^depends=//p' | tr ',' ' '); do load_order "$dependency"; done
  printf '%s\n' "$file"
}

mkdir -p initrd/{bin,dev,proc,sys,modules,newroot}
for driver in $drivers_needed; do
  [ -n "$(module_files "$driver")" ] || is_built_in "$driver" || fail "the kernel $kernel_package has no driver $driver"
done
for driver in $drivers_needed $drivers_optional; do load_order "$driver"; done | awk '!seen[$0]++' > load-order
# copy_driver FILE: without its signature (include/linux/module_signature.h), which a guest would check in emulation.
copy_driver() {
  local size signature
  cp "$1" initrd/modules/
  if [ "$(tail -c 28 "$1" | tr -d '\0')" = '~Module signature appended~' ]; then
    size=$(stat -c %s "$1")
    signature=$(od -An -t u1 -j $((size - 32)) -N 4 "$1" | awk '{ print (($1 * 256 + $2) * 256 + $3) * 256 + $4 }')
    truncate -s $((size - 28 - 12 - signature)) "initrd/modules/$(basename "$1")"
  fi
}
while read -r file; do
  copy_driver "$file"
  basename "$file"
done < load-order > initrd/modules/order

cp busybox/bin/busybox initrd/bin/busybox
for applet in sh mount insmod switch_root sleep findfs; do ln -s busybox "initrd/bin/$applet"; done
cat > initrd/init <<'INIT'
#!/bin/sh
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
while read -r file; do insmod "/modules/$file"; done < /modules/order
tries=0
while [ "$tries" -lt 200 ]; do
  disk=$(findfs LABEL=vmroot 2>/dev/null) && break
  tries=$((tries + 1))
  sleep 0.05
done
mount -t ext4 -o noatime "$disk" /newroot || exec sh
for dir in dev proc sys; do mount -o move "/$dir" "/newroot/$dir"; done
exec switch_root /newroot /sbin/init
INIT
chmod 755 initrd/init
(cd initrd && find . | LC_ALL=C sort | ../busybox/bin/busybox cpio -o -H newc 2> /dev/null) | gzip -1n > out/initrd.gz

# --- root disk -------------------------------------------------------------------------------------------------------
say 'making the disks'
# /var/run must not be on the disk: the agent keeps its "frozen" mark there, and a guest restored from a backup that was
# taken while frozen would otherwise believe that it still is.
mkdir -p root/{bin,sbin,dev,proc,sys,tmp,run,root,data,lib64,var,usr/bin,usr/sbin,etc/qemu,etc/acpi/PWRF}
ln -s ../run root/var/run
cp busybox/bin/busybox root/bin/busybox
while read -r applet; do
  [ "$applet" = busybox ] || ln -s busybox "root/bin/$applet"
done < <(busybox/bin/busybox --list)
ln -s ../bin/busybox root/sbin/init
cp agent/usr/sbin/qemu-ga root/usr/sbin/qemu-ga
ldd agent/usr/sbin/qemu-ga > libraries
if grep 'not found' libraries >&2; then fail 'the guest agent needs libraries that are not installed here'; fi
grep -o '/[^ ]*' libraries | while read -r library; do install -D "$(realpath "$library")" "root$library"; done

printf 'root::0:0:root:/root:/bin/sh\n' > root/etc/passwd
printf 'root:x:0:\n' > root/etc/group
printf 'labguest\n' > root/etc/hostname
printf 'ID=labguest\nNAME="Lab guest"\nVERSION_ID=1\nPRETTY_NAME="Lab guest 1"\n' > root/etc/os-release
cat > root/etc/qemu/fsfreeze-hook <<'HOOK'
#!/bin/sh
echo "$(date +%s) $1" >> /run/fsfreeze.log
HOOK
cat > root/etc/acpi/PWRF/00000080 <<'POWER'
#!/bin/sh
exec poweroff
POWER
cat > root/etc/inittab <<'TAB'
::sysinit:/etc/rc
::respawn:/usr/sbin/qemu-ga -m virtio-serial -p /dev/virtio-ports/org.qemu.guest_agent.0 -F/etc/qemu/fsfreeze-hook
::respawn:/etc/lab-agent
::respawn:/bin/acpid -d -l /run/acpid.log
ttyS0::askfirst:-/bin/sh
::ctrlaltdel:/bin/reboot
::shutdown:/bin/sync
::shutdown:/bin/umount -a -r
TAB
# A second agent, for tests alone: they can look into the guest while the program under test holds the first one.
cat > root/etc/lab-agent <<'AGENT'
#!/bin/sh
port=/dev/virtio-ports/lab.guest_agent.0
[ -e "$port" ] || exec sleep 1000000
mkdir -p /run/lab
exec /usr/sbin/qemu-ga -m virtio-serial -p "$port" -t /run/lab -f /run/lab/qemu-ga.pid
AGENT
cat > root/etc/rc <<'RC'
#!/bin/sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
hostname -F /etc/hostname
ip link set lo up
mkdir -p /dev/virtio-ports
for port in /sys/class/virtio-ports/*; do
  name=$(cat "$port/name" 2>/dev/null)
  [ -z "$name" ] || ln -sf "../${port##*/}" "/dev/virtio-ports/$name"
done
# Disks on a SCSI or ATA bus can appear a little after the root disk; a guest without a data disk loses half a second.
tries=0
while [ "$tries" -lt 10 ]; do
  disk=$(findfs LABEL=vmdata 2>/dev/null) && mount -t ext4 -o noatime "$disk" /data && break
  tries=$((tries + 1))
  sleep 0.05
done
echo "GUEST-UP $(cat /proc/uptime)" > /dev/ttyS0
RC
chmod 755 root/etc/rc root/etc/lab-agent root/etc/qemu/fsfreeze-hook root/etc/acpi/PWRF/00000080

# make_disk NAME SIZE LABEL [DIRECTORY]: complete inode tables and journal, so that the idle guest writes nothing.
make_disk() {
  truncate -s "$2" "$1.raw"
  mke2fs -q -F -t ext4 -L "$3" -E root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0 ${4:+-d "$4"} "$1.raw"
  qemu-img convert -O qcow2 "$1.raw" "out/$1.qcow2"
  rm "$1.raw"
}
make_disk root "$root_size" vmroot root
make_disk data "$data_size" vmdata

printf '%s\n' "$stamp" > out/stamp
if [ -e "$guest" ]; then mv "$guest" "$lab/guest.old.$$"; fi
mv out "$guest"
rm -rf "$lab/guest.old.$$"
say 'done'
printf '%s\n' "$guest"
