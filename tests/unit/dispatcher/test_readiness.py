"""Readiness: which groups must be served, and that a member which takes other sockets does not serve them."""

from __future__ import annotations

import socket

import pytest

from hsframework.configuration.settings import Configuration
from hsframework.dispatcher.readiness import Readiness, required_groups
from hsframework.probes import Yes
from tests.unit.dispatcher.played import Listening, PlayedAgent, stage

TCP = socket.IPPROTO_TCP
QUIC = 261
"""SO_PROTOCOL of in-kernel QUIC sockets."""


@pytest.mark.parametrize(
    ("configured", "serves_kernel", "plugins", "required"),
    [
        (None, True, ["tls13", "quic"], {"tlshd": TCP}),
        (None, True, ["quic"], {"tlshd": None}),
        (None, True, ["psp"], {}),
        (None, False, ["tls13"], {}),
        (("mine", "tlshd"), False, ["tls13"], {"mine": None, "tlshd": TCP}),
        ((), True, ["tls13"], {}),
    ],
)
def test_what_is_required(
    configured: tuple[str, ...] | None, serves_kernel: bool, plugins: list[str], required: dict[str, int | None]
) -> None:
    """The kernel's group where an installed plugin serves it, with TCP sockets where TLS is; or what is listed."""
    configuration = Configuration(required_groups=configured)
    assert required_groups(configuration, serves_kernel=serves_kernel, plugins=plugins) == required


async def test_an_agent_of_other_sockets_makes_nothing_ready() -> None:
    """An agent of in-kernel QUIC joins the kernel's group: NFS waits for one that takes TCP, and that is said again
    when it has gone."""
    async with stage() as played:
        said: list[str] = []
        ready: list[bool] = []
        readiness = Readiness(
            played.dispatcher, {"tlshd": TCP}, Yes(frozenset()), lambda: ready.append(True), said.append
        )
        played.dispatcher.joined(Listening(QUIC), ["tlshd"])
        assert (ready, readiness.missing()) == ([], ["tlshd (TCP sockets)"])
        tls = Listening(TCP)
        played.dispatcher.joined(tls, ["tlshd"])
        assert (ready, readiness.missing()) == ([True], [])
        played.dispatcher.left(tls, ["tlshd"], expected_back=True)
        assert readiness.missing() == ["tlshd (TCP sockets)"]
        assert "waits for an agent of tlshd (TCP sockets)" in said[-1]


async def test_an_agent_of_any_sockets_will_do() -> None:
    """One that names no SO_PROTOCOL takes all."""
    async with stage() as played:
        readiness = Readiness(played.dispatcher, {"tlshd": TCP}, Yes(frozenset()), lambda: None, lambda line: None)
        played.dispatcher.joined(PlayedAgent(), ["tlshd"])
        assert readiness.ready
