"""QUIC keeps every rule of the interface: with certificates on both sides, and with the server's alone."""

from __future__ import annotations

from dataclasses import replace

from hsframework.client import HandshakeOptions
from hsframework.interface import CertificateDemand, Identity, Role
from hsframework.testing.certificates import Authority
from hsframework.testing.conformance import ConformanceSuite, Scenario

ROOT = Authority("Conformance Root")
STRANGER = Authority("Somebody Else")
WRONG_SETTINGS: dict[str, dict[str, object]] = {
    "ciphers": {"ciphers": ["TLS_RSA_WITH_NULL_MD5"]},
    "groups": {"groups": []},
    "versions": {"versions": ["QUICv0"]},
    "cipher": {"cipher": "a key that there is not"},
}
SANS_IO = (
    "aioquic_adapter.consumer",
    "aioquic_adapter.restore",
    "aioquic_adapter.stateless",
    "connection",
    "endings",
    "failures",
    "frames",
    "gate",
    "handshake",
    "headers",
    "kernel_handshake",
    "kernel_structs",
    "retry",
    "session",
    "stream_state",
    "tickets",
)

CLIENT = HandshakeOptions(
    group="quic",
    peer_name="server.example",
    identities=(ROOT.issue(["client.example"]).identity,),
    trust=ROOT.trust(),
    alpn=("smb",),
)
SERVER = HandshakeOptions(
    group="quic",
    role=Role.SERVER,
    identities=(ROOT.issue(["server.example"]).identity,),
    trust=ROOT.trust(),
    client_certificate=CertificateDemand.REQUIRE,
    alpn=("smb",),
)


def _stranger(name: str) -> Identity:
    return STRANGER.issue([name]).identity


class TestCertificates(ConformanceSuite):
    """Mutual authentication by certificates."""

    def scenario(self) -> Scenario:
        return Scenario(
            plugin="quic",
            client=CLIENT,
            server=SERVER,
            refused={
                "a server that is not trusted": (CLIENT, replace(SERVER, identities=(_stranger("server.example"),))),
                "a server with another name": (replace(CLIENT, peer_name="other.example"), SERVER),
                "a client that is not trusted": (replace(CLIENT, identities=(_stranger("client.example"),)), SERVER),
                "a client without a certificate": (replace(CLIENT, identities=()), SERVER),
                "another application protocol": (replace(CLIENT, alpn=("nfs",)), SERVER),
            },
            wrong_settings=WRONG_SETTINGS,
            sans_io=tuple(f"hsframework_quic.{name}" for name in SANS_IO),
        )


class TestServerAlone(ConformanceSuite):
    """A client that does not say who it is, and QUIC version 2."""

    def scenario(self) -> Scenario:
        client = replace(CLIENT, identities=())
        server = replace(SERVER, client_certificate=None, trust=None)
        return Scenario(
            plugin="quic",
            client=client,
            server=server,
            refused={
                "a server that is not trusted": (client, replace(server, identities=(_stranger("server.example"),))),
                "another application protocol": (replace(client, alpn=("nfs",)), server),
            },
            settings={"versions": ["v2"]},
            wrong_settings=WRONG_SETTINGS,
        )
