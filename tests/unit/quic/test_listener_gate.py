"""The gate of a QUIC listener: admission, Version Negotiation, Retry and its tokens, silence for all else."""

from __future__ import annotations

import os
from itertools import count

import pytest
from aioquic.buffer import Buffer
from aioquic.quic import events
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicPacketType, pull_quic_header
from hypothesis import given, strategies as st

from hsframework.interface import AddressValidation, Admission
from hsframework_quic.headers import initial, long_header
from hsframework_quic.port.gate import QuicGate
from hsframework_quic.port.retry import LIFETIME, ROTATION, BadToken, RetryTokens
from hsframework_quic.session import VERSION_1, VERSION_2
from tests.unit.quic.joined import client_configuration

HERE, THERE = ("192.0.2.1", 4433), "198.51.100.7:1234"
NOW = 1000.0


class Client:
    """aioquic's client and its first datagrams."""

    def __init__(self, **options: object) -> None:
        self.quic = QuicConnection(configuration=client_configuration(**options))
        self.quic.connect(HERE, NOW)

    def send(self) -> bytes:
        return self.quic.datagrams_to_send(NOW)[0][0]

    def receive(self, datagram: bytes) -> None:
        self.quic.receive_datagram(datagram, HERE, NOW)


def gate(validation: AddressValidation = AddressValidation.NEVER) -> QuicGate:
    return QuicGate(validation, os.urandom)


def judge(one: QuicGate, datagram: bytes, address: str = THERE, now: float = NOW, busy: bool = False) -> object:
    return one.judge(datagram, address, now=now, busy=busy)


@pytest.mark.parametrize("version", [VERSION_1, VERSION_2])
def test_let_in(version: int) -> None:
    """A first Initial of either version; later datagrams of the same attempt belong to it, those of another do not."""
    one, client = gate(), Client(original_version=version)
    first = client.send()
    admission = judge(one, first)
    assert isinstance(admission, Admission)
    assert one.attributes(admission, [first, b"x"]) == {"datagram": (first, b"x")}
    assert one.belongs(admission, first)
    assert not one.belongs(admission, Client().send())
    assert not one.belongs(admission, b"\x40" + bytes(30))


@pytest.mark.parametrize("version", [VERSION_1, VERSION_2])
def test_retry(version: int) -> None:
    """The client of aioquic takes our Retry; its second Initial is admitted, its address proved, with both ids."""
    one, client = gate(AddressValidation.ALWAYS), Client(original_version=version)
    first = client.send()
    answer = judge(one, first)
    assert isinstance(answer, bytes)
    assert len(answer) < len(first) // 3
    client.receive(answer)
    second = client.send()
    admission = judge(one, second)
    assert isinstance(admission, Admission)
    header = pull_quic_header(Buffer(data=second))
    assert dict(admission.attributes) == {
        "original-destination-connection-id": pull_quic_header(Buffer(data=first)).destination_cid,
        "retry-source-connection-id": header.destination_cid,
        "address-validated": True,
    }


def test_under_load() -> None:
    """No client gets a Retry while there is room; every client does when there are many newcomers."""
    one, first = gate(AddressValidation.UNDER_LOAD), Client().send()
    assert isinstance(judge(one, first), Admission)
    assert isinstance(judge(one, first, busy=True), bytes)


@pytest.mark.parametrize("wrong", ["address", "port", "late", "forged", "another connection"])
def test_tokens_that_are_refused(wrong: str) -> None:
    """The client is told INVALID_TOKEN at once, in a packet that it can read and that is smaller than its own."""
    one, client = gate(AddressValidation.ALWAYS), Client()
    answer = judge(one, client.send())
    assert isinstance(answer, bytes)
    client.receive(answer)
    second = client.send()
    address = {"address": "198.51.100.8:1234", "port": "198.51.100.7:1235"}.get(wrong, THERE)
    if wrong == "forged":
        token = pull_quic_header(Buffer(data=second)).token
        second = second.replace(token, token[:-1] + bytes([token[-1] ^ 1]))
    if wrong == "another connection":
        destination = pull_quic_header(Buffer(data=second)).destination_cid
        second = second.replace(destination, bytes(8), 1)
    refusal = judge(one, second, address, NOW + LIFETIME + 1 if wrong == "late" else NOW)
    assert isinstance(refusal, bytes)
    assert len(refusal) < 100
    if wrong in ("address", "port", "late"):
        client.receive(refusal)
        client.quic.handle_timer(NOW + 60)
        closed = [
            event for event in iter(client.quic.next_event, None) if isinstance(event, events.ConnectionTerminated)
        ]
        assert [event.error_code for event in closed] == [0x0B]


