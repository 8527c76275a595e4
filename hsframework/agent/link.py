"""Life of one protocol's link to the dispatcher: connect, join, restore, again after it breaks, and leave.

When the dispatcher dies, handshakes of the kernel's go on, and the others are stopped; the sockets of all are kept,
and those of the kernel's requests whose DONE it has not acknowledged.  The link connects anew, joins, gives each socket
back whose handshake is over (RESTORE, with the outcome) and closes it when the new dispatcher has acknowledged.  A link
that is to end does the same, without joining: both may be restarted at once.

References go one way, and so do calls, but for the handlers of messages and what the event loop calls::

    Link (this file): its life
    └── Pulling (pulling.py): READY, rounds of ACCEPT
        └── RequestsInHand (in_hand.py): from the reply to ACCEPT until DONE
            ├── Unacknowledged (unacknowledged.py): DONE until its acknowledgement
            └── Conversation (conversation.py): messages and answers
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from hsframework.agent.containment import exhaustion
from hsframework.agent.conversation import Conversation, Lost, Received
from hsframework.agent.in_hand import RequestsInHand, Shared
from hsframework.agent.pulling import Pulling
from hsframework.agent.stranded import Restorable, StrandedRequests
from hsframework.errors import HsframeworkError, RequestRefused, is_shortage
from hsframework.failures import Failure
from hsframework.interface import Demand
from hsframework.local.trusted import check_listener, trusted_users

if TYPE_CHECKING:
    from hsframework.agent.served import Served

RESTORE_BATCH = 32
PATIENCE = 20.0
"""Seconds without a dispatcher after which that is worth a warning: a machine that boots may take some to start it."""
RETRY_FIRST, RETRY_MOST = 0.02, 0.25
"""Seconds between two attempts to connect; each wait is half as long again as the one before."""

_log = structlog.get_logger("hsframework.agent")


class Link:
    """The link of one protocol to the dispatcher.

    ``in_hand``: its requests.  ``kernel_tls``: what this process can do with the kernel's TLS, for people.  ``given``:
    the link to a cell, with which it ends; None: it connects to ``path``.
    """

    def __init__(
        self,
        served: Served,
        shared: Shared,
        path: Path,
        name: str,
        loop: asyncio.AbstractEventLoop,
        *,
        kernel_tls: str | None = None,
        given: socket.socket | None = None,
    ) -> None:
        self._given = given
        self._serves_cell = given is not None
        self._served = served
        self._kernel_tls = kernel_tls
        self._retire = shared.retire
        self._renew = shared.renew
        self._path = path
        self._name = name
        self._conversation = Conversation(loop)
        self.in_hand = RequestsInHand(shared, self._conversation, loop, self._orphan_ended)
        self._pulling = Pulling(served.protocol.groups, self._conversation, self.in_hand, shared.room)
        self._stranded = StrandedRequests(loop)
        self._loop = loop
        self._giving: set[asyncio.Task[None]] = set()
        """Under way: requests that are given back when their handshake has ended after the link had connected anew."""
        self._connected = False
        self._lost = asyncio.Event()
        self._joined = False
        self._leaving = False
        self._problem = ""
        self._alone_since: float | None = None
        """Time from which no dispatcher can be reached; None: it is not known, or was said."""

    async def run(self, on_joined: Callable[[], None]) -> None:
        """Serve until cancelled.  Raises RequestRefused when the dispatcher does not let this agent join."""
        wait = RETRY_FIRST
        try:
            while not self._leaving or len(self._stranded) or self.in_hand.has_orphans:
                try:
                    await self._connect()
                    if not self._leaving:
                        await self._join()
                    self._connected = True
                    await self._restore()
                except (Lost, OSError) as error:
                    self._drop_connection()
                    if self._serves_cell:
                        return
                    self._complain(error)
                    # A shortage is the machine's, and no other process would have more.
                    if not is_shortage(error) and (reason := exhaustion(error)):
                        self._retire(reason)
                    await asyncio.sleep(wait)
                    wait = min(wait * 1.5, RETRY_MOST)
                    continue
                wait = RETRY_FIRST
                self._problem, self._alone_since = "", None
                if self._joined:
                    on_joined()
                await self._lost.wait()
                if self._serves_cell:
                    return
        finally:
            self.close()

    def pause(self) -> None:
        """Ask for no more requests, and stay a member of the groups."""
        self._pulling.stop()

    async def leave(self) -> None:
        """Take no more requests; those in hand go on.  Return once no more can come.

        This agent may be back at once: an orderly restart must not be worse than a crash.
        """
        self._leaving = True
        self._pulling.stop()
        # Before it has joined there is no group to leave, and a link in the backlog gets no answer.
        if self._joined:
            with contextlib.suppress(Lost, RequestRefused, TimeoutError):
                values = {"group": list(self._served.protocol.groups), "expected-back": True}
                await self._conversation.ask("leave", values)

    async def drained(self) -> None:
        """Wait until nothing is in hand, and all that an earlier dispatcher had given is given back."""
        await self.in_hand.drained()
        await self._stranded.drained()

    def close(self) -> None:
        """End the link and everything in hand."""
        self._leaving = True
        for task in self._giving:
            task.cancel()
        for endpoint in self.in_hand.abandon(Failure.INTERNAL, "the agent stops"):
            endpoint.close(last=True)
        self._stranded.close()
        self._forget_connection()
        self.in_hand.close()

    async def _connect(self) -> None:
        sock, self._given = self._given or self._connected_socket(), None
        self._lost.clear()
        handlers = {
            "ready": self._pulling.announced,
            "accept": self._pulling.replied,
            "error": self._pulling.replied,
            "cancel": self.in_hand.withdrawn,
            "trust": self.in_hand.trusts.received,
            "renew": self._to_be_renewed,
        }
        self._conversation.open(sock, handlers, self._closed)

    def _to_be_renewed(self, messages: Sequence[Received]) -> Sequence[bytes]:
        self._renew()
        return ()

    def _connected_socket(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.setblocking(False)
            sock.connect(str(self._path))
            check_listener(sock, self._path, trusted_users())
        except HsframeworkError as error:
            sock.close()
            raise PermissionError(error.errno, str(error)) from None
        except OSError:
            sock.close()
            raise
        return sock

    def _complain(self, error: Exception) -> None:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        now = self._loop.time()
        if reason != self._problem:
            self._problem, self._alone_since = reason, now
            _log.info("the dispatcher cannot be reached; trying on", path=self._path, reason=reason)
        elif self._alone_since is not None and now - self._alone_since > PATIENCE:
            self._alone_since = None
            _log.warning("the dispatcher cannot be reached", path=self._path, reason=reason, seconds=PATIENCE)

    async def _join(self) -> None:
        protocol = self._served.protocol
        await self._conversation.ask(
            "join",
            {
                "group": list(protocol.groups),
                "protocol": protocol.name,
                "socket-protocol": sorted(protocol.socket_protocols),
                "agent": self._name,
                "auth-mode": sorted(map(int, protocol.auth_modes)),
                "understands": sorted(protocol.understands),
                "tls-policies": protocol.tls_policies or Demand.TLS_POLICIES in protocol.understands,
                "kernel-tls": self._kernel_tls,
                "renews": True,
            },
        )
        self._joined = True
        _log.info("joined", protocol=protocol.name, groups=protocol.groups)

    async def _restore(self) -> None:
        stranded = self._stranded.items()
        if stranded:
            _log.warning("requests are given back to the new dispatcher", requests=len(stranded))
        # Not all at once: a message that waits to be sent holds another copy of its socket.
        for begin in range(0, len(stranded), RESTORE_BATCH):
            await asyncio.gather(*map(self._give_back, stranded[begin : begin + RESTORE_BATCH]))

    async def _give_back(self, item: Restorable) -> None:
        fd = item.fileno()
        if fd < 0:
            _log.error("a handshaker has closed the socket that is to go back", request=item.values["request-id"])
            self._stranded.refused(item)
            return
        try:
            await self._conversation.ask("restore", item.values, fd)
        except RequestRefused as error:
            _log.error("the dispatcher does not take a request back", reason=str(error))
            self._stranded.refused(item)
        else:
            self._stranded.taken(item)

    def _orphan_ended(self, item: Restorable) -> None:
        """Keep a request that has ended without a dispatcher, and give it back if there is one by now."""
        self._stranded.keep(item)
        if self._connected:
            task = self._loop.create_task(self._give_back_later(item))
            self._giving.add(task)
            task.add_done_callback(self._giving.discard)

    async def _give_back_later(self, item: Restorable) -> None:
        # One that is lost again stays among the stranded, for the next dispatcher.
        with contextlib.suppress(Lost, OSError):
            await self._give_back(item)

    def _closed(self, error: Exception | None) -> None:
        # With nothing in hand nothing is lost: it may stop or restart in good order.
        tell = _log.warning if len(self.in_hand) else _log.info
        tell("the dispatcher is gone", protocol=self._served.name, in_hand=len(self.in_hand), reason=str(error or ""))
        self._drop_connection()

    def _drop_connection(self) -> None:
        for item in self.in_hand.orphan(Failure.INTERNAL, "the dispatcher died"):
            self._stranded.keep(item)
        self._forget_connection()
        self._lost.set()

    def _forget_connection(self) -> None:
        self._joined = self._connected = False
        self._conversation.close()
        self._pulling.forget()
        self.in_hand.trusts.clear()
