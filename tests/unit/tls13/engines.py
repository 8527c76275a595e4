"""Engines of both roles with the tests' certificates, and OpenSSL by way of bare pyOpenSSL as their peer."""

from __future__ import annotations

from typing import Any

import pytest
from OpenSSL import SSL
from OpenSSL._util import lib

from hsframework.failures import Failure, HandshakeFailed
from hsframework_tls13.contexts import Contexts
from hsframework_tls13.engine import ClientEngine, Engine, ServerEngine
from tests.unit.tls13.support import CONTEXTS, SERVER, believe, failed


def client_engine(contexts: Contexts = CONTEXTS, **options: Any) -> ClientEngine:
    return ClientEngine(contexts, **{"server_name": "server.example", "verify": believe, **options})


def server_engine(contexts: Contexts = CONTEXTS, **options: Any) -> ServerEngine:
    return ServerEngine(contexts, **{"identities": (SERVER,), "verify": believe, **options})


def first_alert(client: ClientEngine, data: bytes) -> int | None:
    from hsframework_tls13.events import SessionBroken
    from hsframework_tls13.recordlayer import RecordLayer

    session = client.established
    layer = RecordLayer(session.role, session.suite, session.client_secret, session.server_secret)
    with pytest.raises(SessionBroken) as caught:
        layer.receive_data(data)
    return caught.value.peer_alert


def bare_peer(
    method: int, *, version: int = SSL.TLS1_3_VERSION, sigalgs: bytes = b"", alpn: bytes = b""
) -> SSL.Connection:
    """Make a peer of OpenSSL without our engine, limited to one version."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    context = SSL.Context(method)
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    if sigalgs:
        assert lib.SSL_CTX_set1_sigalgs_list(context._context, sigalgs) == 1
    if alpn:
        context.set_alpn_select_callback(lambda _connection, _offered: alpn)
    if method == SSL.TLS_SERVER_METHOD:
        context.use_certificate(x509.load_der_x509_certificate(SERVER.chain[0]))
        key: Any = load_der_private_key(SERVER.private_key.reveal(), None)
        context.use_privatekey(key)
    connection = SSL.Connection(context, None)
    if method == SSL.TLS_SERVER_METHOD:
        connection.set_accept_state()
    else:
        connection.set_connect_state()
    return connection


def peer_output(peer: SSL.Connection) -> bytes:
    """Return what it writes as its next step."""
    with pytest.raises(SSL.WantReadError):
        peer.do_handshake()
    return peer.bio_read(1 << 16)


def peer_takes(peer: SSL.Connection, data: bytes) -> None:
    peer.bio_write(data)


def bare_hears(refused: Engine, peer: SSL.Connection, data: bytes) -> Failure:
    """Check that ``data`` makes ``refused`` fail, and bare OpenSSL gets the table's alert.  Return the failure."""
    error = failed(refused, data)
    peer_takes(peer, refused.data_to_send())
    with pytest.raises(SSL.Error):
        peer.do_handshake()
    heard = alert_of_bare(peer, error)
    assert heard
    return error.failure


def alert_of_bare(peer: SSL.Connection, error: HandshakeFailed) -> bool:
    """True if OpenSSL is broken for good by a fatal alert: a second attempt fails without any input."""
    with pytest.raises(SSL.Error):
        peer.do_handshake()
    return error.failure.alert is not None
