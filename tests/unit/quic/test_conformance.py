"""QUIC keeps every rule of the interface: with certificates on both sides, and with the server's alone."""

from __future__ import annotations

from dataclasses import replace

from hsframework.testing.conformance import ConformanceSuite, Scenario
from tests.support.certified import mutual, refused_clients, refused_servers

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
    "consumer.connection",
    "consumer.endings",
    "consumer.later",
    "consumer.stream_state",
    "consumer.streams",
    "failures",
    "handshake.client",
    "handshake.frames",
    "handshake.handshake",
    "handshake.packets",
    "handshake.server",
    "handshake.tickets",
    "headers",
    "kernel.handshake",
    "kernel.structs",
    "port.gate",
    "port.retry",
    "resumption",
    "session",
    "stateless_reset",
)

PUBLIC = ("client-random",)
"""Attributes that everybody on the way can decrypt, as all of an Initial packet."""

CLIENT, SERVER = mutual("quic", alpn=("smb",))


class TestCertificates(ConformanceSuite):
    """Mutual authentication by certificates."""

    def scenario(self) -> Scenario:
        return Scenario(
            plugin="quic",
            client=CLIENT,
            server=SERVER,
            refused={**refused_servers(CLIENT, SERVER), **refused_clients(CLIENT, SERVER)},
            wrong_settings=WRONG_SETTINGS,
            public=PUBLIC,
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
            refused=refused_servers(client, server),
            settings={"versions": ["v2"]},
            public=PUBLIC,
            wrong_settings=WRONG_SETTINGS,
        )
