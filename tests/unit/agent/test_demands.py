"""Demands in the agent: told to the dispatcher, and refused for a protocol that has not declared them."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from hsframework.errors import PluginError
from hsframework.interface import AuthMode, Demand, Protocol
from hsframework.registry.checks import check_protocol
from tests.unit.agent.fakes import ToyProtocol, pair, running, succeeds


class Plain(ToyProtocol):
    """A protocol that declares nothing."""

    auth_modes = Protocol.auth_modes
    understands = Protocol.understands


REQUESTS: dict[str, dict[str, Any]] = {
    "alpn": {"alpn": ["h2"]},
    "client-certificate": {"message_type": 2, "client_certificate": 2},
    "peer-name": {"peername": "server.example"},
    "X509": {"auth_mode": 3},
    "PSK": {"auth_mode": 2},
}


async def test_join_tells_what_is_declared() -> None:
    """By default the modes without keys, and no demand."""
    async with running(protocol=Plain(succeeds)) as agent:
        agent.dispatcher.die()
        agent.dispatcher.start()
        joined = await (await agent.dispatcher.connection()).joined()
    assert sorted(joined.values["auth-mode"]) == [AuthMode.OWN, AuthMode.UNAUTHENTICATED]
    assert "understands" not in joined.values


@pytest.mark.parametrize("demand", REQUESTS)
async def test_what_is_not_declared_is_refused(demand: str) -> None:
    """EOPNOTSUPP in words, also when the dispatcher hands it over; its handshaker is not called."""
    protocol = Plain(succeeds)
    async with running(protocol=protocol) as agent:
        with pair() as (ours, _):
            agent.peer.give(await agent.peer.asked(), ours.fileno(), **REQUESTS[demand])
            done = await agent.peer.receive("done")
    assert done.values["status"] == errno.EOPNOTSUPP
    assert demand in done.values["message"]
    assert not protocol.handshaker.requests


@pytest.mark.parametrize("demand", REQUESTS)
async def test_what_is_declared_is_served(demand: str) -> None:
    """The handshaker gets the same requests from a protocol that has declared them."""
    protocol = ToyProtocol(succeeds)
    async with running(protocol=protocol) as agent:
        with pair() as (ours, _):
            agent.peer.give(await agent.peer.asked(), ours.fileno(), **REQUESTS[demand])
            assert (await agent.peer.receive("done")).values["status"] == 0
    assert len(protocol.handshaker.requests) == 1


@pytest.mark.parametrize(
    ("attribute", "value", "kind"),
    [
        ("understands", {"alpn"}, "Demand"),
        ("understands", "alpn", "Demand"),
        ("auth_modes", {3}, "AuthMode"),
        ("auth_modes", [AuthMode.PSK], "AuthMode"),
    ],
)
def test_declarations_are_members(attribute: str, value: object, kind: str) -> None:
    """A text or a number in their place could be a wrong one, and is a fault of the plugin, found when it is loaded."""
    vague = type("Vague", (ToyProtocol,), {attribute: value})
    with pytest.raises(PluginError, match=f"{attribute} is .* a frozenset of {kind} is wanted"):
        check_protocol(vague())
    assert check_protocol(ToyProtocol()).understands == frozenset(Demand) - {Demand.TLS_POLICIES}
