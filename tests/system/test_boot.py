"""A boot with the service enabled and a mount in /etc/fstab that needs it."""

from __future__ import annotations

import pytest

from tests.system import administrator as admin
from tests.system.guest import Guest
from tests.system.prepared import BOOT_MOUNT, LATER, RECORDED


def test_enable_now_starts_it(main: Guest) -> None:
    """``systemctl enable --now`` ends with a service that serves."""
    assert RECORDED["enabled"] == "active", RECORDED["enable"]


def test_the_system_is_running(main: Guest) -> None:
    """After a reboot no unit of the machine has failed."""
    assert RECORDED["boot"] == "running"


@pytest.mark.parametrize("unit", admin.UNITS)
def test_it_serves_after_the_boot(main: Guest, unit: str) -> None:
    """Each unit is active, and was started once."""
    assert admin.state(main, unit) == "active"
    assert admin.show(main, "NRestarts", unit) == "0"


def test_the_mount_of_fstab_is_there(main: Guest) -> None:
    """The mount with xprtsec=mtls was made by the boot itself, and takes a file."""
    assert "xprtsec=mtls" in main.run(f"findmnt --noheadings --output OPTIONS {BOOT_MOUNT}")
    main.run(f"echo written >{BOOT_MOUNT}/file; grep -q written /export/file")


@pytest.mark.parametrize("later", LATER)
def test_order(main: Guest, later: str) -> None:
    """The service was ready before network storage was looked for."""
    assert 0 < int(RECORDED["ready"]) <= int(RECORDED[later])


def test_the_journal_has_no_warning(main: Guest) -> None:
    """Neither our units nor systemd about them warn of anything during the boot."""
    assert admin.warnings(main) == []


def test_messages_have_priorities(main: Guest) -> None:
    """The journal tells our levels apart: an ordinary start is priority info."""
    ours = [message for message in admin.journal(main, "--unit", "hsframework.service") if message.program != "systemd"]
    assert ours
    assert {message.priority for message in ours} <= {5, 6}
