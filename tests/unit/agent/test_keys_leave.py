"""Keys leave an agent with the request that needs them, whichever way it ends."""

from __future__ import annotations

import asyncio
import errno
import gc
from collections.abc import Iterator
from typing import Any

import pytest

from hsframework.errors import HandshakeError
from hsframework.interface import Endpoint, Handshaker, Identity, PresharedKey, Request, Result
from hsframework.netlink.messages import NLM_F_ACK
from tests.unit.agent.fakes import Behaviour, ToyHandshaker, ToyProtocol, forever, pair, running, succeeds

CREDENTIALS: dict[str, Any] = {
    "identity": [{"certificate": [b"leaf"], "private-key": b"a private key"}],
    "psk": [{"identity": b"id", "key": b"a pre-shared key", "hash": "sha256"}],
}


@pytest.fixture(autouse=True)
def without_the_collector() -> Iterator[None]:
    """A key that hangs in a cycle would stay until the collector runs, which an idle agent does not do."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def keys() -> list[object]:
    return [each for each in gc.get_objects() if isinstance(each, (Identity, PresharedKey)) and _is_ours(each)]


def _is_ours(credential: Identity | PresharedKey) -> bool:
    secret = credential.private_key if isinstance(credential, Identity) else credential.key
    return secret.reveal() in (b"a private key", b"a pre-shared key")


class Forgetful(ToyHandshaker):
    """A handshaker that keeps no request, as the others of the tests do."""

    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        result: Result = await self.behaviour(request, endpoint)
        return result


class ForgetfulProtocol(ToyProtocol):
    """The toy protocol with that handshaker."""

    def prepare(self, settings: Any) -> Handshaker:
        return Forgetful(self.handshaker.behaviour)


async def fails(request: Request, endpoint: Endpoint) -> Result:
    raise HandshakeError("not today", errno=errno.EKEYREJECTED)


async def breaks(request: Request, endpoint: Endpoint) -> Result:
    raise KeyError(request)


@pytest.mark.parametrize("behaviour", [succeeds, fails, breaks])
async def test_after_done(behaviour: Behaviour) -> None:
    """Success, failure and a fault of the plugin leave nothing that holds a key."""
    async with running(protocol=ForgetfulProtocol(behaviour)) as agent:
        with pair() as (ours, _):
            agent.peer.give(await agent.peer.asked(), ours.fileno(), **CREDENTIALS)
            await agent.peer.receive("done")
            await asyncio.sleep(0)
            assert keys() == []


async def test_after_a_withdrawal() -> None:
    """A request that the dispatcher withdraws takes its keys along."""
    begun = asyncio.Event()

    async def waits(request: Request, endpoint: Endpoint) -> Result:
        begun.set()
        return await forever(request, endpoint)

    async with running(protocol=ForgetfulProtocol(waits)) as agent:
        with pair() as (ours, _):
            agent.peer.give(await agent.peer.asked(), ours.fileno(), **CREDENTIALS)
            await begun.wait()
            assert len(keys()) == 2
            agent.peer.send("cancel", {"request-id": 1, "reason": errno.ECANCELED}, flags=NLM_F_ACK)
            await agent.peer.receive("error")
            while agent.host.in_hand:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert keys() == []
