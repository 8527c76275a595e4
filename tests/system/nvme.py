"""NVMe/TCP over TLS between the guest and itself: a target, and nvme-cli's configuration to connect to it at boot."""

from __future__ import annotations

from tests.system.administrator import INSIDE
from tests.system.guest import Guest

SUBSYSTEM = "nqn.2014-08.org.example:system"
DISCOVERY = "nqn.2014-08.org.nvmexpress.discovery"
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
    """Make the keys, nvme-cli's files, and the target's unit; it starts with the next boot."""
    guest.run("modprobe nvme-tcp; cd /etc/nvme; nvme gen-hostnqn >hostnqn; sed 's/.*uuid://' hostnqn >hostid")
    for name in (SUBSYSTEM, DISCOVERY):
        names = f"--hostnqn=$(cat /etc/nvme/hostnqn) --subsysnqn={name}"
        guest.run(f"nvme gen-tls-key --insert --keyring=.nvme --hmac=1 {names}")
    # It opens its standard output anew, which a pipe is there for.
    guest.run("nvme tls-key --export | cat >/etc/nvme/tls-keys; chmod 600 /etc/nvme/tls-keys; keyctl clear %:.nvme")
    guest.write("/etc/nvme/discovery.conf", "--transport=tcp --traddr=127.0.0.1 --trsvcid=4420 --tls\n")
    guest.write("/usr/local/sbin/nvme-target", (INSIDE / "nvme_target.sh").read_text(), 0o755)
    guest.write("/etc/systemd/system/nvme-target.service", TARGET)
    guest.run("systemctl enable nvme-target")


def device(guest: Guest) -> str:
    """Return the name of the namespace's block device, such as nvme1n1, or an empty text."""
    return guest.run("cd /dev; ls -d nvme*n1 2>/dev/null || true").strip()
