"""The kernel's sources of further network namespaces, as those come and go."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections import defaultdict
from collections.abc import Callable, Iterator

import pytest

from hsframework.configuration.settings import Configuration, KernelSettings
from hsframework.dispatcher.keys.vault import Vault
from hsframework.dispatcher.sources.kernel import sources as sources_module
from hsframework.dispatcher.sources.kernel.source import KernelSource
from hsframework.dispatcher.sources.kernel.sources import Form, KernelSources
from hsframework.dispatcher.sources.kernel.wire import Accepted, Wire
from tests.support.house import connected_pair, house
from tests.support.played_kernel import GROUP, GROUPS, PSK_CLIENT, Keys, PlayedWire, Service

Inode = tuple[int, int]
OURS: Inode = (0, 0)
NAMED = "played:blue"


class Namespaces:
    """The namespaces of a host: ours, the one that has the name ``blue`` at the moment, and the service in each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.blue: Inode | None = None
        self.services: defaultdict[Inode, Service] = defaultdict(Service)
        self.wires: dict[Inode, PlayedWire] = {}
        self._entered = OURS
        for name, value in {
            "LOOK_INTERVAL": 0,
            "KernelKeys": lambda _: Keys(),
            "served_forms": lambda _: [Form("played", self._open, GROUPS)],
            "which": lambda _: self.blue,
            "network_namespace": self._enter,
        }.items():
            monkeypatch.setattr(sources_module, name, value)

    @contextlib.contextmanager
    def _enter(self, _: str) -> Iterator[None]:
        assert self.blue is not None
        self._entered = self.blue
        yield
        self._entered = OURS

    def _open(self) -> Wire:
        self.wires[self._entered] = PlayedWire(self.services[self._entered])
        return self.wires[self._entered]


async def _until(met: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not met():
            await asyncio.sleep(0)


async def test_a_namespace_is_replaced_with_a_request_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request is completed in the old one, whose sockets are closed then; the new one of the name is served."""
    first, second = (4, 1), (4, 2)
    namespaces = Namespaces(monkeypatch)
    namespaces.blue = first
    configuration = Configuration(kernel=KernelSettings(namespaces=("blue",), keyrings=()))
    with connected_pair() as (ours, _):
        async with house(configuration) as home:
            sources = KernelSources(
                home.dispatcher, Vault(configuration), configuration, loop=asyncio.get_running_loop()
            )
            agent = await home.agent(GROUP)
            assert namespaces.services[OURS].members == namespaces.services[first].members == {GROUP}
            accepted = Accepted({**PSK_CLIENT, "sockfd": os.dup(ours.fileno())})
            namespaces.services[first].queues[GROUP].append(accepted)
            os.write(namespaces.wires[first].writer, b"!")
            request = await agent.take_message(GROUP)
            old = home.dispatcher.sources[NAMED]
            namespaces.blue = second
            await _until(lambda: namespaces.services[second].members)
            assert home.dispatcher.sources[NAMED] is not old
            assert not namespaces.services[first].members
            assert namespaces.services[first].sockets() == 1
            agent.send("done", {"request-id": request.values["request-id"], "status": errno.EACCES})
            await _until(lambda: not namespaces.services[first].sockets())
            assert namespaces.services[first].told == [(errno.EACCES, [])]
            assert namespaces.services[second].members == {GROUP}
            sources.close()
            assert not home.dispatcher.sources.keys() & {"played", NAMED}
            assert not any(service.sockets() for service in namespaces.services.values())


async def test_a_namespace_goes_with_a_request_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dispatcher knows its source until the request is completed, and not longer; it is closed once."""
    namespaces = Namespaces(monkeypatch)
    closed = []
    close = KernelSource.close

    def noted(source: KernelSource) -> None:
        closed.append(source.name)
        close(source)

    monkeypatch.setattr(KernelSource, "close", noted)
    namespaces.blue = (4, 1)
    service = namespaces.services[4, 1]
    configuration = Configuration(kernel=KernelSettings(namespaces=("blue",), keyrings=()))
    with connected_pair() as (ours, _):
        async with house(configuration) as home:
            sources = KernelSources(
                home.dispatcher, Vault(configuration), configuration, loop=asyncio.get_running_loop()
            )
            agent = await home.agent(GROUP)
            service.queues[GROUP].append(Accepted({**PSK_CLIENT, "sockfd": os.dup(ours.fileno())}))
            os.write(namespaces.wires[4, 1].writer, b"!")
            request = await agent.take_message(GROUP)
            namespaces.blue = None
            await _until(lambda: not service.members)
            assert NAMED in home.dispatcher.sources
            agent.send("done", {"request-id": request.values["request-id"], "status": errno.EACCES})
            await _until(lambda: NAMED not in home.dispatcher.sources)
            assert service.told == [(errno.EACCES, [])]
            assert not service.sockets()
            sources.close()
            assert sorted(closed) == ["played", NAMED]
