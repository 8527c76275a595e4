"""RFC 9001 appendix A and RFC 9369 appendix A: the protection of packets, in aioquic and in what goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from aioquic.buffer import Buffer
from aioquic.quic.crypto import CryptoContext, CryptoPair, derive_key_iv_hp, next_key_phase
from aioquic.quic.packet import get_retry_integrity_tag, pull_quic_header
from aioquic.tls import CipherSuite, Epoch

from hsframework.interface import Role, Secret
from hsframework_quic.aioquic_adapter.restore import restore
from hsframework_quic.handshake.frames import glimpse
from tests.support.quic_network import START, Network, our_client, our_server

VECTORS: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "data" / "rfc9001-appendix-a.yaml").read_text())


def octets(text: str) -> bytes:
    return bytes.fromhex("".join(text.split()))


DESTINATION = octets(str(VECTORS["destination"]))


@pytest.mark.parametrize("keys", VECTORS["keys"], ids=lambda keys: hex(keys["version"]))
def test_initial_keys(keys: dict[str, Any]) -> None:
    """A.1: both directions, and the keys that come from the secrets."""
    pair = CryptoPair()
    pair.setup_initial(cid=DESTINATION, is_client=True, version=keys["version"])
    for side, context in (("client", pair.send), ("server", pair.recv)):
        if side not in keys:
            continue
        assert context.secret == octets(keys[side]["secret"])
        derived = derive_key_iv_hp(
            cipher_suite=CipherSuite.AES_128_GCM_SHA256, secret=context.secret, version=keys["version"]
        )
        assert derived == tuple(octets(str(keys[side][name])) for name in ("key", "iv", "hp"))


@pytest.mark.parametrize(("name", "is_client"), [("client-initial", True), ("server-initial", False)])
def test_initial_packets(name: str, is_client: bool) -> None:
    """A.2 and A.3: the packet as it was protected, and back."""
    vector = VECTORS[name]
    payload = octets(vector["payload"]).ljust(vector.get("size", 0), b"\0")
    sender, receiver = CryptoPair(), CryptoPair()
    sender.setup_initial(cid=DESTINATION, is_client=is_client, version=1)
    receiver.setup_initial(cid=DESTINATION, is_client=not is_client, version=1)
    packet = sender.encrypt_packet(octets(vector["header"]), payload, vector["number"])
    assert packet.startswith(octets(vector["protected"]))
    assert packet.endswith(octets(vector.get("tag", "")))
    buffer = Buffer(data=packet)
    pull_quic_header(buffer)
    header, opened, number = receiver.decrypt_packet(packet, buffer.tell(), 0)
    assert (header, opened, number) == (octets(vector["header"]), payload, vector["number"])


@pytest.mark.parametrize("vector", VECTORS["retry"], ids=lambda vector: hex(vector["version"]))
def test_retry(vector: dict[str, Any]) -> None:
    """A.4: the integrity tag."""
    packet = octets(vector["packet"])
    assert get_retry_integrity_tag(packet[:-16], DESTINATION, vector["version"]) == packet[-16:]


def test_chacha20() -> None:
    """A.5: a short header packet, and the secret of the next key phase."""
    vector = VECTORS["chacha20"]
    context = CryptoContext()
    suite = CipherSuite.CHACHA20_POLY1305_SHA256
    context.setup(cipher_suite=suite, secret=octets(vector["secret"]), version=1)
    derived = derive_key_iv_hp(cipher_suite=suite, secret=octets(vector["secret"]), version=1)
    assert derived == tuple(octets(vector[name]) for name in ("key", "iv", "hp"))
    protected = context.encrypt_packet(octets(vector["header"]), octets(vector["payload"]), vector["number"])
    assert protected == octets(vector["protected"])
    assert next_key_phase(context).secret == octets(vector["updated"])
    _, payload, number, _ = context.decrypt_packet(protected, 1, vector["number"])
    assert number == vector["number"]
    assert glimpse(payload).ack_eliciting


def test_a_restored_connection_protects_by_the_session_s_secrets() -> None:
    """The vector's secret put into a session: the connection that goes on derives the RFC's keys from it."""
    vector = VECTORS["chacha20"]
    client, server = our_client(), our_server()
    assert Network(client, server).run(lambda: client.session is not None)
    assert client.session is not None
    secret = Secret(octets(vector["secret"]))
    for role in Role:
        changed = replace(client.session, role=role, cipher=0x1303, client_secret=secret, version=1, packets=())
        pair = restore(changed, now=START)._cryptos[Epoch.ONE_RTT]
        context = pair.send if role is Role.CLIENT else pair.recv
        packet = context.encrypt_packet(octets(vector["header"]), octets(vector["payload"]), vector["number"])
        assert packet == octets(vector["protected"])
