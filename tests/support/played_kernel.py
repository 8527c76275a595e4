"""The kernel's side of a form of the service, played by a test, and a dispatcher with a source that asks it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, cast

from hsframework.configuration.settings import Configuration, Timeouts
from hsframework.dispatcher.keys.keyring import KernelKeys
from hsframework.dispatcher.keys.vault import Vault
from hsframework.dispatcher.sources.kernel.request import KernelRequests
from hsframework.dispatcher.sources.kernel.source import KernelSource
from hsframework.dispatcher.sources.kernel.wire import Accepted, Ending, Wire
from hsframework.interface import PresharedKey, Secret
from hsframework.netlink.socket import NetlinkError
from hsframework.process.kept import Kept
from tests.support.house import House, Peer, house

GROUP, OTHER = "tlshd", "other"
GROUPS = {GROUP, OTHER, "third"}
NUMBERS = {GROUP: 14, OTHER: 15, "third": 16}
CLIENT = {"message-type": 1, "auth-mode": 1}
PSK_CLIENT = {"message-type": 1, "auth-mode": 2, "peer-identity": [7]}


class Service:
    """The kernel's side: a queue for each group, members, what was told to it, and whether it is there."""

    def __init__(self) -> None:
        self.there = True
        self.queues: dict[str, deque[Accepted]] = {group: deque() for group in GROUPS}
        self.members: set[str] = set()
        self.told: list[tuple[int, list[int]]] = []
        self.endings: list[Ending] = []
        self._opened = 0
        self.refuses_done = False
        self.short_of_memory = 0
        """So many further DONEs find the kernel without memory."""
        self.not_joined: set[str] = set()
        self.not_accepted: dict[str, int] = {}
        self.withheld: set[str] = set()
        """Groups of which no more is handed over at present, though requests wait."""
        self.accepts = 0
        self.drains = 0

    def sockets(self) -> int:
        """Count the wires that are open."""
        return self._opened

    def count(self, number: int) -> None:
        self._opened += number


class PlayedWire(Wire):
    """A form that the test plays."""

    def __init__(self, service: Service) -> None:
        if not service.there:
            raise NetlinkError("it is not there", errno=errno.EPROTONOSUPPORT)
        self._service = service
        self._reader, self.writer = os.pipe()
        service.count(1)

    def fileno(self) -> int:
        return self._reader

    def drain(self) -> None:
        os.read(self._reader, 100)
        self._service.drains += 1

    def is_member(self, group: str) -> bool:
        return group in self._service.members

    def join(self, group: str) -> None:
        if group in self._service.not_joined:
            raise NetlinkError(f"no group {group}", errno=errno.EINVAL)
        self._service.members.add(group)

    def leave(self, group: str) -> None:
        self._vanished()
        self._service.members.discard(group)

    def close(self) -> None:
        os.close(self._reader)
        os.close(self.writer)
        self._service.members.clear()
        self._service.count(-1)

    def _group(self, group: str) -> int:
        return NUMBERS[group]

    def accept(self, group: str) -> Accepted | None:
        self._vanished()
        self._service.accepts += 1
        if group in self._service.not_accepted:
            raise NetlinkError("it takes no ACCEPT", errno=self._service.not_accepted[group])
        queue = self._service.queues[group]
        if group in self._service.withheld or not queue:
            return None
        return queue.popleft()

    def done(self, fd: int, ending: Ending) -> None:
        self._vanished()
        if self._service.short_of_memory:
            self._service.short_of_memory -= 1
            raise NetlinkError("it has no memory", errno=errno.ENOBUFS)
        if self._service.refuses_done:
            raise NetlinkError("not of mine", errno=errno.EBUSY)
        self._service.told.append((ending.status, list(ending.peers)))
        self._service.endings.append(ending)

    def _vanished(self) -> None:
        if not self._service.there:
            raise NetlinkError("it is not there", errno=errno.ENOENT)


NFS = 6
"""The keyring ``.nfs``."""


class Keys:
    """Keys in place of KernelKeys, without a kernel."""

    def __init__(self) -> None:
        self.held: list[int] = []
        self.practised: list[bytes] = []
        self.removed: list[int] = []

    def practise(self, certificates: Iterable[bytes]) -> None:
        self.practised += certificates

    def psk(self, serial: int) -> PresharedKey:
        return PresharedKey(b"key %d" % serial, Secret(b"k" * 32))

    def may_be_nfs(self, keyring: int | None) -> bool:
        return keyring in (None, NFS)

    def remove(self, serial: int) -> None:
        self.removed.append(serial)

    def hold(self, keyring: int | None) -> None:
        if keyring:
            self.held.append(keyring)

    def forget(self, keyring: int | None) -> None:
        if keyring in self.held:
            self.held.remove(keyring)


class Stage:
    """A dispatcher with one source that asks ``service``."""

    def __init__(self, home: House, configuration: Configuration, kept: Kept | None = None) -> None:
        self.home = home
        self._kept = kept or Kept()
        self.service = Service()
        self.keys = Keys()
        self.missing = 0
        requests = KernelRequests(Vault(configuration), cast("KernelKeys", self.keys), configuration)
        loop = asyncio.get_running_loop()
        self.wires: list[PlayedWire] = []
        self.source = KernelSource(
            "played", home.dispatcher, requests, self._open, GROUPS, self._miss, loop=loop, kept=self._kept
        )

    async def leaves(self, agent: Peer, group: str = GROUP) -> None:
        """Have the last agent leave, and none come in the time in which one is expected."""
        await agent.ask("leave", {"group": [group]})
        await self.until(lambda: not self.home.dispatcher.groups[group].open)

    def _open(self) -> Wire:
        self.wires.append(PlayedWire(self.service))
        passed = self._kept.take("played")
        if passed is not None:
            os.close(passed)
        return self.wires[-1]

    def _miss(self) -> None:
        self.missing += 1

    def submit(
        self, sock: socket.socket, values: Mapping[str, Any] = PSK_CLIENT, group: str = GROUP, **further: Any
    ) -> None:
        """Submit a request of a kernel consumer, and announce it.  ``further``: of :class:`Accepted`."""
        self.ask(sock, values, group, **further)
        self.announce()

    def ask(
        self, sock: socket.socket, values: Mapping[str, Any] = PSK_CLIENT, group: str = GROUP, **further: Any
    ) -> None:
        """Submit a request of a kernel consumer whose announcement is lost."""
        accepted = Accepted({**values, "sockfd": os.dup(sock.fileno())}, **further)
        self.service.queues[group].append(accepted)

    def announce(self) -> None:
        os.write(self.wires[-1].writer, b"!")

    async def until(self, met: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not met():
                await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def stage(kept: Kept | None = None, **values: Any) -> AsyncIterator[Stage]:
    configuration = Configuration(**{"timeouts": Timeouts(agent_restart=0.001), **values})
    async with house(configuration) as home:
        made = Stage(home, configuration, kept)
        yield made
        home.dispatcher.stop()
        made.source.close()
        for queue in made.service.queues.values():
            for left in queue:
                os.close(left.values["sockfd"])
