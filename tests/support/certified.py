"""Meetings of the conformance tests of plugins with certificates: those that succeed, and those that are refused."""

from __future__ import annotations

from dataclasses import replace

from hsframework.client import HandshakeOptions
from hsframework.interface import CertificateDemand, Identity, Role
from hsframework.testing.certificates import Authority

Meeting = tuple[HandshakeOptions, HandshakeOptions]
"""A client's and a server's options."""

ROOT = Authority("Conformance Root")
STRANGER = Authority("Somebody Else")
OTHER_PROTOCOL = "nfs"
"""An application protocol that nobody in :func:`mutual` speaks."""


def mutual(group: str, *, alpn: tuple[str, ...] = ()) -> Meeting:
    """Return options with which both ends show certificates, and the server demands its client's."""
    client = HandshakeOptions(
        group=group,
        peer_name="server.example",
        identities=(ROOT.issue(["client.example"]).identity,),
        trust=ROOT.trust(),
        alpn=alpn,
    )
    server = HandshakeOptions(
        group=group,
        role=Role.SERVER,
        identities=(ROOT.issue(["server.example"]).identity,),
        trust=ROOT.trust(),
        client_certificate=CertificateDemand.REQUIRE,
        alpn=alpn,
    )
    return client, server


def refused_servers(client: HandshakeOptions, server: HandshakeOptions) -> dict[str, Meeting]:
    """Return servers that the client does not accept; another application protocol where it names one."""
    refused = {
        "a server that is not trusted": (client, replace(server, identities=_stranger("server.example"))),
        "a server with another name": (replace(client, peer_name="other.example"), server),
    }
    if client.alpn:
        refused["another application protocol"] = (replace(client, alpn=(OTHER_PROTOCOL,)), server)
    return refused


def refused_clients(client: HandshakeOptions, server: HandshakeOptions) -> dict[str, Meeting]:
    """Return clients that a server does not accept which demands a certificate."""
    return {
        "a client that is not trusted": (replace(client, identities=_stranger("client.example")), server),
        "a client without a certificate": (replace(client, identities=()), server),
    }


def _stranger(name: str) -> tuple[Identity, ...]:
    return (STRANGER.issue([name]).identity,)
