"""Netlink sockets beside a request's socket: in our own namespace without any right, and clear where it cannot be."""

from __future__ import annotations

import errno
import fcntl
import os
import socket

import pytest

from hsframework.dispatcher.namespaces import netlink_beside
from hsframework.errors import RequestRefused
from hsframework.netlink.socket import NETLINK_GENERIC
from tests.support.running import tcp_pairs


def no_more(*_: object, **__: object) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_our_own_namespace() -> None:
    """By its cookie: no file of /proc, no ioctl, no capability; served or not."""
    with tcp_pairs() as ((near, _),):
        for served in ((), None):
            with netlink_beside(near.fileno(), NETLINK_GENERIC, served) as sock:
                assert sock.family == socket.AF_NETLINK


def test_out_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another namespace takes files of /proc: without any left it is a refusal, and nothing stays open."""
    with tcp_pairs() as ((near, _),):
        reading, writing = os.pipe()
        monkeypatch.setattr("hsframework.dispatcher.namespaces._is_ours", lambda fd: False)
        monkeypatch.setattr(fcntl, "ioctl", lambda *_: reading)
        monkeypatch.setattr(os, "fstat", no_more)
        with pytest.raises(RequestRefused, match="out of reach") as refused:
            netlink_beside(near.fileno(), NETLINK_GENERIC, None)
        monkeypatch.undo()
        assert refused.value.errno == errno.EMFILE
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(reading)
        os.close(writing)
