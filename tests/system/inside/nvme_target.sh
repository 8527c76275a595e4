#!/bin/sh
# An NVMe/TCP target on loopback that admits nobody without TLS; run at boot, before nvmf-autoconnect.service.
set -e
subsystem=nqn.2014-08.org.example:system
modprobe -a nvmet-tcp nvme-tcp
# The host's keys and the target's are the same here: nvme-cli's file.
nvme tls-key --import --keyfile /etc/nvme/tls-keys
test -f /var/lib/nvme-disk || truncate -s 64M /var/lib/nvme-disk
device=$(losetup --find --show /var/lib/nvme-disk)
cd /sys/kernel/config/nvmet
mkdir -p subsystems/$subsystem/namespaces/1 ports/1
echo 1 >subsystems/$subsystem/attr_allow_any_host
printf %s "$device" >subsystems/$subsystem/namespaces/1/device_path
echo 1 >subsystems/$subsystem/namespaces/1/enable
cd ports/1
echo tcp >addr_trtype
echo ipv4 >addr_adrfam
echo 127.0.0.1 >addr_traddr
echo 4420 >addr_trsvcid
echo tls1.3 >addr_tsas
echo required >addr_treq
ln -s ../../subsystems/$subsystem subsystems/
