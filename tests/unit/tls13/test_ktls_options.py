"""The options of kTLS for network cards: which are asked for, what counts as refused, and what is required."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Any, cast

import pytest

from hsframework.errors import ConfigurationError
from hsframework_tls13 import ktls
from hsframework_tls13.ciphers import AES_128_GCM
from hsframework_tls13.ktls import KernelRefused
from hsframework_tls13.ktls_options import Option, check_required, refused_here, set_all, wanted
from hsframework_tls13.settings import Settings

SOL_TLS = 282
ONE = struct.pack("=I", 1)
NO_PAD, LENGTH = Option("ktls-no-pad", 4, ONE), Option("ktls-max-payload", 5, struct.pack("=H", 4096))


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({}, ()),
        ({"ktls_zerocopy_sendfile": True}, (Option("ktls-zerocopy-sendfile", 3, ONE),)),
        ({"ktls_no_pad": True, "ktls_max_payload": 4096}, (NO_PAD, LENGTH)),
    ],
    ids=str,
)
def test_wanted(settings: dict[str, Any], options: tuple[Option, ...]) -> None:
    """The kernel's numbers and sizes: two are u32, the length is u16 (linux/tls.h)."""
    assert wanted(Settings(**settings)) == options


class Socket:
    """One whose kernel knows some options, and answers another value for some."""

    def __init__(self, known: set[int], answers: dict[int, bytes] | None = None) -> None:
        self.known, self.answers = known, answers or {}
        self.values: dict[int, bytes] = {}

    def setsockopt(self, level: int, number: int, value: bytes) -> None:
        assert level == SOL_TLS
        if number not in self.known:
            raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))
        self.values[number] = value

    def getsockopt(self, level: int, number: int, size: int) -> bytes:
        return self.answers.get(number, self.values[number])[:size]


@pytest.mark.parametrize(
    ("sock", "refused"),
    [
        (Socket({4, 5}), {}),
        (Socket({4}), {"ktls-max-payload": "Protocol not available"}),
        (Socket({5}), {"ktls-no-pad": "Protocol not available"}),
        (Socket({4, 5}, {4: bytes(4)}), {"ktls-no-pad": "it reads back as 0"}),
        (Socket({4, 5}, {5: struct.pack("=H", 512)}), {"ktls-max-payload": "it reads back as 512"}),
    ],
    ids=["all", "no length", "no padding", "not kept", "another value"],
)
def test_what_counts_as_refused(sock: Socket, refused: dict[str, str]) -> None:
    """An error, and a value that is not the one that was set; one refusal does not keep the others from being set."""
    assert set_all(cast(socket.socket, sock), [NO_PAD, LENGTH]) == refused


def test_what_is_required() -> None:
    """A required option that is refused is a mistake in the configuration; any other is not."""
    check_required({"ktls-no-pad": "why"}, ["ktls-max-payload"])
    with pytest.raises(ConfigurationError, match=r"ktls-require: this kernel refuses ktls-no-pad \(why\)"):
        check_required({"ktls-no-pad": "why"}, ["ktls-no-pad"])


def test_no_session_to_try_them_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one, nothing is known to be taken: every option counts as refused."""

    def refuse(*_: object) -> None:
        raise KernelRefused("TCP_ULP tls", OSError(errno.ENOENT, "no such module"))

    monkeypatch.setattr(ktls, "install", refuse)
    found = refused_here(AES_128_GCM, [NO_PAD, LENGTH])
    assert found.keys() == {"ktls-no-pad", "ktls-max-payload"}
    assert all("TCP_ULP tls" in reason for reason in found.values())
