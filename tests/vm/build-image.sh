#!/bin/bash
# Make a Debian root and a disk image of it: build-image.sh FOLDER PUBLIC_KEY. Leaves disk.img, vmlinuz and initrd.img.
#
# Called by image.py in a user namespace with a range of ids, a mount and a pid namespace: an ordinary user makes the
# whole machine. `container=lxc` tells debootstrap that it can make no device nodes, and to bind the host's.
set -eu
folder=$1 key=$2 root=$1/root mirror=${ROOTLESS_TEST_MIRROR:-http://deb.debian.org/debian}
export container=lxc DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
umask 022

packages=$(sed 's/#.*//' "${0%/*}/packages.txt")

debootstrap --variant=minbase trixie "$root" "$mirror"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
for node in null zero full random urandom tty; do
  [ -e "$root/dev/$node" ] || : >"$root/dev/$node"
  mount --bind "/dev/$node" "$root/dev/$node"
done

# No service starts in here, and only what this one machine needs goes into its initial file system.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
mkdir -p "$root/etc/initramfs-tools/conf.d"
printf 'MODULES=list\nCOMPRESS=lz4\n' >"$root/etc/initramfs-tools/conf.d/rootless-test"
printf '%s\n' virtio_pci virtio_blk virtio_net ext4 >"$root/etc/initramfs-tools/modules" 2>/dev/null || :
chroot "$root" apt-get -o APT::Sandbox::User=root update -qq
# shellcheck disable=SC2086
chroot "$root" apt-get -o APT::Sandbox::User=root install -y -qq --no-install-recommends lz4 $packages
printf '%s\n' virtio_pci virtio_blk virtio_net ext4 >"$root/etc/initramfs-tools/modules"
chroot "$root" update-initramfs -u
chroot "$root" apt-get clean
rm -rf "$root/usr/sbin/policy-rc.d" "$root"/var/lib/apt/lists/*

# An ordinary user who lingers, one who does not, and a way in for all.
echo rootless-test >"$root/etc/hostname"
printf '127.0.0.1 localhost rootless-test\n::1 localhost\n' >"$root/etc/hosts"
echo '/dev/vda / ext4 rw,noatime 0 1' >"$root/etc/fstab"
chroot "$root" useradd -m -u 1000 -s /bin/bash user
chroot "$root" useradd -m -u 1001 -s /bin/bash guest
mkdir -p "$root/var/lib/systemd/linger"
touch "$root/var/lib/systemd/linger/user"
for home in root home/user home/guest; do
  mkdir -p "$root/$home/.ssh"
  cp "$key" "$root/$home/.ssh/authorized_keys"
  chmod 700 "$root/$home/.ssh"
  chroot "$root" chown -R "$(stat -c %u:%g "$root/$home")" "/$home/.ssh"
done
printf '[Match]\nName=e*\n[Network]\nDHCP=ipv4\n' >"$root/etc/systemd/network/10-test.network"
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
chroot "$root" systemctl enable --quiet systemd-networkd systemd-resolved ssh
chroot "$root" systemctl mask --quiet apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer \
  dpkg-db-backup.timer man-db.timer systemd-tmpfiles-clean.timer podman.socket podman-auto-update.timer podman-clean-transient.service \
  systemd-networkd-wait-online.service getty@tty1.service
# Services that one test starts for itself.
chroot "$root" systemctl disable --quiet munge slurmctld slurmd
mkdir -p "$root/etc/systemd/system-generators"
ln -s /dev/null "$root/etc/systemd/system-generators/systemd-ssh-generator" # looks for a socket that is not there
echo 'user ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/user" # the tests of users without a session, and of delegation
mkdir -p "$root/var/log/journal" "$root/etc/ssh/sshd_config.d"
printf 'UseDNS no\nMaxSessions 100\nMaxStartups 100\nAcceptEnv *\n' >"$root/etc/ssh/sshd_config.d/test.conf"
chroot "$root" ssh-keygen -A

cp -L "$root/vmlinuz" "$folder/vmlinuz"
cp -L "$root/initrd.img" "$folder/initrd.img"
umount -R "$root/proc" "$root/run" "$root"/dev/{null,zero,full,random,urandom,tty}
truncate -s 6G "$folder/disk.img"
mke2fs -q -F -t ext4 -O ^has_journal -E lazy_itable_init=1 -d "$root" "$folder/disk.img"
rm -rf "$root"
