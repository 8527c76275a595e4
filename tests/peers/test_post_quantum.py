"""ML-DSA certificates and ML-KEM hybrid groups: the peer is OpenSSL 4 by bare pyOpenSSL, in a process of its own."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from hsframework.interface import CertificateDemand
from tests.support.doors import Door
from tests.support.meetings import Pki
from tests.support.processes import PATIENCE, Program

pytestmark = pytest.mark.peers
SCRIPT = Path(__file__).parents[1] / "support" / "bare_openssl.py"
KEM = "X25519MLKEM768"
ML_DSA = {f"ml-dsa-{size}": f"2.16.840.1.101.3.4.3.{number}" for size, number in ((44, 17), (65, 18), (87, 19))}


def start(*words: str | Path) -> Program:
    return Program([sys.executable, "-P", SCRIPT, *words])


def identity_words(pki: Pki, what: str) -> Sequence[str | Path]:
    files = pki.files(what)
    return ["--cert", files.certificate, "--key", files.private_key]


@pytest.mark.parametrize("key_type", ["ecdsa-p256", *ML_DSA])
def test_as_client(key_type: str, door: Door, pki: Pki) -> None:
    """A server with a certificate of the type, and the hybrid group: X25519MLKEM768 is what both say."""
    with start("server", *identity_words(pki, key_type), "--groups", KEM) as peer:
        port = int(peer.wait_for(r"^(\d+)\n")[1])
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
            talk = door.handshake(sock, pki.client())
            assert talk.session.tags["group"] == KEM
            assert json.loads(peer.wait_for(r"^{.*}$")[0])["group"] == KEM
            assert talk.session.peer.certificates[0] == pki.leaf(key_type).certificate
            assert talk.exchange(b"there and back\n") == b"there and back\n"
            talk.close()
        assert peer.wait() == 0, peer.said()


@pytest.mark.parametrize("key_type", ["ecdsa-p256", *ML_DSA])
def test_as_server(key_type: str, door: Door, pki: Pki) -> None:
    """Our certificate is of the type, the client verifies it by its authority."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        port = str(listener.getsockname()[1])
        with start("client", port, "--ca", pki.ca, "--name", "server.example", "--groups", KEM) as peer:
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(PATIENCE)
                talk = door.handshake(sock, pki.server(identities=(pki.leaf(key_type).identity,)))
                facts = json.loads(peer.wait_for(r"^{.*}$")[0])
                assert (facts["group"], talk.session.tags["group"]) == (KEM, KEM)
                if key_type in ML_DSA:
                    assert facts["peer"] == ML_DSA[key_type]
                assert talk.receive_exactly(14) == b"from the peer\n"
                talk.send(b"to the peer\n")
                peer.wait_for(r"^to the peer$")
                talk.close()
            assert peer.wait() == 0, peer.said()


def test_mutual(sync_door: Door, pki: Pki) -> None:
    """ML-DSA on both sides: we demand a certificate and show one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        words = ["--ca", pki.ca, "--name", "server.example", *identity_words(pki, "ml-dsa-65")]
        with start("client", str(listener.getsockname()[1]), *words) as peer:
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(PATIENCE)
                options = pki.server(
                    identities=(pki.leaf("ml-dsa-87").identity,),
                    trust=pki.trust,
                    client_certificate=CertificateDemand.REQUIRE,
                )
                talk = sync_door.handshake(sock, options)
                assert talk.session.peer.certificates[0] == pki.leaf("ml-dsa-65").certificate
                assert talk.session.tags["group"] == KEM
                assert talk.receive_exactly(14) == b"from the peer\n"
                talk.close()
            assert peer.wait() == 0, peer.said()


def test_another_hybrid(sync_door: Door, pki: Pki) -> None:
    """A hybrid that the peer wants and for which we send no key share at first (HelloRetryRequest)."""
    with start("server", *identity_words(pki, "good"), "--groups", "SecP256r1MLKEM768") as peer:
        port = int(peer.wait_for(r"^(\d+)\n")[1])
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
            talk = sync_door.handshake(sock, pki.client())
            assert talk.session.tags["group"] == "SecP256r1MLKEM768"
            assert talk.exchange(b"there and back\n") == b"there and back\n"
            talk.close()
