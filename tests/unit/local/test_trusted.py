"""Paths and listeners of local sockets that only trusted users can have made."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from hsframework.errors import ConfigurationError, HsframeworkError
from hsframework.local.trusted import VARIABLE, check_listener, check_path, trusted_users

OTHER = 60_001
"""A user who is neither root nor ours."""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="files of other users are made by root")
TRUSTED = frozenset({0, os.geteuid()})


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a socket's file in it, whose parents are trusted."""
    folder = tmp_path / "outer" / "inner"
    folder.mkdir(parents=True)
    (folder / "socket").touch()
    return folder


def refused(path: Path, trusted: frozenset[int] = TRUSTED) -> str:
    with pytest.raises(HsframeworkError) as caught:
        check_path(path, trusted)
    assert caught.value.errno == errno.EPERM
    return str(caught.value)


def test_a_path_of_our_own(place: Path) -> None:
    """It passes, as does what is missing: connecting says so."""
    check_path(place / "socket", TRUSTED)
    check_path(place / "missing" / "socket", TRUSTED)


@as_root
@pytest.mark.parametrize("part", ["outer", "outer/inner", "outer/inner/socket"])
def test_each_part_of_the_path_is_looked_at(tmp_path: Path, place: Path, part: str) -> None:
    """One folder of another user's, or the socket itself, is enough to refuse it; the user may be named."""
    os.chown(tmp_path / part, OTHER, OTHER)
    assert f"{tmp_path / part} belongs to user {OTHER}" in refused(place / "socket")
    check_path(place / "socket", TRUSTED | {OTHER})


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_a_folder_that_others_may_write(place: Path, mode: int) -> None:
    """A user who may write there could replace its contents; the sticky bit forbids that."""
    place.parent.chmod(mode)
    assert f"other users may write into {place.parent}" in refused(place / "socket")
    place.parent.chmod(mode | 0o1000)
    check_path(place / "socket", TRUSTED)


@as_root
def test_symbolic_links_are_followed_by_the_same_rules(tmp_path: Path, place: Path) -> None:
    """A link of another user's, and one of ours that leads through another user's folder."""
    way = tmp_path / "way"
    way.symlink_to("outer/../outer/inner")
    check_path(way / "socket", TRUSTED)
    os.chown(way, OTHER, OTHER, follow_symlinks=False)
    assert f"{way} belongs to" in refused(way / "socket")
    os.chown(way, 0, 0, follow_symlinks=False)
    os.chown(place.parent, OTHER, OTHER)
    assert f"{place.parent} belongs to" in refused(way / "socket")


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    """The kernel refuses to follow them; so the check has nothing to say."""
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    check_path(tmp_path / "one" / "socket", TRUSTED)


def test_the_listener_is_known_by_its_credentials(tmp_path: Path) -> None:
    """Ours is trusted; one that is not among the trusted users is named."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as ours:
            ours.connect(str(path))
            check_listener(ours, path, TRUSTED)
            with pytest.raises(HsframeworkError, match=f"user {os.geteuid()} listens there") as caught:
                check_listener(ours, path, frozenset({OTHER}))
    assert caught.value.errno == errno.EPERM


def test_the_trusted_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root, ourselves, and one who is named: by argument, else by the environment."""
    monkeypatch.delenv(VARIABLE, raising=False)
    assert trusted_users() == TRUSTED
    monkeypatch.setenv(VARIABLE, str(OTHER))
    assert trusted_users() == TRUSTED | {OTHER}
    assert trusted_users("daemon") == TRUSTED | {1}
    monkeypatch.setenv(VARIABLE, "nobody-of-this-name")
    with pytest.raises(ConfigurationError, match=f"{VARIABLE}: there is no user"):
        trusted_users()
