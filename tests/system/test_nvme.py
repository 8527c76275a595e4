"""NVMe/TCP over TLS, connected at boot by ``nvmf-autoconnect.service``."""

from __future__ import annotations

from tests.system import nvme
from tests.system.guest import Guest


def test_autoconnect(main: Guest) -> None:
    """The boot connected with TLS; a block written to the device is on the target's disk."""
    device = nvme.device(main)
    assert device, main.run("journalctl --boot --unit nvmf-autoconnect --unit nvme-target")
    key = main.run(f"cat /sys/class/nvme/{device.removesuffix('n1')}/tls_key").strip()
    assert nvme.SUBSYSTEM in main.run(f"keyctl describe $((0x{key}))")
    main.run(f"echo a block | dd of=/dev/{device} bs=4096 conv=sync,fsync; grep -q 'a block' {nvme.DISK}")


def test_it_connects_after_a_restart(main: Guest) -> None:
    """The target drops all connections and the service restarts: the device comes back, and keeps its data."""
    device = nvme.device(main)
    nvmet = "/sys/kernel/config/nvmet"
    offered = f"{nvmet}/ports/1/subsystems/{nvme.SUBSYSTEM}"
    main.run(f"rm {offered}; systemctl restart hsframework; ln -s {nvmet}/subsystems/{nvme.SUBSYSTEM} {offered}")
    main.run(f"echo another | dd of=/dev/{device} bs=4096 conv=sync,fsync; grep -q another {nvme.DISK}")
