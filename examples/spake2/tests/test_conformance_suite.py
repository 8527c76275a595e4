"""The rules of hsframework for every plugin."""

from __future__ import annotations

import errno
from dataclasses import replace

from hsframework.client import HandshakeOptions
from hsframework.interface import PresharedKey, Role, Secret
from hsframework.testing.conformance import ConformanceSuite, Scenario, refused


def known(identity: bytes, password: bytes) -> tuple[PresharedKey, ...]:
    """Return an identity with its password."""
    return (PresharedKey(identity, Secret(password)),)


CLIENT = HandshakeOptions(group="spake2", psks=known(b"alice", b"correct horse"), attributes={"server": "host"})
SERVER = replace(CLIENT, role=Role.SERVER)


class TestConformance(ConformanceSuite):
    """SPAKE2 with a password that the server looks up by the client's name."""

    def scenario(self) -> Scenario:
        others = {
            "another password": replace(SERVER, psks=known(b"alice", b"battery staple")),
            "a client that is not known": replace(SERVER, psks=known(b"bob", b"correct horse")),
            "another server": replace(SERVER, attributes={"server": "elsewhere"}),
        }
        return Scenario(
            plugin="spake2",
            client=CLIENT,
            server=SERVER,
            # The client confirms first, so the server sees it; it says nothing more.
            refused={
                word: refused((CLIENT, server), client=errno.ECONNRESET, server=errno.EKEYREJECTED)
                for word, server in others.items()
            },
            settings={"cost": 8},
            wrong_settings={"cost": {"cost": 7}},
            sans_io=tuple(
                f"hsframework_spake2.{name}"
                for name in ("curve", "exchange", "password", "session", "spake2", "transport")
            ),
        )
