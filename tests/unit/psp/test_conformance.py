"""PSP keeps every rule of the interface, with a device in software: its sessions go to consumers."""

from __future__ import annotations

from dataclasses import replace

from hsframework.client import HandshakeOptions
from hsframework.interface import PresharedKey, Role, Secret
from hsframework.testing.conformance import ConformanceSuite, Scenario
from tests.support.certified import Meeting, mutual, refused_clients, refused_servers
from tests.unit.psp.test_sans_io import SANS_IO

# Both prove who they are without a demand.
CLIENT, SERVER = mutual("psp")
SERVER = replace(SERVER, client_certificate=None)


def scenario_for(client: HandshakeOptions, server: HandshakeOptions, refused: dict[str, Meeting]) -> Scenario:
    """Return the scenario with what all have in common."""
    return Scenario(
        plugin="psp",
        client=client,
        server=server,
        refused=refused,
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
            {
                **refused_servers(CLIENT, SERVER),
                **refused_clients(CLIENT, SERVER),
                "a device that is not there": (replace(CLIENT, attributes={"device": "none"}), SERVER),
            },
        )


def _key(fill: bytes) -> tuple[PresharedKey, ...]:
    return (PresharedKey(b"host", Secret(fill * 8)),)


class TestPresharedKey(ConformanceSuite):
    """A key that the server looks up by the name that its client gives."""

    def scenario(self) -> Scenario:
        client = HandshakeOptions(group="psp", psks=_key(b"key!"))
        server = replace(client, role=Role.SERVER)
        return scenario_for(client, server, {"another key": (client, replace(server, psks=_key(b"none")))})
