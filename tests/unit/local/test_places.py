"""Paths of the service's sockets, for root and for others, with a dispatcher there or not."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from hsframework.local import places
from hsframework.local.places import AGENT_SOCKET, CONSUMER_SOCKET, PATH_LIMIT, consumer_socket, default_runtime_dir


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user who is not root, whose folder is returned, beside a system's that is there."""
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "user"))
    monkeypatch.setattr(places, "SYSTEM_RUNTIME_DIR", tmp_path / "system")
    (tmp_path / "user" / "hsframework").mkdir(parents=True)
    (tmp_path / "system").mkdir()
    return tmp_path / "user" / "hsframework"


def test_the_folder_of_each_user(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's is the system's, another one's in the runtime directory of the user, never where others may make one."""
    assert default_runtime_dir() == user
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert default_runtime_dir() == Path("/run/user/1234/hsframework")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_runtime_dir() == places.SYSTEM_RUNTIME_DIR


@pytest.mark.parametrize("uid", [0, 1234])
def test_the_environment_comes_first(user: Path, monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    """HSFRAMEWORK_RUNTIME_DIR names the folder for service and clients, root's too; an argument comes before it."""
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setenv(places.VARIABLE, "/somewhere/else")
    assert default_runtime_dir() == Path("/somewhere/else")
    assert consumer_socket() == Path("/somewhere/else") / CONSUMER_SOCKET
    assert consumer_socket(user) == user / CONSUMER_SOCKET


def test_a_users_own_dispatcher_comes_before_the_systems(user: Path) -> None:
    """Of two that are not there the user's own is named, so that the error is about it."""
    own, system = user / CONSUMER_SOCKET, places.SYSTEM_RUNTIME_DIR / CONSUMER_SOCKET
    assert consumer_socket() == own
    system.touch()
    assert consumer_socket() == system
    own.touch()
    assert consumer_socket() == own
    system.unlink()
    assert consumer_socket() == own


def test_a_folder_or_the_socket_itself_may_be_named(user: Path) -> None:
    """A path that is no socket is a folder's, also if there is nothing."""
    assert consumer_socket(user) == consumer_socket(str(user)) == user / CONSUMER_SOCKET
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as made:
        made.bind(str(user / "mine"))
        assert consumer_socket(user / "mine") == user / "mine"
    assert AGENT_SOCKET != CONSUMER_SOCKET


def test_the_longest_path(tmp_path: Path) -> None:
    """A socket is bound to a path of that many bytes, and to none of one more."""
    base = f"{tmp_path}/"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as made:
        made.bind(base + "x" * (PATH_LIMIT - len(base)))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as made, pytest.raises(OSError, match="too long"):
        made.bind(base + "x" * (PATH_LIMIT + 1 - len(base)))
