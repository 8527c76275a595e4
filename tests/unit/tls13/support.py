"""Two engines, or one engine and a bare pyOpenSSL peer, connected through memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import PresharedKey, Role, Secret
from hsframework.testing.certificates import Authority
from hsframework_tls13.ciphers import SUITES, CipherSuite
from hsframework_tls13.contexts import Contexts
from hsframework_tls13.engine import ClientEngine, Engine, Established, ServerEngine
from hsframework_tls13.recordlayer import RecordLayer
from hsframework_tls13.records import HANDSHAKE, HEADER_SIZE
from hsframework_tls13.settings import Settings

RFC8448: dict[str, str] = json.loads((Path(__file__).parent / "data" / "rfc8448_section3.json").read_text())
ROOT = Authority("Engine Test Root")
SERVER = ROOT.issue(["server.example", "192.0.2.1"]).identity
CLIENT = ROOT.issue(["client.example"]).identity
CONTEXTS = Contexts(Settings())
KEY_256 = PresharedKey(b"NVMe1R01 nqn.2014-08.org:host nqn.2014-08.org:subsystem", Secret(b"\x07" * 32))
KEY_384 = PresharedKey(b"NVMe1R02 nqn.2014-08.org:host nqn.2014-08.org:subsystem", Secret(b"\x08" * 48), "sha384")


def rfc8448(name: str) -> bytes:
    return bytes.fromhex(RFC8448[name])


def believe(chain: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Accept any chain: for tests of something else."""
    return chain


def records(data: bytes) -> Iterator[bytes]:
    """Yield whole records."""
    position = 0
    while position < len(data):
        end = position + 5 + int.from_bytes(data[position + 3 : position + 5], "big")
        assert end <= len(data)
        yield data[position:end]
        position = end


def exchange(client: Engine, server: Engine, psk: PresharedKey | None = None) -> tuple[Established, Established]:
    """Run both to their end, record by record.  Raises what either raises."""
    to_server = to_client = b"start"
    while to_server or to_client:
        to_server = client.data_to_send()
        feed(server, to_server, psk)
        to_client = server.data_to_send()
        feed(client, to_client)
    return client.established, server.established


def feed(engine: Engine, data: bytes, psk: PresharedKey | None = None) -> None:
    for record in records(data):
        engine.feed(record)
        if isinstance(engine, ServerEngine) and engine.psk_identities:
            engine.provide_psk(psk)


def failed(engine: Engine, data: bytes, psk: PresharedKey | None = None) -> HandshakeFailed:
    """Return the error that ``data`` ends in."""
    with pytest.raises(HandshakeFailed) as caught:
        feed(engine, data, psk)
    return caught.value


def refusal(refused: Engine, told: Engine, data: bytes, psk: PresharedKey | None = None) -> HandshakeFailed:
    """Check that ``data`` makes ``refused`` fail, and that its peer gets the alert that the table names."""
    error = failed(refused, data, psk)
    heard = failed(told, refused.data_to_send())
    assert heard.failure is Failure.PEER_REFUSED
    assert heard.peer_alert == error.failure.alert
    return error


def edited(record: bytes, edit: Callable[[dict[int, bytes]], None], *, version: bytes = b"\3\3") -> bytes:
    """Return a hello in one record with its extensions, or its legacy_version, changed."""
    kind, body = record[HEADER_SIZE], record[HEADER_SIZE + 4 :]
    at = 2 + 32
    at += 1 + body[at]  # session id
    at += 2 + int.from_bytes(body[at : at + 2], "big") if kind == 1 else 2  # suites, or the suite
    at += 1 + body[at] if kind == 1 else 1  # compression
    extensions, position = {}, at + 2
    while position < len(body):
        number, size = (int.from_bytes(body[position + skip : position + skip + 2], "big") for skip in (0, 2))
        extensions[number] = body[position + 4 : position + 4 + size]
        position += 4 + size
    edit(extensions)
    tail = b"".join(
        number.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data for number, data in extensions.items()
    )
    body = version + body[2:at] + len(tail).to_bytes(2, "big") + tail
    message = bytes((kind,)) + len(body).to_bytes(3, "big") + body
    return bytes((HANDSHAKE, 3, 1)) + len(message).to_bytes(2, "big") + message


def session_layers(suite: CipherSuite = SUITES[0], sequence: int = 0) -> tuple[RecordLayer, RecordLayer]:
    """Make a client's and a server's record layer of one session."""
    size = 32 if suite.hash == "sha256" else 48
    client, server = Secret(b"c" * size), Secret(b"s" * size)
    ends = (Role.CLIENT, Role.SERVER)
    first, second = (
        RecordLayer(role, suite, client, server, read_sequence=sequence, write_sequence=sequence) for role in ends
    )
    return first, second


__all__ = ["ClientEngine", "ServerEngine"]
