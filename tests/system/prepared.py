"""Preparations of the guests that tests share: installed, configured, enabled, and the main one rebooted.

Facts that can be seen at one moment only are recorded; the tests judge them.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass

from tests.system import administrator as admin
from tests.system.guest import Guest

BOOT_MOUNT = "/mnt/boot"
RECORDED: dict[str, str] = {}
"""Facts of the preparation of ``main``, by name."""


def install(guest: Guest) -> None:
    """Install the service."""
    admin.install_wheels(guest)
    admin.install_units(guest)


def main(guest: Guest) -> None:
    """Install, configure and enable, add a mount to /etc/fstab, and reboot."""
    install(guest)
    admin.configure(guest)
    admin.export(guest)
    RECORDED["enable"] = guest.ask(["systemctl", "enable", "--now", *shlex.split(admin.UNITS)]).output
    RECORDED["enabled"] = admin.state(guest)
    line = f"{admin.SERVER}:/export {BOOT_MOUNT} nfs4 _netdev,xprtsec=mtls 0 0"
    guest.run(f"mkdir -p {BOOT_MOUNT}; echo {line} >>/etc/fstab; systemctl enable nfs-server")
    guest.reboot()
    RECORDED["boot"] = admin.running(guest)


def other(guest: Guest) -> None:
    """Install, configure and enable on another release."""
    install(guest)
    admin.configure(guest)
    # Debian 12's exportfs does not know the option.
    admin.export(guest, "" if guest.suite == "bookworm" else "mtls")
    guest.ask(["systemctl", "enable", "--now", *shlex.split(admin.UNITS)])


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
    "bookworm": Preparation("bookworm", other),
    "forky": Preparation("forky", other),
}
"""Guests by the name of their fixture."""
