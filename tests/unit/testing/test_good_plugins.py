"""Plugins that keep the rules pass the conformance suite: on a stream with sessions, on datagrams without."""

from __future__ import annotations

import asyncio

from hsframework.interface import Endpoint
from hsframework.testing.conformance import ConformanceSuite, Scenario
from tests.unit.testing.toy_plugin import DatagramProtocol, ToyHandshaker, ToyPlugin, plugin_with, scenario_for


class TestStreams(ConformanceSuite):
    """The toy on TCP."""

    def scenario(self) -> Scenario:
        return scenario_for(ToyPlugin())


class InThreads(ToyHandshaker):
    """A handshaker that gives what takes long to threads."""

    async def receive(self, endpoint: Endpoint) -> bytes:
        return await asyncio.to_thread(bytes, await super().receive(endpoint))


class TestThreads(ConformanceSuite):
    """The toy, with threads for its computations: they stay, and what they need is imported."""

    def scenario(self) -> Scenario:
        return scenario_for(plugin_with(InThreads))


class TestDatagrams(ConformanceSuite):
    """The toy on UDP; its consumers use the session's key themselves."""

    def scenario(self) -> Scenario:
        return scenario_for(ToyPlugin(DatagramProtocol, None), streams=False)
