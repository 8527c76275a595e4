"""The reader of ClientHellos: what OpenSSL sends, in every fragmentation, and what nobody should send."""

from __future__ import annotations

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from hsframework.failures import Failure, HandshakeFailed
from hsframework.tls.alerts import describe_alert
from hsframework.tls.client_hello import ClientHello, parse_client_hello
from hsframework_tls13.client_hello import MAX_SIZE, ClientHelloReader
from hsframework_tls13.engine import ClientEngine
from tests.unit.tls13.support import CONTEXTS, KEY_256

ALLOWED = {Failure.GARBAGE, Failure.ILLEGAL_PARAMETER, Failure.UNEXPECTED_MESSAGE, Failure.PEER_REFUSED}


def record(body: bytes, kind: int = 22) -> bytes:
    return bytes((kind, 3, 1)) + len(body).to_bytes(2, "big") + body


def extension(number: int, body: bytes) -> bytes:
    return number.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body


def hello(*extensions: bytes, session: bytes = b"", suites: bytes = b"\x13\x01", tail: bytes = b"") -> bytes:
    """Make a ClientHello's body."""
    joined = b"".join(extensions)
    return (
        b"\x03\x03"
        + bytes(32)
        + bytes((len(session),))
        + session
        + len(suites).to_bytes(2, "big")
        + suites
        + b"\x01\x00"
        + len(joined).to_bytes(2, "big")
        + joined
        + tail
    )


def vector(size: int, data: bytes) -> bytes:
    return len(data).to_bytes(size, "big") + data


def psk(identities: list[bytes], binders: list[bytes]) -> bytes:
    names = b"".join(vector(2, name) + bytes(4) for name in identities)
    return extension(41, vector(2, names) + vector(2, b"".join(vector(1, binder) for binder in binders)))


def openssl_hello() -> bytes:
    engine = ClientEngine(CONTEXTS, server_name="server.example", alpn=("h2", "sunrpc"), psk=KEY_256)
    return engine.data_to_send()


OPENSSL = openssl_hello()


def check_openssl(parsed: ClientHello | None) -> None:
    assert parsed is not None
    assert parsed.server_name == "server.example"
    assert parsed.alpn == (b"h2", b"sunrpc")
    assert parsed.psk_identities == (KEY_256.identity,)
    assert parsed.psk_binder_sizes == (32,)
    assert parsed.supported_versions == (0x0304,)
    assert set(parsed.cipher_suites) == {0x1301, 0x1303, 0x1304}
    assert {0x0403, 0x0804, 0x0807, 0x0904} <= set(parsed.signature_algorithms)
    assert 51 in parsed.extensions


def test_what_openssl_sends() -> None:
    """All that is read from a real ClientHello."""
    check_openssl(ClientHelloReader().feed(OPENSSL))


@hypothesis_settings(deadline=None)
@given(st.lists(st.integers(1, len(OPENSSL) - 6), max_size=8, unique=True))
def test_it_may_span_records(cuts: list[int]) -> None:
    """In any number of records: nothing before the last, the same after it."""
    body = OPENSSL[5:]
    edges = [0, *sorted(cuts), len(body)]
    reader = ClientHelloReader()
    parsed = [reader.feed(record(body[start:end])) for start, end in zip(edges, edges[1:], strict=False)]
    assert parsed[:-1] == [None] * (len(parsed) - 1)
    check_openssl(parsed[-1])


