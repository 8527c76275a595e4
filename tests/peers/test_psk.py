"""External pre-shared keys through the whole path.  Identities are NVMe's, which hold blanks and colons.

GnuTLS before 3.8 knows external keys with SHA-256 alone, so SHA-384 is tried with OpenSSL.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from hsframework.client import HandshakeOptions
from hsframework.interface import PresharedKey, Role, Secret
from tests.support.doors import Door
from tests.support.meetings import GNUTLS_PSK, SHA256, SHA384, TIMEOUT, chat, meeting
from tests.support.peer_programs import Kind, Setup

pytestmark = pytest.mark.peers


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize(
    ("kind", "key"),
    [("openssl", SHA256), ("openssl", SHA384), ("gnutls", SHA256)],
    ids=["openssl-sha256", "openssl-sha384", "gnutls-sha256"],
)
def test_external_key(kind: Kind, key: PresharedKey, role: Role, door: Door, tmp_path: Path) -> None:
    """The key is agreed on, the cipher has its hash, and the consumer learns the identity."""
    setup = Setup(psk=key, priority=GNUTLS_PSK)
    with meeting(role, kind, setup, tmp_path) as (peer, sock):
        talk = door.handshake(sock, HandshakeOptions(role=role, psks=(key,), timeout=TIMEOUT))
        assert talk.session.peer.psk_identity == key.identity
        assert talk.session.peer.certificates == ()
        assert talk.session.tags["cipher"].lower().endswith(key.hash)
        chat(talk, peer)


def test_options_of_openssl_for_sha256(sync_door: Door, tmp_path: Path) -> None:
    """The plain way, -psk and -psk_identity, with a server of ours that has several keys."""
    key = PresharedKey(b"plain", Secret(b"k" * 32))
    setup = Setup(openssl=["-psk", key.key.reveal().hex(), "-psk_identity", "plain"])
    with meeting(Role.SERVER, "openssl", setup, tmp_path) as (peer, sock):
        options = HandshakeOptions(role=Role.SERVER, psks=(SHA384, SHA256, key), timeout=TIMEOUT)
        talk = sync_door.handshake(sock, options)
        assert talk.session.peer.psk_identity == b"plain"
        chat(talk, peer)


@pytest.mark.parametrize("key", [SHA256, SHA384], ids=["sha256", "sha384"])
def test_the_peer_names_one_of_several(key: PresharedKey, sync_door: Door, tmp_path: Path) -> None:
    """Two keys of a server differ in their hash; the identity in the ClientHello picks one (PSK-LOOKUP)."""
    with meeting(Role.SERVER, "openssl", Setup(psk=key), tmp_path) as (peer, sock):
        options = HandshakeOptions(role=Role.SERVER, psks=(SHA256, SHA384), timeout=TIMEOUT)
        talk = sync_door.handshake(sock, options)
        assert talk.session.peer.psk_identity == key.identity
        chat(talk, peer)
