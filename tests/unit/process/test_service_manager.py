"""The service manager: notifications, the watchdog, and descriptors that come back to the next process."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from hsframework.client.groups import service_status
from hsframework.errors import ConfigurationError
from hsframework.interface import Identity, Secret
from hsframework.process.kept import SESSIONS, VAULT, Kept, Shelf
from hsframework.process.service_manager import ServiceManager, passed_descriptors
from hsframework.process.snapshot import freeze, thaw
from tests.support.running import short_folder, until, write_configuration
from tests.support.service_manager import Manager

ANOTHER = str(os.getpid() + 1)
"""A process that is not this one."""


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as made:
        yield made


@pytest.fixture
def manager(folder: Path) -> Iterator[Manager]:
    made = Manager(folder)
    yield made
    made.close()


def test_states_and_descriptors(manager: Manager) -> None:
    """Messages arrive, descriptors with their names; the variables are gone from the environment."""
    environment = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
    told = ServiceManager(environment)
    assert (environment, told.watchdog, told.there) == ({}, 30.0, True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as kept:
        told.tell("READY=1", "STATUS=serves tlshd")
        told.put("agent", kept.fileno())
        manager.receive()
        assert manager.said[:2] == ["READY=1", "STATUS=serves tlshd"]
        assert os.fstat(manager.kept["agent"]).st_ino == os.fstat(kept.fileno()).st_ino
        told.remove("agent")
        manager.receive()
        assert manager.kept == {}
    told.close()
    told.tell("STOPPING=1")
    assert not told.there


def test_no_service_manager() -> None:
    """Every call does nothing; another process's watchdog is not ours."""
    told = ServiceManager({"WATCHDOG_USEC": "1000", "WATCHDOG_PID": ANOTHER})
    told.tell("READY=1")
    assert (told.watchdog, told.there) == (None, False)


def test_descriptors_of_a_wrapper() -> None:
    """LISTEN_PID of a wrapper that did not exec: they are left alone, and the log says why."""
    with capture_logs() as logs:
        environment = {"LISTEN_PID": ANOTHER, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "agent:consumer"}
        assert passed_descriptors(environment) == {}
    assert "LISTEN_PID" in logs[0]["event"]
    assert (logs[0]["listen_pid"], environment) == (ANOTHER, {})


def test_descriptors_without_a_name_each() -> None:
    """Variables that do not fit together are an error that says what to change."""
    with pytest.raises(ConfigurationError, match="FileDescriptorName"):
        passed_descriptors({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "agent"})


def test_what_is_kept_comes_back() -> None:
    """By its name, to the successor; what that one does not take is closed, and so is the copy."""
    shelf = Shelf()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as one, socket.socket() as other:
        pid = os.fork()
        if not pid:
            try:
                first = shelf.kept()
                first.put(VAULT, one.fileno())
                first.put(SESSIONS, other.fileno())
                first.put(VAULT, other.fileno())
                first.put(VAULT, one.fileno())
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        shelf.receive()
        pid = os.fork()
        if not pid:
            status = 1
            try:
                second = shelf.kept()
                fd = second.take(VAULT)
                right = fd is not None and os.fstat(fd).st_ino == os.fstat(one.fileno()).st_ino
                right = right and second.again and second.names() == {SESSIONS}
                second.drop_rest()
                second.freeze()
                second.remove(VAULT)
                status = 0 if right else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        shelf.receive()
    third = Kept(dict(shelf._fds))
    assert third.names() == {VAULT}, "a process that ends changes nothing in what is kept"
    shelf.close()


def test_a_snapshot() -> None:
    """Secrets included, it is read once and as it was; one that is not sealed, or names other types, is refused."""
    value = {("identities", "web"): Identity((b"der",), Secret(b"key"))}
    assert thaw(freeze("vault", value)) == value
    open_one = os.memfd_create("open", os.MFD_ALLOW_SEALING)
    with pytest.raises(ValueError, match="not sealed"):
        thaw(open_one)
    with pytest.raises(ValueError, match="a snapshot has no"):
        thaw(freeze("vault", subprocess.CalledProcessError))


def test_ready_means_that_an_agent_serves(manager: Manager, folder: Path) -> None:
    """Both report that they are ready once the agent has joined, in whatever order they were started."""
    file = write_configuration(folder, 'required-groups = ["tls13"]\n')
    dispatcher = manager.start("dispatcher", "--config", str(file))
    try:
        manager.until(lambda: any(line.startswith("STATUS=serves nothing; waits for") for line in manager.said))
        assert "READY=1" not in manager.said
        agent = manager.start("agent", "tls13", "--config", str(file))
        try:
            manager.until(lambda: manager.said.count("READY=1") == 2)
        finally:
            agent.terminate()
            agent.communicate(timeout=30)
    finally:
        dispatcher.terminate()
        dispatcher.communicate(timeout=30)


def test_a_dispatcher_that_is_killed(manager: Manager, folder: Path) -> None:
    """Its sockets live on: connections of the time between wait, the agent joins again, and a broken file is no end."""
    file = write_configuration(folder, 'required-groups = ["tls13"]\n')
    agent = manager.start("agent", "tls13", "--config", str(file))
    first = manager.start("dispatcher", "--config", str(file), watchdog=8)
    try:
        manager.until(lambda: manager.said.count("READY=1") == 2 and "WATCHDOG=1" in manager.said)
        first.kill()
        first.communicate(timeout=30)
        manager.receive()
        assert {"consumer", "agent", "vault", "configuration"} <= manager.kept.keys()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as waits:
            waits.connect(str(folder / "run" / "consumer.sock"))
            file.write_text("this is no TOML [")
            second = manager.start("dispatcher", "--config", str(file))
            try:
                manager.until(lambda: manager.said.count("READY=1") == 3)
            finally:
                second.terminate()
                _, said = second.communicate(timeout=30)
        assert b"the configuration has become wrong; the one before is used" in said
        manager.receive()
        assert not {"vault", "configuration"} & manager.kept.keys(), "after an orderly end a wrong file is an error"
        third = manager.start("dispatcher", "--config", str(file))
        _, said = third.communicate(timeout=30)
        assert third.returncode == 2
        assert b"not TOML" in said
    finally:
        agent.terminate()
        agent.communicate(timeout=30)


def test_a_hangup_ends_nothing(manager: Manager, folder: Path) -> None:
    """SIGHUP leaves the process as it is, has the files read again, and tells the begin and the end of that."""
    file = write_configuration(folder, "required-groups = []\n")
    dispatcher = manager.start("dispatcher", "--config", str(file))
    try:
        manager.until(lambda: "READY=1" in manager.said)
        dispatcher.send_signal(1)
        until(lambda: service_status(folder / "run")["reload"], "the files were read again")
        manager.until(lambda: manager.said.count("READY=1") == 2)
        told = [state for state in manager.said if state.startswith(("READY=", "RELOADING=", "MONOTONIC_USEC="))]
        assert [state.partition("=")[0] for state in told] == ["READY", "RELOADING", "MONOTONIC_USEC", "READY"]
        dispatcher.terminate()
        _, said = dispatcher.communicate(timeout=30)
        assert dispatcher.returncode == 0
        assert b"configuration and credentials were read again and are in force" in said
    finally:
        dispatcher.kill()
        dispatcher.wait()