@hypothesis_settings(deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    """Documented failures only."""
    try:
        parse_client_hello(data)
    except HandshakeFailed as error:
        assert error.failure in ALLOWED


@hypothesis_settings(deadline=None)
@given(st.data())
def test_mangled_hellos(data: st.DataObject) -> None:
    """A real one, spoilt: the reader goes on, waits for more, or fails as documented."""
    mangled = bytearray(OPENSSL)
    for _ in range(data.draw(st.integers(1, 5))):
        mangled[data.draw(st.integers(0, len(mangled) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(5, len(mangled)))
    try:
        ClientHelloReader().feed(bytes(mangled[:cut]))
    except HandshakeFailed as error:
        assert error.failure in ALLOWED


@pytest.mark.parametrize("cut", range(38, len(hello(extension(0, b""))) - 1, 1))
def test_every_truncation_is_garbage(cut: int) -> None:
    """A body that ends early; where the extensions would begin, it is one of an old client instead."""
    body = hello(extension(43, b"\x02\x03\x04"))
    before_extensions = len(hello()) - 2
    if cut == before_extensions:
        assert parse_client_hello(body[:cut]).extensions == frozenset()
        return
    with pytest.raises(HandshakeFailed) as caught:
        parse_client_hello(body[:cut])
    assert caught.value.failure is Failure.GARBAGE


BAD: dict[str, tuple[bytes, Failure]] = {
    "trailing": (hello(tail=b"x"), Failure.GARBAGE),
    "long session": (hello(session=bytes(33)), Failure.GARBAGE),
    "no suites": (hello(suites=b""), Failure.GARBAGE),
    "half a suite": (hello(suites=b"\x13\x01\x13"), Failure.GARBAGE),
    "twice": (hello(extension(5, b""), extension(5, b"")), Failure.ILLEGAL_PARAMETER),
    "psk not last": (hello(psk([b"a"], [bytes(32)]), extension(5, b"")), Failure.ILLEGAL_PARAMETER),
    "psk twice": (hello(psk([b"a"], [bytes(32)]), psk([b"a"], [bytes(32)])), Failure.ILLEGAL_PARAMETER),
    "binders missing": (hello(psk([b"a", b"b"], [bytes(32)])), Failure.ILLEGAL_PARAMETER),
    "short binder": (hello(psk([b"a"], [bytes(31)])), Failure.GARBAGE),
    "no identities": (hello(psk([], [bytes(32)])), Failure.GARBAGE),
    "empty identity": (hello(psk([b"", b"b"], [bytes(32)] * 2)), Failure.GARBAGE),
    "no versions": (hello(extension(43, b"\0")), Failure.GARBAGE),
    "half a version": (hello(extension(43, b"\x03\x03\x04\x03")), Failure.GARBAGE),
    "more than versions": (hello(extension(43, b"\x02\x03\x04x")), Failure.GARBAGE),
    "empty name": (hello(extension(0, b"\0\0")), Failure.GARBAGE),
    "empty protocol": (hello(extension(16, vector(2, b"\0\0"))), Failure.GARBAGE),
    "long protocol": (hello(extension(16, vector(2, b"\x05abc"))), Failure.GARBAGE),
}


@pytest.mark.parametrize("case", BAD)
def test_what_nobody_should_send(case: str) -> None:
    """Each violation of the structure and the failure it is."""
    body, failure = BAD[case]
    with pytest.raises(HandshakeFailed) as caught:
        parse_client_hello(body)
    assert caught.value.failure is failure


@pytest.mark.parametrize(
    ("data", "failure"),
    [
        (record(b"\x01\x00\x00\x04", 23), Failure.UNEXPECTED_MESSAGE),
        (record(b"\x01", 20), Failure.UNEXPECTED_MESSAGE),
        (record(b""), Failure.UNEXPECTED_MESSAGE),
        (record(b"\x02"), Failure.UNEXPECTED_MESSAGE),
        (record(b"\x02\x28", 21), Failure.PEER_REFUSED),
        (record(b"\x01" + MAX_SIZE.to_bytes(3, "big")), Failure.ILLEGAL_PARAMETER),
        (record(b"\x01" + vector(3, hello()) + b"\x14"), Failure.UNEXPECTED_MESSAGE),
    ],
    ids=["data", "ccs", "empty", "server hello", "alert", "endless", "followed"],
)
def test_records_that_do_not_begin_one(data: bytes, failure: Failure) -> None:
    """Records that cannot be the beginning of a ClientHello are known by their header."""
    with pytest.raises(HandshakeFailed) as caught:
        ClientHelloReader().feed(data)
    assert caught.value.failure is failure


def test_an_alert_has_its_name() -> None:
    """The peer's wish is reported where its alert tells it; each alert that we send has a name, others their number."""
    with pytest.raises(HandshakeFailed, match=r"alert 116 \(certificate_required\): it wants a certificate of ours$"):
        ClientHelloReader().feed(record(b"\x02\x74", 21))
    sent = {failure.alert for failure in Failure} - {None}
    assert not [alert for alert in sent if alert is not None and "_" not in describe_alert(alert)]
    assert describe_alert(255) == "alert 255"


def test_names_of_other_types_are_passed_over() -> None:
    """RFC 6066 section 3: only host_name is looked at, the first of them."""
    names = b"\x07" + vector(2, b"?") + b"\x00" + vector(2, b"a.example") + b"\x00" + vector(2, b"b.example")
    assert parse_client_hello(hello(extension(0, vector(2, names)))).server_name == "a.example"
