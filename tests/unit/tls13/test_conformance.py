"""TLS 1.3 keeps every rule of the interface: with certificates on both sides, and with a pre-shared key.

The kernel's record layer is left out here: what follows the handshake is then in the socket as it was sent.
"""

from __future__ import annotations

from dataclasses import replace

from hsframework.client import HandshakeOptions
from hsframework.interface import PresharedKey, Role, Secret
from hsframework.testing.conformance import ConformanceSuite, Scenario
from tests.support.certified import mutual, refused_clients, refused_servers
from tests.unit.tls13.test_sans_io import SANS_IO

SETTINGS = {"kernel-offload": False}
WRONG_SETTINGS: dict[str, dict[str, object]] = {
    "ciphers": {"ciphers": ["TLS_RSA_WITH_NULL_MD5"]},
    "groups": {"groups": []},
    "key-shares": {"key-shares": ["P-224"]},
    "require-alpn": {"require-alpn": "maybe"},
    "cipher": {"cipher": "a key that there is not"},
}
MODULES = tuple(f"hsframework_tls13.{name}" for name in SANS_IO)

CLIENT, SERVER = mutual("tlshd", alpn=("sunrpc",))


class TestCertificates(ConformanceSuite):
    """Mutual authentication by certificates."""

    def scenario(self) -> Scenario:
        return Scenario(
            plugin="tls13",
            client=CLIENT,
            server=SERVER,
            refused={**refused_servers(CLIENT, SERVER), **refused_clients(CLIENT, SERVER)},
            settings=SETTINGS,
            wrong_settings=WRONG_SETTINGS,
            sans_io=MODULES,
        )


def _key(fill: bytes, identity: bytes = b"host") -> tuple[PresharedKey, ...]:
    return (PresharedKey(identity, Secret(fill * 8), "sha384"),)


PSK_CLIENT = HandshakeOptions(group="tlshd", psks=_key(b"a key "))
PSK_SERVER = HandshakeOptions(group="tlshd", role=Role.SERVER, psks=_key(b"a key "))


class TestPresharedKey(ConformanceSuite):
    """A key that the server looks up by the name that its client gives."""

    def scenario(self) -> Scenario:
        return Scenario(
            plugin="tls13",
            client=PSK_CLIENT,
            server=PSK_SERVER,
            refused={
                "another key": (PSK_CLIENT, replace(PSK_SERVER, psks=_key(b"no key"))),
                "an identity that is not known": (replace(PSK_CLIENT, psks=_key(b"a key ", b"guest")), PSK_SERVER),
            },
            settings=SETTINGS,
            wrong_settings=WRONG_SETTINGS,
            sans_io=MODULES,
        )
