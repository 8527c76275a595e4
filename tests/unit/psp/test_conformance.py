"""PSP keeps every rule of the interface, with a device in software: its sessions go to consumers."""

from __future__ import annotations

from dataclasses import replace

from hsframework.client import HandshakeOptions
from hsframework.interface import Identity, PresharedKey, Role, Secret
from hsframework.testing.certificates import Authority
from hsframework.testing.conformance import ConformanceSuite, Scenario
from tests.unit.psp.test_sans_io import SANS_IO

ROOT, STRANGER = Authority("Conformance Root"), Authority("Somebody Else")
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


def stranger(name: str) -> tuple[Identity, ...]:
    """A certificate that nobody trusts."""
    return (STRANGER.issue([name]).identity,)


def scenario_for(client: HandshakeOptions, server: HandshakeOptions, **refused: object) -> Scenario:
    """What all have in common."""
    return Scenario(
        plugin="psp",
        client=client,
        server=server,
        refused={word.replace("_", " "): pair for word, pair in refused.items()},  # type: ignore[misc]
        settings={"device": "software"},
        wrong_settings={
            "versions": {"versions": ["rot13"]},
            "device": {"device": "none"},
            "mutual": {"mutual": "maybe"},
            "rotate-every": {"rotate-every": 0},
            "rotate": {"rotate": "a key that there is not"},
        },
        sans_io=tuple(f"hsframework_psp.{name}" for name in SANS_IO),
    )


class TestCertificates(ConformanceSuite):
    """Both sides prove who they are by certificates."""

    def scenario(self) -> Scenario:
        return scenario_for(
            CLIENT,
            SERVER,
            a_server_that_is_not_trusted=(CLIENT, replace(SERVER, identities=stranger("server.example"))),
            a_server_with_another_name=(replace(CLIENT, peer_name="other.example"), SERVER),
            a_client_that_is_not_trusted=(replace(CLIENT, identities=stranger("client.example")), SERVER),
            a_client_without_a_certificate=(replace(CLIENT, identities=()), SERVER),
            a_device_that_is_not_there=(replace(CLIENT, attributes={"device": "none"}), SERVER),
        )


def _key(fill: bytes) -> tuple[PresharedKey, ...]:
    return (PresharedKey(b"host", Secret(fill * 8)),)


class TestPresharedKey(ConformanceSuite):
    """A key that the server looks up by the name that its client gives."""

    def scenario(self) -> Scenario:
        client = HandshakeOptions(group="psp", psks=_key(b"key!"))
        server = replace(client, role=Role.SERVER)
        return scenario_for(client, server, another_key=(client, replace(server, psks=_key(b"none"))))
