"""max_fragment_length (RFC 6066 section 4): OpenSSL agrees to it by itself, and the session keeps to it."""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import replace
from typing import Any, cast

import pytest

from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Endpoint, Role, Secret
from hsframework_tls13 import ktls, ktls_options
from hsframework_tls13.ciphers import AES_128_GCM, AES_256_GCM
from hsframework_tls13.encodings import fragment_limit
from hsframework_tls13.ktls_options import Option, limited
from hsframework_tls13.plugin import Tls13Handshaker
from hsframework_tls13.protection import Sealer
from hsframework_tls13.recordlayer import RecordLayer
from hsframework_tls13.records import APPLICATION_DATA, HEADER_SIZE
from hsframework_tls13.session import channel_for, to_parameters
from hsframework_tls13.settings import Settings
from tests.unit.tls13.engines import client_engine, server_engine
from tests.unit.tls13.support import believe, edited, exchange, feed, records
from tests.unit.tls13.test_plugin import AS_SERVER, run

MAX_FRAGMENT_LENGTH = 1
SECRETS = Secret(b"c" * 32), Secret(b"s" * 32)


@pytest.mark.parametrize("code", [1, 2, 3, 4])
@pytest.mark.parametrize("options", [{}, {"client_certificate": 1, "verify": believe}], ids=["plain", "asking"])
def test_what_openssl_agrees_to_is_known(code: int, options: dict[str, Any]) -> None:
    """A client's wish is read from OpenSSL's session: 512 bytes and its doubles."""
    (hello,) = records(client_engine().data_to_send())
    server = server_engine(**options)
    feed(server, edited(hello, lambda extensions: extensions.update({MAX_FRAGMENT_LENGTH: bytes((code,))})))
    assert server._connection is not None
    assert server._connection.max_fragment == 256 << code


def test_without_a_wish_records_are_full() -> None:
    """Neither side asks: 2^14 bytes, and the exported session does not speak of it."""
    for session in exchange(client_engine(), server_engine()):
        assert session.max_payload == 1 << 14
        assert "max-payload" not in to_parameters(session)


@pytest.mark.parametrize(
    ("session", "limit"),
    [
        (b"", None),
        (bytes.fromhex("3005b103020102"), 1024),
        (bytes.fromhex("3082000904020000b103020104"), 4096),
        (bytes.fromhex("30070405b103020102"), None),
        (bytes.fromhex("300a048104b1030201b103020103"), 2048),
        (bytes.fromhex("3005b103020105"), None),
    ],
    ids=["empty", "alone", "long form", "inside a string", "behind a string", "unknown"],
)
def test_the_tag_in_an_encoded_session(session: bytes, limit: int | None) -> None:
    """The element itself counts, and not the same bytes within another."""
    assert fragment_limit(session) == limit


def test_a_session_keeps_to_the_limit() -> None:
    """Our records are no longer than agreed, whatever is written at once; a longer one of the peer's is refused."""
    server = RecordLayer(Role.SERVER, AES_128_GCM, *SECRETS, max_payload=512)
    client = RecordLayer(Role.CLIENT, AES_128_GCM, *SECRETS)
    sent = server.encrypt(bytes(3001))
    assert [len(record) - HEADER_SIZE - 17 for record in records(sent)] == [512] * 5 + [441]
    assert client.decrypt(sent) == bytes(3001)
    assert server.decrypt(client.encrypt(bytes(512))) == bytes(512)
    with pytest.raises(Exception, match="512") as caught:
        server.receive_data(Sealer(AES_128_GCM, SECRETS[0], 1).seal(APPLICATION_DATA, bytes(513)))
    assert cast("Any", caught.value).failure is Failure.RECORD_OVERFLOW


def test_the_limit_travels_to_the_consumer() -> None:
    """It is in the session's parameters, and the consumer's channel obeys it."""
    _, session = exchange(client_engine(), server_engine())
    agreed = replace(session, max_payload=512)
    parameters = to_parameters(agreed)
    assert parameters["max-payload"] == 512
    near, far = socket.socketpair()
    with near, far:
        channel = channel_for(_established(parameters), near)
        channel.queue_data(bytes(1024))
        channel.try_flush()
        assert [len(record) for record in records(far.recv(1 << 16))] == [HEADER_SIZE + 512 + 17] * 2


def _established(parameters: dict[str, Any]) -> Any:
    from hsframework.interface import EstablishedSession, PeerIdentity

    return EstablishedSession(
        protocol="tls13",
        role=Role.SERVER,
        peer=PeerIdentity(),
        alpn=None,
        in_kernel=False,
        parameters=parameters,
        tags={},
    )


def test_the_settings_own_limit_counts_where_it_is_lower() -> None:
    """TLS_TX_MAX_PAYLOAD_LEN has the lower of the two; the other options stay."""
    pad, low, high = Option("pad", 4, b"x"), *(Option("ktls-max-payload", 5, struct.pack("=H", n)) for n in (100, 900))
    agreed = Option("max_fragment_length", 5, struct.pack("=H", 512))
    assert limited((pad, low), 512) == (pad, low)
    assert limited((pad, high), 512) == (pad, agreed)
    assert limited((), 512) == (agreed,)


class Played:
    """An endpoint with a socket whose kernel takes TLS_TX_MAX_PAYLOAD_LEN, or does not."""

    def __init__(self, *, takes: bool) -> None:
        self.takes, self.values = takes, dict[int, bytes]()
        self.sent = b""

    @property
    def socket(self) -> Played:
        return self

    def setsockopt(self, _level: int, number: int, value: bytes) -> None:
        if not self.takes:
            raise OSError(errno.ENOPROTOOPT, "no")
        self.values[number] = value

    def getsockopt(self, _level: int, number: int, _size: int) -> bytes:
        return self.values[number]

    async def send(self, data: bytes) -> None:
        self.sent += data


@pytest.mark.parametrize("takes", [True, False])
@pytest.mark.parametrize("kernel_consumer", [True, False])
def test_a_kernel_without_the_limit_gets_no_such_session(
    monkeypatch: pytest.MonkeyPatch, takes: bool, kernel_consumer: bool
) -> None:
    """It gets the limit if it can keep it; else a consumer in user space keeps it, and one in the kernel has none."""
    _, session = exchange(client_engine(), server_engine(suites=(AES_256_GCM,)))
    agreed = replace(session, max_payload=512)
    handshaker = Tls13Handshaker(Settings())
    monkeypatch.setattr(handshaker, "_in_kernel", (AES_256_GCM,))
    monkeypatch.setattr(handshaker, "_limits_payload", takes)
    monkeypatch.setattr(ktls, "install", lambda *_, **__: None)
    played = Played(takes=takes)
    handed_over = handshaker._hand_over(
        replace(AS_SERVER, kernel_consumer=kernel_consumer), cast("Endpoint", played), agreed
    )
    if kernel_consumer and not takes:
        with pytest.raises(HandshakeFailed) as caught:
            run(handed_over)
        assert caught.value.failure is Failure.NO_KERNEL_SESSION
        assert played.sent
        return
    result = run(handed_over)
    assert result.in_kernel is takes
    if takes:
        assert played.values[ktls_options.TLS_TX_MAX_PAYLOAD_LEN] == struct.pack("=H", 512)
    assert result.session.get("max-payload") == (None if kernel_consumer else 512)
