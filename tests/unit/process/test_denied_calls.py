"""Sandboxes that deny a system call: the message names the call, and what to allow."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import NoReturn

import pytest
from structlog.testing import capture_logs

from hsframework.agent import privileges
from hsframework.agent.privileges import AgentUser
from hsframework.dispatcher.keys.keyring import KernelKeys
from hsframework.errors import ConfigurationError
from hsframework.probes import NotSeen
from hsframework.process import capabilities, keyctl, lock, pidfds
from hsframework.tls import kernel


def denied(*arguments: object) -> NoReturn:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize("call", ["setgroups", "setresgid", "setresuid"])
def test_a_user_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """In a container with one mapped user: the call, and how to run the agent as that user."""
    for name in ("setgroups", "setresgid", "setresuid"):
        monkeypatch.setattr(os, name, denied if name == call else lambda *ids: None)
    with pytest.raises(ConfigurationError, match=f"{call}: Operation not permitted.*agents.NAME.user"):
        privileges._become(AgentUser("60804", 60804, 60804))


def test_the_only_user_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that is to run as the service's own user changes nothing, and says what that means."""
    monkeypatch.setattr(os, "setgroups", denied)
    monkeypatch.setattr(os, "getgroups", lambda: [os.getgid()])
    with capture_logs() as logs:
        privileges._become(AgentUser("we", os.getuid(), os.getgid()))
    assert [entry["log_level"] for entry in logs] == ["warning"]


def test_capabilities_of_a_user_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    """They raise no limit and lower no score: the dispatcher of `run` has its agents' score then, and starts."""
    every = (1 << 64) - 1
    monkeypatch.setattr(capabilities, "_capability_sets", lambda: (every, every, every))
    maps = {"first": "         0          0 4294967295\n", "container": "         0       1000          1\n"}
    found = {}
    for name, text in maps.items():
        monkeypatch.setattr(Path, "read_text", lambda path, encoding, text=text: text)
        found[name] = lock.score_after(0)
    assert found == {"first": -250, "container": 0}


def test_no_pidfds(monkeypatch: pytest.MonkeyPatch) -> None:
    """pidfd_open denied: named.  A process that is not there is another matter."""
    monkeypatch.setattr(os, "pidfd_open", denied)
    with pytest.raises(ConfigurationError, match="pidfd_open: Operation not permitted"):
        pidfds.open_pidfd(os.getpid())
    monkeypatch.undo()
    with pytest.raises(ProcessLookupError):
        pidfds.open_pidfd(2**22 - 1)


def test_no_keyrings(monkeypatch: pytest.MonkeyPatch) -> None:
    """keyctl denied: the kernel's requests cannot be served, and what to change is said."""
    monkeypatch.setattr(keyctl, "_call", lambda number, *values: denied())
    with pytest.raises(ConfigurationError, match=r"keyctl.*kernel\.enabled = false"):
        KernelKeys()


def test_capabilities_that_cannot_be_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """capset denied: a sandbox that grants more than is needed is no reason to end; the log names the call."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(capabilities, "clear_bounding_set", lambda kept: None)
    monkeypatch.setattr(capabilities, "set_capabilities", denied)
    with capture_logs() as logs:
        capabilities.keep_capabilities(())
    assert logs[0]["call"] == "capset"


def test_a_sandbox_without_inet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a connection the kernel's TLS was not tried: that is no "no"."""
    monkeypatch.setattr(socket, "create_server", denied)
    answer = kernel.supported_ciphers()
    assert isinstance(answer, NotSeen)
    assert "Operation not permitted" in answer.reason
