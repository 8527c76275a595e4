"""Other Debian releases: the service is installed, starts, and serves a mount; forky has every plugin."""

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


@guests
def test_an_orderly_restart_and_stop_write_no_warning(guest: Guest) -> None:
    """Neither the dispatcher nor an agent takes the other's end, which systemd has asked for, for a fault."""
    guest.run("systemctl restart hsframework; systemctl stop hsframework; systemctl start hsframework", timeout=200)
    assert admin.warnings(guest) == []


@guests
def test_a_reload(guest: Guest) -> None:
    """By the unit's type that this release has: it takes a renewed certificate, fails for a wrong one, ends nothing."""
    type_of_unit = {"bookworm": "notify", "forky": "notify-reload"}[guest.name]
    assert admin.show(guest, "Type") == type_of_unit
    main = admin.show(guest, "MainPID")
    try:
        admin.credentials(guest, admin.ETC, ("host",), ())
        guest.run("systemctl reload hsframework")
        assert admin.program(guest, "mounts", 1, "mtls")["failed"] == []
        guest.write(f"{admin.ETC}/host.pem", "nonsense")
        assert guest.ask(["systemctl", "reload", "hsframework"]).code != 0
        assert admin.program(guest, "mounts", 1, "mtls")["failed"] == []
        guest.run(f"kill -HUP {main}")
    finally:
        admin.credentials(guest, admin.ETC, ("host",), ())
        guest.run("systemctl reload hsframework")
    assert (admin.state(guest), admin.show(guest, "MainPID")) == ("active", main)


def test_an_agent_of_other_sockets_does_not_hide_that_tls_is_missing(forky: Guest) -> None:
    """QUIC's agent is a member of the kernel's group, and takes no request of NFS: doctor and the status say so."""
    forky.run("systemctl stop hsframework-agent@tls13")
    try:
        said = forky.ask(["hsframework", "doctor"]).output
        assert "MISSING  group tlshd (TCP sockets): no agent serves it" in said
        assert "waits for an agent of tlshd (TCP sockets)" in admin.show(forky, "StatusText")
    finally:
        forky.run("systemctl start hsframework-agent@tls13")


def test_an_upgrade_restarts_once(forky: Guest) -> None:
    """All packages are upgraded together: one restart, after the last is configured, and the mount works."""
    mark = forky.run("date +%s").strip()
    admin.install_packages(forky, "tls13", "quic", "psp", revision="2")
    assert admin.state(forky) == "active"
    for unit in admin.UNITS:
        starts = admin.journal(forky, "--since", f"@{mark}", "_PID=1", f"UNIT={unit}")
        assert len([message for message in starts if message.text.startswith("Starting ")]) == 1, (unit, starts)
        assert admin.show(forky, "NRestarts", unit) == "0"
    assert admin.program(forky, "mounts", 1, "mtls")["failed"] == []
