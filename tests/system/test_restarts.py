"""Restarts, reloads and kills of the service while it is used: none of what it serves is refused or lost."""

from __future__ import annotations

import pytest

from tests.system import administrator as admin
from tests.system.guest import Guest

AGENT = "hsframework-agent@tls13.service"
DISTURBANCES = {
    "reload": "systemctl reload hsframework",
    "hangup": f"systemctl kill -s HUP --kill-whom=main hsframework {AGENT}",
    "restart-all": "systemctl restart hsframework",
    "restart-agent": f"systemctl restart {AGENT}",
    "kill-dispatcher": "systemctl kill -s KILL hsframework",
    "kill-agent": f"systemctl kill -s KILL {AGENT}",
    "kill-all": f"systemctl kill -s KILL hsframework {AGENT}",
}


def disturbances(*in_each_run: str) -> pytest.MarkDecorator:
    """Return the mark of a test that is run for each disturbance, but for these in a long run alone."""
    names = [name if name in in_each_run else pytest.param(name, marks=pytest.mark.long) for name in DISTURBANCES]
    return pytest.mark.parametrize("name", names)


MOUNTS = 100
EACH = MOUNTS // len(DISTURBANCES) + 1


@pytest.fixture
def serving(main: Guest) -> Guest:
    """The main guest with an export, no mount, and a service that serves, whatever the test before has done."""
    main.ask(["umount", "--all", "--types", "nfs4"])
    admin.export(main)
    main.run(f"systemctl reset-failed; systemctl start hsframework {AGENT}")
    return main


@disturbances("restart-all", "kill-dispatcher")
def test_no_mount_is_refused(serving: Guest, name: str) -> None:
    """A row of mounts, a hundred over all disturbances, while one disturbance follows the other: each is made."""
    found = admin.program(serving, "disturb", repr(DISTURBANCES[name]), "mounts", EACH, "mtls", timeout=400)
    assert found["disturbed"] > 0
    assert found["failed"] == []


@disturbances("restart-all")
def test_no_write_fails(serving: Guest, name: str) -> None:
    """Writes to a hard mount whose connections break meanwhile all end well, and are on the server."""
    found = admin.program(serving, "disturb", repr(DISTURBANCES[name]), "writes", 20, timeout=400)
    assert found["disturbed"] > 0
    assert found["broken"] > 0
    assert found["failed"] == []


@pytest.mark.parametrize("how", ["reload", "hangup"])
def test_a_reload_ends_nothing(serving: Guest, how: str) -> None:
    """``systemctl reload`` and SIGHUP leave the processes as they are, and the service serves."""
    units = ("hsframework.service", AGENT)
    before = [admin.show(serving, "MainPID", unit) for unit in units]
    serving.run(DISTURBANCES[how])
    assert admin.program(serving, "mounts", 1, "mtls")["failed"] == []
    assert [admin.show(serving, "MainPID", unit) for unit in units] == before
    assert [admin.state(serving, unit) for unit in units] == ["active", "active"]


def test_stop_stops(serving: Guest) -> None:
    """After ``systemctl stop`` no process of the service is left, none comes back, and a mount is refused at once.

    The command waits for the unit that it names; agents stop with it, and may take some seconds.
    """
    serving.run("systemctl stop hsframework")
    done = admin.mount(serving)
    assert done.code != 0
    ended = f"systemctl show --value --property ActiveState {AGENT} | grep -q ^inactive"
    serving.run(f"for n in $(seq 200); do {ended} && break; sleep 0.1; done")
    assert serving.ask(["pgrep", "--full", "hsframework (dispatcher|agent)"]).output == ""
    assert [admin.state(serving, unit) for unit in ("hsframework.service", AGENT)] == ["inactive", "inactive"]
    serving.run("systemctl start hsframework")
    assert admin.program(serving, "mounts", 1, "mtls")["failed"] == []


def test_six_restarts_in_a_row(serving: Guest) -> None:
    """Restarts as fast as systemd makes them do not end the service for good: no start limit."""
    serving.run("for n in 1 2 3 4 5 6; do systemctl restart hsframework; done", timeout=200)
    assert admin.program(serving, "mounts", 1, "mtls")["failed"] == []


def test_six_kills_in_a_row(serving: Guest) -> None:
    """Nor do six deaths, each as soon as there is a process to kill."""
    now = "systemctl show --value --property MainPID hsframework"
    once = f"old=$({now}); kill -KILL $old"
    again = f"until new=$({now}); [ $new != 0 -a $new != $old ]; do :; done"
    serving.run(f"for n in 1 2 3 4 5 6; do {once}; {again}; done", timeout=200)
    serving.run("systemctl start hsframework")
    assert admin.program(serving, "mounts", 1, "mtls")["failed"] == []


def test_a_wrong_configuration_is_not_retried(serving: Guest) -> None:
    """A configuration with an error ends the start with status 2, once; a mended one starts."""
    path = f"{admin.ETC}/hsframework.toml"
    serving.run(f"cp {path} /root/kept.toml; echo 'nonsense = 1' >>{path}")
    try:
        assert serving.ask(["systemctl", "restart", "hsframework"]).code != 0
        assert admin.show(serving, "ExecMainStatus") == "2"
        assert admin.show(serving, "NRestarts") == "0"
        assert admin.state(serving) == "failed"
    finally:
        serving.run(f"cp /root/kept.toml {path}; systemctl restart hsframework")
    assert admin.program(serving, "mounts", 1, "mtls")["failed"] == []


def test_a_private_configuration(serving: Guest) -> None:
    """A configuration of mode 0600 works: the agent, a user of its own, is given it."""
    path = f"{admin.ETC}/hsframework.toml"
    serving.run(f"chmod 600 {path}; systemctl restart hsframework")
    try:
        assert admin.program(serving, "mounts", 1, "mtls")["failed"] == []
    finally:
        serving.run(f"chmod 644 {path}; systemctl restart hsframework")
