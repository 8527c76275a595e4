"""NVMe/TCP over TLS between the guest and itself: a target, and nvme-cli's configuration to connect to it at boot."""

from __future__ import annotations

from tests.system.administrator import INSIDE
from tests.system.guest import Guest

SUBSYSTEM = "nqn.2014-08.org.example:system"
DISK = "/var/lib/nvme-disk"
"""The target's."""
TARGET = """[Unit]
Description=NVMe/TCP target of the tests
Before=nvmf-autoconnect.service
Wants=nvmf-autoconnect.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/nvme-target

[Install]
WantedBy=multi-user.target
"""


def set_up(guest: Guest) -> None:
    """Make the key, nvme-cli's files, and the target's unit; it starts with the next boot."""
    # nvme-cli opens its standard output anew; hence the pipes.
    guest.run("cd /etc/nvme; nvme gen-hostnqn | cat >hostnqn; sed 's/.*uuid://' hostnqn >hostid")
    guest.run("cd /etc/nvme; nvme gen-tls-key --hmac=1 --hostnqn=any --subsysnqn=any | cat >tls-key; chmod 600 tls-key")
    guest.write("/etc/nvme/discovery.conf", "--transport=tcp --traddr=127.0.0.1 --trsvcid=4420 --tls\n")
    guest.write("/usr/local/sbin/nvme-target", (INSIDE / "nvme_target.sh").read_text(), 0o755)
    guest.write("/etc/systemd/system/nvme-target.service", TARGET)
    guest.run("systemctl enable nvme-target")


def device(guest: Guest) -> str:
    """Return the name of the namespace's block device, such as nvme1n1, or an empty text."""
    return guest.run("cd /dev; ls -d nvme*n1 2>/dev/null || true").strip()
