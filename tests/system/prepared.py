"""Preparations of the guests that tests share: installed, configured, enabled, and the main one rebooted.

Facts that can be seen at one moment only are recorded; the tests judge them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.system import administrator as admin, nvme
from tests.system.guest import Guest

BOOT_MOUNT = "/mnt/boot"
LATER = ("remote-fs-pre.target", "nvmf-autoconnect.service", "mnt-boot.mount")
"""Units of network storage, which start after the service is ready."""
RECORDED: dict[str, str] = {}
"""Facts of the preparation of ``main``, by name."""


def main(guest: Guest) -> None:
    """Install, configure and enable, add a mount to /etc/fstab and an NVMe connection, and reboot."""
    admin.install_packages(guest, "tls13")
    admin.configure(guest)
    admin.export(guest)
    RECORDED["enable"] = guest.ask(["systemctl", "enable", "--now", "hsframework"]).output
    RECORDED["enabled"] = admin.state(guest)
    line = f"{admin.SERVER}:/export {BOOT_MOUNT} nfs4 _netdev,xprtsec=mtls 0 0"
    guest.run(f"mkdir -p {BOOT_MOUNT}; echo {line} >>/etc/fstab; systemctl enable nfs-server")
    nvme.set_up(guest)
    guest.reboot()
    RECORDED["boot"] = admin.running(guest)
    RECORDED["ready"] = admin.show(guest, "ActiveEnterTimestampMonotonic")
    RECORDED.update({unit: admin.show(guest, "InactiveExitTimestampMonotonic", unit) for unit in LATER})


def bookworm(guest: Guest) -> None:
    """Install by pip, configure and enable.  Debian 12's exportfs does not know xprtsec, so all kinds are admitted."""
    admin.install_wheels(guest, "tls13")
    guest.run("/opt/hsframework/bin/hsframework units --install")
    admin.configure(guest)
    admin.export(guest, "")
    guest.ask(["systemctl", "enable", "--now", "hsframework"])


def forky(guest: Guest) -> None:
    """Install all Debian packages, configure and enable."""
    admin.install_packages(guest, "tls13", "quic", "psp")
    admin.configure(guest)
    admin.export(guest)
    guest.ask(["systemctl", "enable", "--now", "hsframework"])


def howtos(guest: Guest) -> None:
    """Install by pip, with the program in everybody's path, and no more."""
    admin.install_wheels(guest, "tls13")
    guest.run("ln -s /opt/hsframework/bin/hsframework /usr/local/bin/")


@dataclass(frozen=True, slots=True)
class Preparation:
    """The release of a shared guest, and what is done in it before any test."""

    suite: str
    steps: Callable[[Guest], None]

    def make(self, name: str) -> Guest:
        """Boot and prepare.  Raises what a step raised, and leaves no guest then."""
        guest = Guest(self.suite, name=name)
        try:
            self.steps(guest)
        except BaseException as error:
            guest.keep(str(error))
            guest.close()
            raise
        return guest


PREPARATIONS = {
    "main": Preparation("trixie", main),
    "howtos": Preparation("trixie", howtos),
    "bookworm": Preparation("bookworm", bookworm),
    "forky": Preparation("forky", forky),
}
"""Guests by the name of their fixture."""
