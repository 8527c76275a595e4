"""PSP keeps every rule of the interface: with certificates on both sides, and with a pre-shared key.  In software."""

from __future__ import annotations

from dataclasses import replace

from hsframework.client import HandshakeOptions
from hsframework.interface import Identity, PresharedKey, Role, Secret
from hsframework.testing.certificates import Authority
from hsframework.testing.conformance import ConformanceSuite, Scenario
from tests.unit.psp.test_sans_io import SANS_IO

ROOT = Authority("Conformance Root")
STRANGER = Authority("Somebody Else")
SETTINGS = {"device": "software"}
WRONG_SETTINGS: dict[str, dict[str, object]] = {
    "versions": {"versions": ["rot13"]},
    "device": {"device": "cloud"},
    "mutual": {"mutual": "perhaps"},
    "rotate-every": {"rotate-every": 0},
    "key": {"key": "a key that there is not"},
}
MODULES = tuple(f"hsframework_psp.{name}" for name in SANS_IO)

CLIENT = HandshakeOptions(
    group="psp",
    peer_name="server.example",
    identities=(ROOT.issue(["client.example"]).identity,),
    trust=ROOT.trust(),
)
SERVER = HandshakeOptions(
    group="psp",
    role=Role.SERVER,
    identities=(ROOT.issue(["server.example"]).identity,),
    trust=ROOT.trust(),
)


def _stranger(name: str) -> Identity:
    return STRANGER.issue([name]).identity


class TestCertificates(ConformanceSuite):
    """Mutual authentication by certificates."""

    def scenario(self) -> Scenario:
        return Scenario(
            plugin="psp",
            client=CLIENT,
            server=SERVER,
            refused={
                "a server that is not trusted": (CLIENT, replace(SERVER, identities=(_stranger("server.example"),))),
                "a server with another name": (replace(CLIENT, peer_name="other.example"), SERVER),
                "a client that is not trusted": (replace(CLIENT, identities=(_stranger("client.example"),)), SERVER),
                "a client without a certificate": (replace(CLIENT, identities=()), SERVER),
                "an application protocol": (replace(CLIENT, alpn=("nfs",)), SERVER),
                "a device that is not there": (replace(CLIENT, attributes={"device": "kernel"}), SERVER),
            },
            settings=SETTINGS,
            wrong_settings=WRONG_SETTINGS,
            sans_io=MODULES,
        )


def _key(fill: bytes, identity: bytes = b"host") -> tuple[PresharedKey, ...]:
    return (PresharedKey(identity, Secret(fill * 8), "sha384"),)


PSK_CLIENT = HandshakeOptions(group="psp", psks=_key(b"a key "))
PSK_SERVER = HandshakeOptions(group="psp", role=Role.SERVER, psks=_key(b"a key "))


class TestPresharedKey(ConformanceSuite):
    """A key that the server looks up by the name that its client gives."""

    def scenario(self) -> Scenario:
        return Scenario(
            plugin="psp",
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
