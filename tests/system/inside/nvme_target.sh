#!/bin/sh
# An NVMe/TCP target on loopback that admits nobody without TLS; run at boot, before nvmf-autoconnect.service.
set -e
subsystem=nqn.2014-08.org.example:system
modprobe -a nvmet-tcp nvme-tcp
# Host and target have one keyring here.  nvme-cli 2.13 cannot import what it exports (tls-key), so each key is inserted.
for name in $subsystem nqn.2014-08.org.nvmexpress.discovery; do
    nvme check-tls-key --insert --keyring=.nvme --hostnqn="$(cat /etc/nvme/hostnqn)" --subsysnqn=$name \
        --keydata="$(cat /etc/nvme/tls-key)"
done
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
