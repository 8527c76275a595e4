"""Version Negotiation and Retry: forged ones are ignored, a downgrade is refused, answers are bounded."""

from __future__ import annotations

import errno
import random

from aioquic.buffer import Buffer
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicPacketType, encode_quic_retry, encode_quic_version_negotiation, pull_quic_header

from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import AddressValidation, Admission
from hsframework_quic.handshake.server import MAX_NEGOTIATIONS, ClientFacts, ServerHandshake
from hsframework_quic.port.gate import QuicGate
from hsframework_quic.session import VERSION_1, VERSION_2
from hsframework_quic.settings import Settings
from tests.support.quic_network import START, Network, Ours, our_client, our_server, server_options
from tests.unit.quic.hostile import Meter, connection_of, first_flight


def test_an_unknown_version_is_answered_within_bounds() -> None:
    """Version Negotiation for a datagram that could be an Initial, a few times; nothing for a small one."""
    settings = Settings(versions=("v2", "v1"))
    _, datagram = first_flight(settings)
    unknown = datagram[:1] + bytes.fromhex("1a2a3a4a") + datagram[5:]
    meter = Meter(settings)
    meter.feed(unknown[:1199])
    assert meter.sent == 0
    meter.received += len(unknown)
    meter.handshake.receive(unknown, START)
    (answer,) = meter.handshake.output(START)
    header = pull_quic_header(Buffer(data=answer))
    assert header.packet_type is QuicPacketType.VERSION_NEGOTIATION
    assert header.supported_versions == [VERSION_2, VERSION_1]
    assert connection_of(meter.handshake) is None
    for _ in range(20):
        meter.feed(unknown)
    assert meter.sent <= (MAX_NEGOTIATIONS - 1) * len(answer)


def test_version_negotiation_is_not_answered() -> None:
    """Nobody answers it (RFC 9000 section 6.1), or two would go on for ever."""
    meter = Meter()
    meter.feed(encode_quic_version_negotiation(b"12345678", b"abcdefgh", [VERSION_1] * 300))
    assert meter.sent == 0


def test_a_forged_retry_is_ignored() -> None:
    """A Retry whose tag is wrong, that echoes another id, or that comes twice; the handshake goes on without."""
    client, datagram = first_flight()
    header = pull_quic_header(Buffer(data=datagram))
    good = encode_quic_retry(VERSION_1, b"R" * 8, header.source_cid, header.destination_cid, b"token")
    spoilt = good[:-1] + bytes((good[-1] ^ 1,))
    elsewhere = encode_quic_retry(VERSION_1, b"R" * 8, b"else-id0", header.destination_cid, b"token")
    other_version = encode_quic_retry(VERSION_2, b"R" * 8, header.source_cid, header.destination_cid, b"token")
    empty = encode_quic_retry(VERSION_1, b"R" * 8, header.source_cid, header.destination_cid, b"")
    for forged in (spoilt, elsewhere, other_version, empty, good[:20]):
        client.receive(forged, START)
        assert client.output(START) == []
    server = our_server()
    server.receive(datagram, START)
    network = Network(client, server)
    assert network.run(lambda: client.session is not None)


def test_retry_repeats_the_client_hello() -> None:
    """RFC 9000 section 17.2.5.2: the same CRYPTO data with the token; a second Retry is ignored."""
    client, datagram = first_flight()
    header = pull_quic_header(Buffer(data=datagram))
    client.receive(encode_quic_retry(VERSION_1, b"R" * 8, header.source_cid, header.destination_cid, b"token"), START)
    (again,) = client.output(START)
    repeated = pull_quic_header(Buffer(data=again))
    assert (repeated.token, repeated.destination_cid) == (b"token", b"R" * 8)
    assert client_hello(again, b"R" * 8) == client_hello(datagram, header.destination_cid)
    client.receive(encode_quic_retry(VERSION_1, b"S" * 8, header.source_cid, b"R" * 8, b"other"), START)
    assert client.output(START) == []
    server = Ours(
        ServerHandshake(
            Settings(), server_options(), ClientFacts(original_destination_connection_id=header.destination_cid,
                                                retry_source_connection_id=b"R" * 8, address_validated=True)
        )
    )  # fmt: skip
    server.receive(again, START)
    network = Network(client, server)
    assert network.run(lambda: client.session is not None and server.session is not None)


def client_hello(datagram: bytes, destination: bytes) -> bytes:
    """Return the CRYPTO data of a client's Initial."""
    buffer = Buffer(data=datagram)
    header = pull_quic_header(buffer)
    pair = CryptoPair()
    pair.setup_initial(cid=destination, is_client=False, version=header.version or 0)
    _, payload, _ = pair.decrypt_packet(datagram[: header.packet_length], buffer.tell(), 0)
    frames = Buffer(data=payload)
    assert frames.pull_uint_var() == 0x06
    assert frames.pull_uint_var() == 0
    return frames.pull_bytes(frames.pull_uint_var())


def test_a_version_that_is_not_allowed_behind_a_retry() -> None:
    """The listener asks for proof in any version that it knows; neither side waits for its deadline then."""
    gate = QuicGate(AddressValidation.ALWAYS, random.Random(1).randbytes)
    client, datagram = first_flight()
    retry = gate.judge(datagram, "192.0.2.1:9", now=START, busy=False)
    assert isinstance(retry, bytes)
    client.receive(retry, START)
    (again,) = client.output(START)
    admission = gate.judge(again, "192.0.2.1:9", now=START, busy=False)
    assert isinstance(admission, Admission)
    known = {name.replace("-", "_"): value for name, value in admission.attributes.items()}
    server = Ours(ServerHandshake(Settings(versions=("v2",)), server_options(), ClientFacts(**known)))
    server.receive(again, START)
    (answer,) = server.output(START)
    assert len(answer) < len(again)
    client.receive(answer, START)
    for side, failure in ((client, Failure.PEER_REFUSED), (server, Failure.VERSION)):
        assert isinstance(side.handshake.error, HandshakeFailed)
        assert side.handshake.error.failure is failure


def test_forged_version_negotiation_is_ignored() -> None:
    """One that does not echo our destination, or names the version that we began with."""
    client, datagram = first_flight()
    header = pull_quic_header(Buffer(data=datagram))
    client.receive(encode_quic_version_negotiation(b"somebody", header.source_cid, [VERSION_2]), START)
    assert client.output(START) == []
    client.receive(encode_quic_version_negotiation(header.destination_cid, header.source_cid, [VERSION_1]), START)
    assert client.output(START) == []
    assert client.handshake.error is None


def test_a_downgrade_is_found_out() -> None:
    """A man in the middle says that the server has v2 alone: believed at first, refused once the server is heard."""
    client, datagram = first_flight()
    header = pull_quic_header(Buffer(data=datagram))
    client.receive(encode_quic_version_negotiation(header.destination_cid, header.source_cid, [VERSION_2]), START)
    (again,) = client.output(START)
    assert pull_quic_header(Buffer(data=again)).version == VERSION_2
    server = our_server()
    server.receive(again, START)
    network = Network(client, server)
    assert network.run(lambda: client.handshake.error is not None)
    assert isinstance(client.handshake.error, HandshakeFailed)
    assert client.handshake.error.failure is Failure.VERSION


def test_no_version_in_common() -> None:
    """EPROTONOSUPPORT at once."""
    client, server = our_client(settings=Settings(versions=("v2",))), our_server(Settings(versions=("v1",)))
    network = Network(client, server)
    assert network.run(lambda: client.handshake.error is not None, 2.0)
    assert client.handshake.error is not None
    assert client.handshake.error.errno == errno.EPROTONOSUPPORT
