"""Private keys leave an agent: with the request, and with the context that was made for it."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from OpenSSL import SSL

from hsframework.interface import CertificateDemand, Identity, Result
from hsframework_tls13 import ageing
from hsframework_tls13.ageing import INTERVAL, Ageing
from hsframework_tls13.contexts import Contexts
from hsframework_tls13.protocol import Tls13Protocol
from hsframework_tls13.settings import Settings
from tests.unit.tls13.support import SERVER
from tests.unit.tls13.test_plugin import AS_CLIENT, AS_SERVER, both

SUITES = Settings().suites


def server_context(contexts: Contexts) -> SSL.Context:
    return contexts.server(SERVER, CertificateDemand.NONE, SUITES)


def test_an_unused_context_with_a_key_is_dropped() -> None:
    """It is gone, and not merely out of reach; those without keys stay, and one in use stays as long as it is used."""
    contexts = Contexts(Settings())
    contexts.check()
    bare = len(contexts)
    gc.disable()
    try:
        context = weakref.ref(server_context(contexts))
        assert contexts.age()
        assert server_context(contexts) is context()
        assert contexts.age()
        assert context() is not None
        assert not contexts.age()
        assert context() is None
    finally:
        gc.enable()
    assert len(contexts) == bare


async def test_the_timer_runs_while_there_are_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look asks for the next one, until nothing is left; the next handshake begins anew."""
    later: list[tuple[float, Any]] = []

    def call_later(delay: float, act: Any) -> object:
        later.append((delay, act))
        return object()

    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", call_later)
    contexts = Contexts(Settings())
    timer = Ageing(contexts)
    server_context(contexts)
    timer.used()
    timer.used()
    for _ in range(2):
        ((delay, act),) = later
        assert delay == INTERVAL
        later.clear()
        act()
    assert later == []
    timer.used()
    assert len(later) == 1


def test_a_handshake_leaves_nothing_that_holds_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Identity and context are gone once the handshake and the quiet time are over, without the garbage collector."""
    handshaker = Tls13Protocol().prepare(Settings(kernel_offload=False))
    made: list[weakref.ref[SSL.Context]] = []
    monkeypatch.setattr(ageing, "INTERVAL", 0.0)
    original = Contexts._kept

    def kept(self: Contexts, key: Any, make: Any, identities: Sequence[Identity]) -> SSL.Context:
        context = original(self, key, make, identities)
        if identities:
            made.append(weakref.ref(context))
        return context

    monkeypatch.setattr(Contexts, "_kept", kept)

    async def run() -> None:
        for result in await both(AS_CLIENT, replace(AS_SERVER), handshaker):
            assert isinstance(result, Result)
        while handshaker._ageing._timer is not None:
            await asyncio.sleep(0)

    gc.collect()
    before = sys.getrefcount(SERVER)
    gc.disable()
    try:
        asyncio.run(run())
        assert made
        assert [context() for context in made] == [None] * len(made)
        assert sys.getrefcount(SERVER) == before
    finally:
        gc.enable()
