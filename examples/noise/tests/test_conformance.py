"""The rules of hsframework for every plugin."""

from __future__ import annotations

import errno

from hsframework.client import HandshakeOptions
from hsframework.interface import Role, Secret
from hsframework.testing.conformance import ConformanceSuite, Scenario

from keys import OURS, STRANGER, THEIRS


def end(role: Role, **attributes: object) -> HandshakeOptions:
    """Return the options of one end, with its own key and the other's."""
    ours, theirs = (OURS, THEIRS) if role is Role.CLIENT else (THEIRS, OURS)
    wanted = {"static-key": ours.secret, "remote-static-key": [theirs.public], **attributes}
    return HandshakeOptions(group="noise", role=role, attributes=wanted)


class _Noise(ConformanceSuite):
    pattern: str
    psk: Secret | None = None
    unconfirmed: frozenset[Role] = frozenset()

    def end(self, role: Role, **attributes: object) -> HandshakeOptions:
        secret = {} if self.psk is None else {"psk": self.psk}
        return end(role, pattern=self.pattern, **{**secret, **attributes})

    def scenario(self) -> Scenario:
        client, server = self.end(Role.CLIENT), self.end(Role.SERVER)
        return Scenario(
            plugin="noise",
            client=client,
            server=server,
            refused={
                "a client that is not expected": (
                    client,
                    self.end(Role.SERVER, **{"remote-static-key": [STRANGER.public]}),
                ),
                "a server with another key": (
                    self.end(Role.CLIENT, **{"remote-static-key": [STRANGER.public]}),
                    server,
                ),
                "another prologue": (client, self.end(Role.SERVER, prologue=b"x")),
            },
            # The others are refused by the end that sees it first, which the pattern decides.
            refused_by={"a client that is not expected": (Role.SERVER, errno.EKEYREJECTED)},
            unconfirmed=self.unconfirmed,
            public=("handshake-hash",),
            wrong_settings={
                "pattern": {"pattern": "ZZ"},
                "keys": {"keys": {"host": "/nowhere"}},
            },
            sans_io=(
                "hsframework_noise.exchange",
                "hsframework_noise.transport",
                "hsframework_noise.wanted",
            ),
        )


class TestXX(_Noise):
    """Noise_XX."""

    pattern = "XX"


class TestIK(_Noise):
    """Noise_IK, whose responder has its session with its own message."""

    pattern = "IK"
    unconfirmed = frozenset({Role.SERVER})


class TestXXpsk3(_Noise):
    """Noise_XXpsk3: the first message is encrypted already."""

    pattern = "XX"
    psk = Secret(bytes(range(32)))
