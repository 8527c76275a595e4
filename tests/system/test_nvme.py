"""NVMe/TCP over TLS between the guest and itself, connected by ``nvmf-autoconnect.service``."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.system.guest import Guest

SUBSYSTEM = "nqn.2014-08.org.example:system"
HOST = "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-000000000001"
TARGET = f"""set -e
modprobe --all nvmet-tcp nvme-tcp
truncate -s 64M /root/disk; loop=$(losetup --find --show /root/disk)
cd /sys/kernel/config/nvmet
mkdir -p subsystems/{SUBSYSTEM}/namespaces/1 ports/1
echo 1 >subsystems/{SUBSYSTEM}/attr_allow_any_host
echo -n $loop >subsystems/{SUBSYSTEM}/namespaces/1/device_path
echo 1 >subsystems/{SUBSYSTEM}/namespaces/1/enable
cd ports/1
echo tcp >addr_trtype; echo ipv4 >addr_adrfam; echo 127.0.0.1 >addr_traddr; echo 4420 >addr_trsvcid
echo tls1.3 >addr_tsas; echo required >addr_treq
ln -s ../../subsystems/{SUBSYSTEM} subsystems/
"""
END = f"""nvme disconnect --nqn={SUBSYSTEM}
cd /sys/kernel/config/nvmet; rm ports/1/subsystems/{SUBSYSTEM}; rmdir ports/1
echo 0 >subsystems/{SUBSYSTEM}/namespaces/1/enable
rmdir subsystems/{SUBSYSTEM}/namespaces/1 subsystems/{SUBSYSTEM}; losetup --detach-all
rm -f /root/disk /etc/nvme/config.json
"""
"""Not ``set -e``: it undoes what is there."""


@pytest.fixture
def target(main: Guest) -> Iterator[Guest]:
    """The main guest with a target that requires TLS, the pre-shared key, and nvme-cli's configuration."""
    try:
        main.run(TARGET)
        main.run(f"nvme gen-tls-key --insert --keyring=.nvme --hmac=1 --hostnqn={HOST} --subsysnqn={SUBSYSTEM}")
        port = {"transport": "tcp", "traddr": "127.0.0.1", "trsvcid": "4420", "tls": True, "nr_io_queues": 1}
        host = {"hostnqn": HOST, "hostid": HOST[-36:], "subsystems": [{"nqn": SUBSYSTEM, "ports": [port]}]}
        main.write("/etc/nvme/config.json", json.dumps([host]))
        yield main
    finally:
        main.ask(["bash", "-c", END])


def test_autoconnect(target: Guest) -> None:
    """The unit connects with TLS; a block written to the device is on the target's disk."""
    target.run("systemctl restart nvmf-autoconnect")
    target.run("udevadm settle; until test -b /dev/nvme0n1; do udevadm settle; done")
    assert target.run("cat /sys/class/nvme/nvme0/tls_key").strip() not in ("", "0", "(none)")
    target.run("echo a block | dd of=/dev/nvme0n1 bs=4096 conv=sync,fsync; grep -q 'a block' /root/disk")
