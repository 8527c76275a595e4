"""The table of what a session in the kernel looks like: by group, by SO_PROTOCOL, and as the socket answers."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import cast

import pytest

from hsframework.dispatcher import planted as dispatcher_planted
from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.planted import session_planted
from hsframework.errors import RequestRefused
from hsframework.netlink.socket import NetlinkError, RequestSocket
from hsframework.tls.kernel_quic import IPPROTO_QUIC
from tests.support.house import connected_pair

TLS, TX, RX = 282, 1, 2
QUIC, CONNECTION_ID = 288, 4
AES_128 = struct.pack("=HH", 0x0304, 51)


class Answers:
    """A socket of one protocol with what its options answer; one that is not here is an error, as the kernel has it."""

    def __init__(self, protocol: int, options: dict[tuple[int, int], bytes], missing: int = errno.EINVAL) -> None:
        self.protocol = protocol
        self._options = options
        self._missing = missing

    def option(self, level: int, name: int, size: int) -> bytes:
        found = self._options.get((level, name))
        if found is None:
            raise OSError(self._missing, os.strerror(self._missing))
        return found[:size]


def planted(
    group: str, protocol: int, options: dict[tuple[int, int], bytes], missing: int = errno.EINVAL
) -> bool | None:
    return session_planted(group, cast(Custody, Answers(protocol, options, missing)))


ESTABLISHED = {(QUIC, CONNECTION_ID): bytes(12)}
ENCRYPTED = {(TLS, TX): AES_128, (TLS, RX): AES_128}


def test_quic() -> None:
    """A connection that is established names its ids; EINVAL before, and where the level is unknown another error."""
    assert planted("tlshd", IPPROTO_QUIC, ESTABLISHED) is True
    for missing in (errno.EINVAL, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.ENOTCONN):
        assert planted("tlshd", IPPROTO_QUIC, {}, missing) is False
    assert planted("tlshd", IPPROTO_QUIC, {(QUIC, CONNECTION_ID): b""}) is False


def test_quic_is_asked_of_quic_alone() -> None:
    """Neither the group of TLS's own consumers nor a TCP socket has a QUIC connection, whatever the option answers."""
    assert planted("tls13", IPPROTO_QUIC, ESTABLISHED) is False
    assert planted("tlshd", socket.IPPROTO_TCP, ESTABLISHED) is False
    assert planted("tlshd", IPPROTO_QUIC, ENCRYPTED) is False


@pytest.mark.parametrize("group", ["tlshd", "tls13"])
def test_tls(group: str) -> None:
    """Both directions, each with a version and a cipher."""
    assert planted(group, socket.IPPROTO_TCP, ENCRYPTED) is True
    for options in ({}, {(TLS, TX): AES_128}, {**ENCRYPTED, (TLS, RX): bytes(4)}, {**ENCRYPTED, (TLS, TX): b"\4\3"}):
        assert planted(group, socket.IPPROTO_TCP, options) is False


def test_a_group_without_a_row() -> None:
    """The kernel's TLS is found there too; of anything else nothing can be said."""
    assert planted("further", socket.IPPROTO_TCP, ENCRYPTED) is True
    assert planted("further", socket.IPPROTO_TCP, {}) is None


class Asked:
    """The kernel's psp family, played.  ``answer``: of the question whether the socket sends protected packets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: bool | Exception, *, reached: bool = True) -> None:
        self.beside: list[tuple[int, int]] = []
        self.closed = 0
        self._answer = answer
        self._reached = reached
        monkeypatch.setattr(dispatcher_planted, "netlink_beside", self._netlink_beside)
        monkeypatch.setattr(dispatcher_planted, "sends_protected", self._sends_protected)
        monkeypatch.setattr(RequestSocket, "adopt", lambda _: self)

    def _netlink_beside(self, fd: int, family: int) -> None:
        if not self._reached:
            raise RequestRefused("out of reach", errno=errno.EPERM)
        self.beside.append((fd, family))

    def _sends_protected(self, sock: Asked, fd: int) -> bool:
        assert sock is self
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("answer", [True, False, NetlinkError("no", errno=errno.EINVAL)], ids=str)
def test_psp(monkeypatch: pytest.MonkeyPatch, answer: bool | Exception) -> None:
    """The socket's own namespace is asked, over generic netlink; a kernel that gives no answer has found none."""
    with connected_pair() as (ours, _):
        custody = Custody(os.dup(ours.fileno()), os.close)
        asked = Asked(monkeypatch, answer)
        assert session_planted("psp", custody) is (answer is True)
        assert asked.beside == [(custody.fileno(), 16)]
        assert asked.closed == 1
        custody.release()


def test_psp_that_cannot_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a right to its namespace the socket has no session."""
    with connected_pair() as (ours, _):
        custody = Custody(os.dup(ours.fileno()), os.close)
        Asked(monkeypatch, True, reached=False)
        assert session_planted("psp", custody) is False
        custody.release()
