"""Plugins that keep the rules pass the conformance suite: on a stream with sessions, on datagrams without."""

from __future__ import annotations

from hsframework.testing.conformance import ConformanceSuite, Scenario
from tests.unit.testing.toy_plugin import DatagramProtocol, ToyPlugin, scenario_for


class TestStreams(ConformanceSuite):
    """The toy on TCP."""

    def scenario(self) -> Scenario:
        return scenario_for(ToyPlugin())


class TestDatagrams(ConformanceSuite):
    """The toy on UDP; its consumers use the session's key themselves."""

    def scenario(self) -> Scenario:
        return scenario_for(ToyPlugin(DatagramProtocol, None), streams=False)
