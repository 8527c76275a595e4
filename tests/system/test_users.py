"""Local users who attack the service under its units: neither the kernel, root nor another user pays for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsframework.client import HandshakeOptions
from hsframework.client.submits import encode_submit
from hsframework.interface import Role
from hsframework.netlink.messages import with_sequence
from tests.system import administrator as admin
from tests.system.guest import Guest

USER, ANOTHER, STRANGER = 3000, 3001, 3002
RULES = f'\n[[allow]]\nusers = ["{USER}", "{ANOTHER}"]\n'
FOLDER = "/run/hsframework"
SUPPORT = Path(__file__).parents[1] / "support"
HUNG = "a cell hangs and is killed"
GROUP = "/sys/fs/cgroup/$(systemctl show --value --property ControlGroup hsframework)"
SCORE = "$(cat /proc/$n/oom_score_adj) $(tr '\\0' ' ' </proc/$n/cmdline)"


@pytest.fixture
def shared(main: Guest) -> Iterator[Guest]:
    """The main guest, whose service lets two users in: by a reload, which is what starts their agents."""
    main.put(admin.INSIDE)
    for name in ("attacks.py", "lingering.py"):
        main.put(SUPPORT / name, f"tests/support/{name}")
    main.ask(["umount", "--all", "--types", "nfs4"])
    admin.export(main)
    main.run("systemctl start hsframework")
    main.write(f"{admin.ETC}/hsframework.toml", admin.CONFIGURATION + RULES)
    main.run("systemctl reload hsframework")
    yield main
    main.write(f"{admin.ETC}/hsframework.toml", admin.CONFIGURATION)
    main.run("systemctl reload hsframework")


@contextlib.contextmanager
def attacked(guest: Guest, uid: int, attack: str) -> Iterator[None]:
    """Run an attack that has begun to have its effect, for the length of the block."""
    submit = with_sequence(encode_submit(HandshakeOptions(role=Role.SERVER, timeout=60), None), 1).hex()
    words = f"/usr/bin/python3 -B /run/host/inside/hostile.py {uid} {attack} {submit} {FOLDER}"
    kind = "--property Type=notify --property KillSignal=SIGKILL --property TimeoutStartSec=100"
    mark = guest.run("date +%s.%N").strip()
    guest.run(f"systemd-run --unit attack --collect {kind} {words}")
    try:
        if attack == "locked":
            said = f"journalctl --unit hsframework.service --since @{mark} | grep -q '{HUNG}'"
            guest.run(f"until {said}; do sleep 0.1; done")
        yield
        assert admin.state(guest, "attack.service") == "active"
    finally:
        guest.run("systemctl stop attack")


@pytest.mark.parametrize(
    ("uid", "attack"), [(USER, "locked"), (USER, "lingering"), (STRANGER, "lingering"), (STRANGER, "flooding")]
)
def test_no_mount_waits_for_a_user(shared: Guest, uid: int, attack: str) -> None:
    """Mounts with mutual TLS are made while it goes on and after it, by the processes that were there before."""
    before = [admin.show(shared, "MainPID", unit) for unit in admin.UNITS]
    with attacked(shared, uid, attack):
        assert admin.program(shared, "mounts", 2, "mtls")["failed"] == []
    assert admin.program(shared, "mounts", 1, "mtls")["failed"] == []
    assert [admin.show(shared, "MainPID", unit) for unit in admin.UNITS] == before


def test_a_restart_beside_a_cell_that_cannot_be_ended(shared: Guest) -> None:
    """A cell that waits for its user for ever delays neither an end of the service nor the next start."""
    with attacked(shared, USER, "locked"):
        shared.run("systemctl stop hsframework")
        assert admin.show(shared, "Result") == "success", "nothing was waited for in vain"
        shared.run("systemctl start hsframework")
        assert admin.program(shared, "mounts", 1, "mtls")["failed"] == []
        shared.run("systemctl kill -s KILL hsframework")
        assert admin.program(shared, "mounts", 1, "mtls")["failed"] == []


def test_a_user_who_uses_up_memory_takes_no_other_with_him(shared: Guest) -> None:
    """His cell, and the agents of cells, are killed before the dispatcher, and the service goes on without them."""
    with attacked(shared, USER, "flooding"):
        # A process that ends meanwhile has neither.
        said = shared.run(f"for n in $(cat {GROUP}/cgroup.procs); do echo {SCORE}; done 2>/dev/null")
        lines = (line.partition(" ") for line in said.splitlines())
        scores = {title.strip(): int(score) for score, _, title in lines if score}
        assert scores["hsframework run"] == scores["hsframework dispatcher"] == -500
        assert scores[f"hsframework cell of user {USER}"] == scores["hsframework agent tls13"] == 0
    assert admin.show(shared, "OOMPolicy") == "continue"
