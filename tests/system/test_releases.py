"""Other Debian releases: the service is installed, starts, and serves a mount."""

from __future__ import annotations

import pytest

from tests.system import administrator as admin
from tests.system.guest import Guest

guests = pytest.mark.parametrize("guest", ["bookworm", "forky"], indirect=True)


@pytest.fixture
def guest(request: pytest.FixtureRequest) -> Guest:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Guest)
    return found


@guests
@pytest.mark.parametrize("unit", admin.UNITS)
def test_it_serves(guest: Guest, unit: str) -> None:
    """``systemctl enable --now`` ends with a service that serves, and was started once."""
    assert admin.state(guest, unit) == "active"
    assert admin.show(guest, "NRestarts", unit) == "0"


@guests
def test_a_mount(guest: Guest) -> None:
    """A mount with certificates on both ends carries a file."""
    done = admin.mount(guest)
    assert done.code == 0, done.output
    guest.run("echo written >/mnt/nfs/file; grep -q written /export/file")
    admin.unmount(guest)


@guests
def test_the_journal_has_no_warning(guest: Guest) -> None:
    """This release's systemd knows every line of the units, and nothing warns."""
    assert admin.warnings(guest) == []