def test_a_token_that_is_no_retry_token() -> None:
    """A token of another kind proves nothing, and is no reason to refuse (RFC 9000 section 8.1.3)."""
    first = Client(token=b"from somewhere else").send()
    assert isinstance(judge(gate(), first), Admission)
    answer = judge(gate(AddressValidation.ALWAYS), first)
    assert isinstance(answer, bytes)
    assert pull_quic_header(Buffer(data=answer)).packet_type is QuicPacketType.RETRY


def test_keys_of_tokens_are_replaced() -> None:
    """A token outlives one replacement of the key, so that it is found to be expired rather than forged."""
    tokens = RetryTokens(os.urandom)
    token = tokens.make(THERE, b"original", b"retry-id", NOW)
    validated = tokens.check(token, THERE, b"retry-id", NOW + 1)
    assert validated is not None
    assert (validated.original, validated.retry) == (b"original", b"retry-id")
    tokens.make(THERE, b"o", b"r", NOW + ROTATION)
    with pytest.raises(BadToken, match="expired"):
        tokens.check(token, THERE, b"retry-id", NOW + ROTATION)
    tokens.make(THERE, b"o", b"r", NOW + 2 * ROTATION)
    with pytest.raises(BadToken, match="forged"):
        tokens.check(token, THERE, b"retry-id", NOW + 2 * ROTATION)


def test_version_negotiation() -> None:
    """An unknown version is told the known ones, and aioquic's client reads it.

    The answer to such a packet is silence.
    """
    client = Client()
    first = bytearray(client.send())
    first[1:5] = b"\x0a\x0b\x0c\x0d"
    answer = judge(gate(AddressValidation.ALWAYS), bytes(first))
    assert isinstance(answer, bytes)
    header = pull_quic_header(Buffer(data=answer))
    assert header.packet_type is QuicPacketType.VERSION_NEGOTIATION
    assert {VERSION_1, VERSION_2} <= set(header.supported_versions)
    assert (header.source_cid, header.destination_cid) == (bytes(first[6:14]), client.quic.host_cid)
    assert judge(gate(), answer + bytes(1200)) is None


@pytest.mark.parametrize(
    "what", ["short", "handshake", "0-RTT", "no fixed bit", "short connection id", "empty", "small unknown"]
)
def test_silence(what: str) -> None:
    """A datagram with which no client begins gets no answer at all."""
    first = bytearray(Client().send())
    match what:
        case "short":
            first = first[:1199]
        case "handshake":
            first[0] |= 0x20
        case "0-RTT":
            first[0] |= 0x10
        case "no fixed bit":
            first[0] &= ~0x40
        case "short connection id":
            first[5:14] = b"\x07" + bytes(7)
        case "empty":
            first = bytearray()
        case "small unknown":
            first = bytearray(b"\xc0\x0a\x0b\x0c\x0d\x00\x00") + bytes(900)
    assert judge(gate(AddressValidation.ALWAYS), bytes(first)) is None


@given(
    st.binary(max_size=64),
    st.sampled_from([b"", b"\xc0\x00\x00\x00\x01", b"\xd0\x6b\x33\x43\xcf", b"\xc0\x00\x00\x00\x01\x08"]),
)
def test_any_bytes(data: bytes, start: bytes) -> None:
    """Reading a header never fails, whatever is in it, whole and cut short.

    Answers are smaller than what they answer.
    """
    one = gate(AddressValidation.ALWAYS)
    for padding in (0, 1300):
        datagram = start + data + bytes(padding)
        answer = judge(one, datagram)
        assert answer is None or (isinstance(answer, bytes) and len(answer) < len(datagram))


def test_every_cut() -> None:
    """A header that ends too early is none: at every length of a real Initial's header."""
    numbers = count()
    tokens = RetryTokens(lambda size: bytes(next(numbers) % 256 for _ in range(size)))
    first = Client(token=tokens.make(THERE, b"12345678", b"abcdefgh", NOW)).send()
    header = pull_quic_header(Buffer(data=first))
    for size in range(header.packet_length):
        parsed = long_header(first[:size])
        assert parsed is None or initial(parsed) is None
    parsed = long_header(first)
    assert parsed is not None
    whole = initial(parsed)
    assert whole is not None
    assert (whole.destination, whole.source, whole.token) == (header.destination_cid, header.source_cid, header.token)
