"""The units as systemd sees them: what they may do, and in which order they start."""

from __future__ import annotations

import pytest

from tests.system import administrator as admin
from tests.system.guest import Guest


@pytest.mark.parametrize(("unit", "most"), [(admin.UNITS[0], 2.7), (admin.UNITS[1], 0.6)])
def test_exposure(main: Guest, unit: str, most: float) -> None:
    """``systemd-analyze security`` counts no more exposure than before the units were run here.

    Of a unit without default dependencies it leaves out PrivateTmp, ProtectHome and ProtectSystem, as of one in the
    special boot phase, whatever they say; so it is asked about the unit with them.
    """
    copy = f"/run/exposure/{unit.replace('@tls13', '@')}"
    main.run(f"mkdir -p /run/exposure && systemctl cat {unit} | sed /^DefaultDependencies/d > {copy}")
    words = ["systemd-analyze", "security", "--no-pager", "--offline=true"]
    done = main.ask([*words, "--threshold", str(round(most * 10)), copy])
    assert done.code == 0, done.output


def test_no_other_agent_beside_it(main: Guest) -> None:
    """A start of tlshd stops the service, and the other way round: only one of the two serves the kernel."""
    main.run("systemctl start tlshd")
    try:
        assert admin.state(main) == "inactive"
    finally:
        main.run("systemctl start hsframework")
    assert admin.state(main, "tlshd.service") == "inactive"


def test_units_verify(main: Guest) -> None:
    """``systemd-analyze verify`` has nothing to say."""
    done = main.ask(["systemd-analyze", "verify", "--man=no", *admin.UNITS])
    assert (done.code, done.output) == (0, "")
