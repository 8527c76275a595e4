"""Targets of the coverage-guided fuzzer: each takes any bytes that a stranger may send, and raises nothing but a fault.

The documented errors are good ends.  What is accepted is held to a property where there is one.  The inputs of a target
are in ``tests/fuzz/corpus/NAME.hex``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

from hsframework.credentials.certificate import ParsedCertificate
from hsframework.credentials.identities import identity_from_bytes
from hsframework.credentials.names import describe_names
from hsframework.credentials.psk import parse_psks
from hsframework.credentials.trust import certificates_in, crls_in
from hsframework.errors import ConfigurationError, MessageError
from hsframework.failures import HandshakeFailed
from hsframework.interface import AddressValidation, Admission, Role, Secret
from hsframework.local.channel import LOCAL_MESSAGE_TYPE
from hsframework.local.packets import messages_of
from hsframework.local.trustfile import decode_trust, encode_trust
from hsframework.netlink.messages import Form, MessageCodec, encode_error, sequence_of
from hsframework.netlink.spec import builtin_specification
from hsframework.tls.client_hello import extensions_of, offers_alpn, parse_client_hello
from hsframework_psp.messages import decode as decode_psp
from hsframework_psp.packets import PacketRefused, decapsulate
from hsframework_quic.handshake.frames import glimpse
from hsframework_quic.handshake.packets import short_packet
from hsframework_quic.headers import initial, long_header
from hsframework_quic.port.gate import QuicGate
from hsframework_tls13.ciphers import SUITES
from hsframework_tls13.client_hello import ClientHelloReader
from hsframework_tls13.events import SessionBroken
from hsframework_tls13.protection import Sealer
from hsframework_tls13.recordlayer import RecordLayer
from hsframework_tls13.records import HEADER_SIZE, MAX_CIPHERTEXT, body_size

Target = Callable[[bytes], None]

FORMS: tuple[Form, ...] = ("request", "reply", "event")
CODECS = tuple(
    MessageCodec(builtin_specification(family), message_type=LOCAL_MESSAGE_TYPE, receives=(form,))
    for family in ("local", "handshake", "handshake-raw")
    for form in FORMS
)
SECRET = Secret(b"s" * 48)


def codec(data: bytes) -> None:
    """Read messages of all families; the first byte chooses family and form.  What is read is written the same."""
    chosen, data = CODECS[(data[:1] or b"\0")[0] % len(CODECS)], data[1:]
    assert b"".join(messages_of(data)) == data
    try:
        message = chosen.decode(data)
    except MessageError:
        assert chosen.decode(encode_error(74, sequence_of(data), "refused")).error == 74
        return
    if message.error is None:
        again = chosen.encode(message.operation, message.values, sequence=message.sequence, flags=message.flags)
        assert chosen.decode(again).values == message.values


def trust_file(data: bytes) -> None:
    """Read the file by which a trust is sent.  What is read is written the same."""
    with contextlib.suppress(MessageError):
        trust = decode_trust(data)
        assert decode_trust(encode_trust(trust)) == trust


def records(data: bytes) -> None:
    """Read records of a peer without the keys, and of one that has them (the first byte's lowest bit)."""
    with contextlib.suppress(HandshakeFailed):
        if len(data) >= HEADER_SIZE:
            assert 0 <= body_size(data[:HEADER_SIZE]) <= MAX_CIPHERTEXT
    suite = SUITES[0]
    layer = RecordLayer(Role.CLIENT, suite, Secret(b"c" * 48), SECRET)
    wire = data[1:]
    if data[:1] and data[0] & 1:
        sealer = Sealer(suite, SECRET)
        pieces = [wire[start : start + 48] for start in range(0, len(wire), 48)]
        wire = b"".join(sealer.seal(piece[0], piece[1:]) for piece in pieces)
    with contextlib.suppress(SessionBroken):
        for event in layer.receive_data(wire):
            assert event is not None
        layer.receive_eof()
    layer.data_to_send()


def client_hello(data: bytes) -> None:
    """Read a ClientHello in records, and its body alone."""
    reader = ClientHelloReader()
    rest = data
    with contextlib.suppress(HandshakeFailed):
        while len(rest) >= HEADER_SIZE:
            end = HEADER_SIZE + body_size(rest[:HEADER_SIZE])
            if len(rest) < end or reader.feed(rest[:end]) is not None:
                break
            rest = rest[end:]
    body = data[HEADER_SIZE + 4 :]
    try:
        hello = parse_client_hello(body)
    except HandshakeFailed:
        return
    assert hello.extensions == extensions_of(body)
    assert offers_alpn(body) or not hello.alpn


def credentials(data: bytes) -> None:
    """Read certificates, revocation lists, keys and files of pre-shared keys, by the first byte."""
    kind, data = (data[:1] or b"\0")[0] % 5, data[1:]
    with contextlib.suppress(ConfigurationError):
        if kind == 0:
            certificates_in(data, "file")
        elif kind == 1:
            crls_in(data, "file")
        elif kind == 2:
            for psk in parse_psks(data, "file"):
                assert psk.identity
                assert psk.key.reveal()
        elif kind == 3:
            half = len(data) // 2
            identity_from_bytes(data[:half], data[half:])
        else:
            certificate(data)


def certificate(der: bytes) -> None:
    """Read one certificate of a peer."""
    with contextlib.suppress(ValueError, HandshakeFailed):
        parsed = ParsedCertificate(der)
        assert parsed.key_id is None or len(parsed.key_id) < len(der)
        assert isinstance(describe_names(parsed.facts.names), str)


GATE = QuicGate(AddressValidation.ALWAYS, bytes)


def quic_headers(data: bytes) -> None:
    """Judge first datagrams, and read decrypted payloads.  No answer has more than half the size of its question."""
    header = long_header(data)
    if header is not None:
        first = initial(header)
        assert first is None or 8 <= len(first.destination) <= 20
    answer = GATE.judge(data + bytes(max(0, 1200 - len(data))), "192.0.2.1:4433", now=1.0, busy=True)
    assert answer is None or isinstance(answer, Admission) or len(answer) * 2 <= max(1200, len(data))
    seen = glimpse(data)
    assert sum(len(piece) for _, piece in seen.crypto) <= len(data)
    assert data.endswith(short_packet(data))


def psp_messages(data: bytes) -> None:
    """Read messages of the exchange, and datagrams with packets.  What is read is written the same."""
    with contextlib.suppress(HandshakeFailed):
        message = decode_psp(data)
        assert decode_psp(message.encode()) == message
    with contextlib.suppress(PacketRefused):
        assert len(decapsulate(data)) <= max(0, len(data) - 8)


TARGETS: Mapping[str, Target] = {
    "codec": codec,
    "trust-file": trust_file,
    "records": records,
    "client-hello": client_hello,
    "credentials": credentials,
    "quic-headers": quic_headers,
    "psp-messages": psp_messages,
}
