"""Input of a network peer: records, a ClientHello, and a session's protected records."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, strategies as st
from OpenSSL import SSL

from hsframework.failures import HandshakeFailed
from hsframework.interface import Role, Secret
from hsframework_tls13.ciphers import SUITES, CipherSuite
from hsframework_tls13.client_hello import ClientHelloReader
from hsframework_tls13.events import Data, SessionBroken
from hsframework_tls13.protection import Sealer
from hsframework_tls13.recordlayer import RecordLayer
from hsframework_tls13.records import HANDSHAKE, HEADER_SIZE, MAX_CIPHERTEXT, body_size
from tests.fuzz.conftest import Fuzz
from tests.fuzz.mutation import damaged

pytestmark = pytest.mark.fuzz


def client_hello() -> bytes:
    """Return the body of OpenSSL's own ClientHello record, with SNI and ALPN."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_alpn_protos([b"h2", b"sunrpc"])
    connection = SSL.Connection(context, None)
    connection.set_tlsext_host_name(b"server.example")
    connection.set_connect_state()
    with contextlib.suppress(SSL.WantReadError):
        connection.do_handshake()
    return connection.bio_read(65536)[HEADER_SIZE:]


HELLO = client_hello()


def test_record_headers(fuzz: Fuzz) -> None:
    """A header gives a length within the limit, or HandshakeFailed."""

    @given(st.one_of(st.binary(min_size=5, max_size=5), damaged(b"\x16\3\1\0\x10").filter(lambda data: len(data) == 5)))
    def target(header: bytes) -> None:
        with contextlib.suppress(HandshakeFailed):
            assert 0 <= body_size(header) <= MAX_CIPHERTEXT

    fuzz(target)


def test_client_hello(fuzz: Fuzz) -> None:
    """A damaged ClientHello, in records of any size, is read or refused with HandshakeFailed."""

    @given(st.one_of(st.just(HELLO), damaged(HELLO), st.binary(max_size=80)), st.integers(1, 700), st.booleans())
    def target(message: bytes, size: int, right_length: bool) -> None:
        if right_length and len(message) >= 4:
            message = message[:1] + (len(message) - 4).to_bytes(3, "big") + message[4:]
        reader = ClientHelloReader()
        with contextlib.suppress(HandshakeFailed):
            for start in range(0, len(message), size):
                body = message[start : start + size]
                if reader.feed(bytes((HANDSHAKE, 3, 1)) + len(body).to_bytes(2, "big") + body) is not None:
                    return

    fuzz(target)


def receiver(suite: CipherSuite) -> RecordLayer:
    """Make the client's end of a session whose server's secret is SECRET."""
    return RecordLayer(Role.CLIENT, suite, Secret(b"c" * 48), SECRET)


SECRET = Secret(b"s" * 48)


def receive(layer: RecordLayer, data: bytes, size: int) -> bytes:
    """Feed ``data`` in pieces; the application data that came out before the end or the first error."""
    received = b""
    try:
        for start in range(0, len(data), size):
            for event in layer.receive_data(data[start : start + size]):
                received += event.data if isinstance(event, Data) else b""
        layer.receive_eof()
    except SessionBroken as broken:
        assert layer.failure is not None
        with pytest.raises(SessionBroken):
            layer.encrypt(b"more")
        assert broken.errno
    layer.data_to_send()
    layer.close()
    return received


def test_damaged_sessions(fuzz: Fuzz) -> None:
    """On the wire anything may be changed: what comes out is a prefix of what went in."""

    @given(
        st.sampled_from(SUITES),
        st.lists(st.one_of(st.binary(min_size=1, max_size=60), st.booleans()), min_size=1, max_size=6),
        st.integers(1, 300),
        st.data(),
    )
    def target(suite: CipherSuite, sent: list[bytes | bool], size: int, data: st.DataObject) -> None:
        sender = RecordLayer(Role.SERVER, suite, Secret(b"c" * 48), SECRET)
        wire = b"".join(sender.encrypt(item) if isinstance(item, bytes) else sender.update_keys(item) for item in sent)
        wire += sender.close()
        whole = b"".join(item for item in sent if isinstance(item, bytes))
        assert receive(receiver(suite), wire, size) == whole
        assert whole.startswith(receive(receiver(suite), data.draw(damaged(wire)), size))

    fuzz(target)


def test_authentic_nonsense(fuzz: Fuzz) -> None:
    """A peer that has the keys and sends records of any type and content."""
    messages = st.sampled_from([b"\x18\0\0\1\0", b"\x18\0\0\1\1", b"\4\0\0\1\0", b"\1\0", b"\2\x28", b"\x0d\0\0\0"])
    record = st.tuples(st.sampled_from([20, 21, 22, 23, 24, 0]), st.one_of(messages, st.binary(max_size=60)))

    @given(st.sampled_from(SUITES), st.lists(record, max_size=6), st.integers(1, 200))
    def target(suite: CipherSuite, records: list[tuple[int, bytes]], size: int) -> None:
        sealer = Sealer(suite, SECRET)
        receive(receiver(suite), b"".join(sealer.seal(kind, content) for kind, content in records), size)

    fuzz(target)
