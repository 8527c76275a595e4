"""TLS policies in the agent: told to a protocol that keeps to them, and refused for one that does not."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from hsframework.errors import PluginError
from hsframework.interface import Handshaker
from hsframework.registry.checks import check_protocol
from tests.unit.agent.fakes import ToyProtocol, pair, running, succeeds

POLICIES = ["NORMAL:-AES-256-GCM", "SECURE192"]


class Keeping(ToyProtocol):
    """Says that it keeps to policies."""

    tls_policies = True


@pytest.mark.parametrize("kind", [ToyProtocol, Keeping])
async def test_join_says_whether_policies_are_kept(kind: type[ToyProtocol]) -> None:
    """The dispatcher hands requests with a policy to no other agent."""
    async with running(protocol=kind(succeeds)) as agent:
        agent.dispatcher.die()
        agent.dispatcher.start()
        joined = await (await agent.dispatcher.connection()).joined()
        assert joined.values.get("tls-policies", False) is kind.tls_policies


@pytest.mark.parametrize(("values", "told"), [({"tls_priorities": POLICIES}, tuple(POLICIES)), ({}, ())])
async def test_the_request_has_its_policies(values: dict[str, Any], told: tuple[str, ...]) -> None:
    """In their order; a request without one has none."""
    protocol = Keeping(succeeds)
    async with running(protocol=protocol) as agent:
        with pair() as (ours, _):
            agent.peer.give(await agent.peer.asked(), ours.fileno(), **values)
            assert (await agent.peer.receive("done")).values["status"] == 0
    assert [request.tls_priorities for request in protocol.handshaker.requests] == [told]


async def test_a_protocol_that_keeps_to_none() -> None:
    """EOPNOTSUPP, in words, and its handshaker never sees the request."""
    protocol = ToyProtocol(succeeds)
    async with running(protocol=protocol) as agent:
        with pair() as (ours, _):
            agent.peer.give(await agent.peer.asked(), ours.fileno(), tls_priorities=POLICIES)
            done = await agent.peer.receive("done")
    assert done.values["status"] == errno.EOPNOTSUPP
    assert "which toy does not keep to; leave tls-priorities out" in done.values["message"]
    assert not protocol.handshaker.requests


def test_whether_it_keeps_to_policies_is_yes_or_no() -> None:
    """Anything else is a plugin's fault, found when it is loaded."""

    class Vague(ToyProtocol):
        tls_policies = "yes"  # type: ignore[assignment]

        def prepare(self, settings: object) -> Handshaker:
            return self.handshaker

    with pytest.raises(PluginError, match="tls_policies is 'yes'; True or False is wanted"):
        check_protocol(Vague())
