"""The state of the kernel's TLS in a socket: recorded answers of the kernel, and some that were made of them."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any

import pytest

from hsframework.errors import MessageError
from hsframework.netlink.socket import NetlinkError
from hsframework.netlink.tcp_diag import Connection, KernelTls, TcpDiagCodec, kernel_tls
from tests.unit.netlink.recorded import SOCK_DIAG, answering

COOKIE = b"\4\0\0\0\0\0\0\0"
CONNECTION = Connection(("127.0.0.1", 33478), ("127.0.0.1", 48036), COOKIE)
MAPPED = "00" * 10 + "ffff"
ANSWERS = [*SOCK_DIAG["recorded"], *SOCK_DIAG["made"]]


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer["name"])
def test_each_answer(answer: dict[str, Any]) -> None:
    """No TLS, keys in one direction or both, options; and devices, whose answers are made by hand."""
    with answering(answer["hex"]) as (diag, _):
        found = kernel_tls(diag, CONNECTION)
    assert found == (None if answer["tls"] is None else KernelTls(**answer["tls"]))


@pytest.mark.parametrize(
    ("local", "peer", "family", "addresses"),
    [
        ("127.0.0.1", "192.0.2.1", socket.AF_INET, ("7f000001" + "00" * 12, "c0000201" + "00" * 12)),
        ("::1", "2001:db8::2", socket.AF_INET6, ("00" * 15 + "01", "20010db8" + "00" * 11 + "02")),
        ("::ffff:127.0.0.1", "::ffff:1.1.1.1", socket.AF_INET6, (MAPPED + "7f000001", MAPPED + "01010101")),
        ("fe80::1%eth0", "fe80::2%eth0", socket.AF_INET6, ("fe80" + "00" * 13 + "01", "fe80" + "00" * 13 + "02")),
    ],
    ids=["IPv4", "IPv6", "IPv4 in IPv6", "link-local"],
)  # fmt: skip
def test_the_request(local: str, peer: str, family: int, addresses: tuple[str, str]) -> None:
    """``struct inet_diag_req_v2`` of linux/inet_diag.h, with INET_DIAG_INFO, without which there is no ULP_INFO."""
    wanted = Connection((local, 80), (peer, 443), COOKIE, interface=7)
    data = TcpDiagCodec().encode("look up", {"connection": wanted}, sequence=9, flags=1)
    head = struct.pack("=IHHII", 72, 20, 1, 9, 0) + struct.pack("=BBBBI", family, 6, 2, 0, 0xFFFFFFFF)
    assert (
        data == head + struct.pack("!HH", 80, 443) + bytes.fromhex("".join(addresses)) + struct.pack("=I", 7) + COOKIE
    )


def test_no_such_connection() -> None:
    """ENOENT, by the recorded answer."""
    with answering(SOCK_DIAG["missing"]["hex"]) as (diag, _), pytest.raises(NetlinkError) as caught:
        kernel_tls(diag, CONNECTION)
    assert caught.value.errno == errno.ENOENT


def _with_tls(*attributes: tuple[int, bytes]) -> bytes:
    """Return an answer whose TLS nest has these attributes."""

    def packed(kind: int, payload: bytes) -> bytes:
        return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) & 3)

    body = bytes(72) + packed(19, packed(1, b"tls\0") + packed(2, b"".join(packed(*each) for each in attributes)))
    return struct.pack("=IHHII", 16 + len(body), 20, 0, 1, 0) + body


@pytest.mark.parametrize(
    "data",
    [
        _with_tls(),
        _with_tls((3, b"\2\0")),
        _with_tls((3, b"\2\0"), (4, b"\2\0\0\0")),
        _with_tls((3, b"\2\0"), (4, b"\2\0"))[:60],
        struct.pack("=IHHII", 16, 24, 0, 1, 0),
    ],
    ids=["nothing", "one direction", "another size", "cut off", "another type"],
)
def test_answers_that_make_no_sense(data: bytes) -> None:
    """MessageError, and never a state."""
    with pytest.raises(MessageError):
        TcpDiagCodec().decode(data)


def test_an_old_kernel() -> None:
    """A kernel without TLS_TX_MAX_PAYLOAD_LEN does not say how long a record may be, and names both states."""
    found = TcpDiagCodec().decode(_with_tls((3, b"\2\0"), (4, b"\3\0"))).values["tls"]
    assert found == KernelTls(2, 3, max_payload=None)
