"""Renewal of a running dispatcher: other terms take the place of those in force (:mod:`hsframework.dispatcher.terms`).

Rules:

* Snapshots are opened in a thread; their use begins on the loop, between two requests.
* A request that was taken before keeps its terms to its end: they are part of its submission.
* What is remembered of the terms before is dropped: submissions here, and in agents whatever they remember.
* Whoever has ordered a reload is told how it ended: :meth:`Renewal.order`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401  imported now: a cell may read no file when it needs it
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from hsframework.configuration.settings import Configuration
from hsframework.dispatcher.agents import AgentServer
from hsframework.dispatcher.keys.vault import Vault
from hsframework.dispatcher.policy import Policy
from hsframework.dispatcher.sessions.sessions import Sessions
from hsframework.dispatcher.sources.consumers import LocalSource
from hsframework.dispatcher.sources.kernel import KernelSources
from hsframework.dispatcher.terms import CONFIGURATION, CREDENTIALS, InForce, opened
from hsframework.errors import MessageError
from hsframework.local.channel import AsyncChannel
from hsframework.local.control import FROM_READER, TO_READER, NotRead, ReadAgain, TermsRead
from hsframework.process.kept import CONFIGURATION as KEPT_CONFIGURATION, VAULT, Kept

_log = structlog.get_logger("hsframework.dispatcher")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Parts of a dispatcher that have terms.  ``kept``: of a dispatcher that keeps them itself for a successor.
    ``sessions``: those that are reviewed."""

    policy: Policy
    agents: AgentServer
    local: LocalSource
    kernel: KernelSources | None = None
    kept: Kept | None = None
    sessions: Sessions | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """End of a reload.  ``problem``: reason why nothing was taken; empty: what was read is in force.

    ``at``: seconds since the epoch.  ``waiting``: keys whose new values wait for a restart.
    """

    problem: str = ""
    waiting: tuple[str, ...] = ()
    at: float = field(default_factory=time.time)


class Renewal:
    """Terms of one dispatcher, at first those of ``configuration``."""

    def __init__(self, parts: Parts, configuration: Configuration, *, loop: asyncio.AbstractEventLoop) -> None:
        self._parts = parts
        self._configuration = configuration
        self._ask: Callable[[int], None] | None = None
        self._loop = loop
        self._snapshots: dict[str, int] = {}
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._problem = ""
        """Reason why nothing can be ordered."""
        self._orders = 0
        self._waiting: dict[int, Callable[[Ended], None]] = {}
        self.counts: Counter[str] = Counter(taken=0, refused=0)
        """Ends of reloads: ``taken`` or ``refused``."""
        self.loaded_at = time.time()
        """Moment at which the terms in force were taken, in seconds since the epoch."""
        self.last: Ended | None = None
        """End of the last reload; None: there was none."""
        self.renewed: Callable[[InForce, bool], None] = lambda state, has_changed: None
        """Called when other terms are in force."""

    def connect(self, ask: Callable[[int], None]) -> None:
        """Order by this call from now on, and at once what was ordered before."""
        self._ask = ask
        if self._waiting:
            ask(self._orders)

    def order(self, answer: Callable[[Ended], None] = lambda ended: None) -> None:
        """Have everything read again; ``answer`` is called with the end."""
        if self._problem:
            answer(Ended(self._problem))
            return
        self._orders = self._orders % (1 << 31) + 1
        self._waiting[self._orders] = answer
        if self._ask is not None:
            self._ask(self._orders)

    def refused(self, reason: str, order: int) -> None:
        """Note that the reader has taken nothing."""
        _log.error("nothing is taken of what was read; all stays as it is", reason=reason)
        self._end(order, Ended(reason))

    def receive(self, part: str, order: int, fd: int | None) -> None:
        """Take a snapshot that the reader has made; with the second of two they are put in force.

        Owns the descriptor.  Raises MessageError for what is no snapshot.
        """
        if fd is None or part not in (CONFIGURATION, CREDENTIALS):
            raise MessageError(f"a snapshot of {part!r}, or none")
        self._forget(part)
        self._snapshots[part] = fd
        if part == CREDENTIALS and CONFIGURATION in self._snapshots:
            snapshots = self._snapshots.pop(CONFIGURATION), self._snapshots.pop(CREDENTIALS)
            task = self._loop.create_task(self._renew(snapshots, order))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def give_up(self, problem: str) -> None:
        """Take no orders from now on, and end those that wait: there is no reader."""
        self._problem = problem
        self._end(self._orders, Ended(problem))

    def close(self) -> None:
        """Renew no more."""
        for task in self._tasks:
            task.cancel()
        for part in list(self._snapshots):
            self._forget(part)

    def _forget(self, part: str) -> None:
        fd = self._snapshots.pop(part, None)
        if fd is not None:
            os.close(fd)

    async def _renew(self, snapshots: tuple[int, int], order: int) -> None:
        kept = None if self._parts.kept is None else os.dup(snapshots[1])
        try:
            async with self._lock:
                try:
                    prepared = await self._loop.run_in_executor(None, _prepared, snapshots)
                except Exception as error:  # the order has to have an end
                    reason = str(error) or repr(error)
                    _log.error("what was read cannot be taken; all stays as it is", reason=reason)
                    self._end(order, Ended(reason))
                    return
                self._put_in_force(*prepared, order)
                if self._parts.kept is not None and kept is not None:
                    self._parts.kept.put(VAULT, kept)
                    self._parts.kept.put_snapshot(KEPT_CONFIGURATION, prepared[0].configuration)
        finally:
            if kept is not None:
                os.close(kept)

    def _put_in_force(self, state: InForce, vault: Vault, policy: Policy, order: int) -> None:
        parts, configuration = self._parts, state.configuration
        has_changed = _has_changed(self._configuration, parts.local.vault, configuration, vault)
        self._configuration, self.loaded_at = configuration, time.time()
        parts.policy.renew(policy)
        parts.local.renew(vault, configuration)
        if parts.kernel is not None:
            parts.kernel.renew(vault, configuration)
        if has_changed:
            parts.agents.renew(vault.trusts())
        if parts.sessions is not None:
            parts.sessions.renew(vault, configuration)
        self.renewed(state, has_changed)
        log_findings(vault)
        _log.info("configuration and credentials were read again and are in force", files=len(state.files))
        if state.waiting:
            _log.warning("some keys wait for a restart of the service", keys=state.waiting)
        self._end(order, Ended(waiting=state.waiting))

    def _end(self, order: int, ended: Ended) -> None:
        self.last = ended
        self.counts["refused" if ended.problem else "taken"] += 1
        for number in [number for number in self._waiting if number <= order]:
            self._waiting.pop(number)(ended)


def log_findings(vault: Vault) -> None:
    """Log the credentials that do not serve."""
    for finding in vault.findings(datetime.now(UTC)):
        _log.warning("a credential does not serve", where=finding.where, problem=finding.detail)


def _prepared(snapshots: tuple[int, int]) -> tuple[InForce, Vault, Policy]:
    """Return what two snapshots hold, which it closes, and the policy.  Raises ValueError, ConfigurationError."""
    state, vault = opened(snapshots)
    return state, vault, Policy(state.configuration)


def _has_changed(before: Configuration, old: Vault, now: Configuration, new: Vault) -> bool:
    """Return True unless requests are served as before: then what agents remember is still right."""
    return _terms_of(before) != _terms_of(now) or not old.has_same_contents(new)


def _terms_of(configuration: Configuration) -> tuple[object, ...]:
    kernel = configuration.kernel
    return configuration.profiles, configuration.rule, kernel.client_profile, kernel.server_profile


class ReaderLink:
    """Link of a dispatcher without a supervisor to its reader (:mod:`hsframework.dispatcher.reader`)."""

    def __init__(self, sock: socket.socket, renewal: Renewal, *, loop: asyncio.AbstractEventLoop) -> None:
        self._renewal = renewal
        self._channel = AsyncChannel(sock, self._packet, self._gone, loop=loop)
        renewal.connect(self._ask)

    def _ask(self, number: int) -> None:
        self._channel.send(TO_READER.encode(ReadAgain(number)))

    def close(self) -> None:
        """Close the link, with which the process ends."""
        self._channel.close()

    def _packet(self, data: bytes, fd: int | None) -> None:
        try:
            message = FROM_READER.decode(data)
            if isinstance(message, TermsRead):
                handed, fd = fd, None
                self._renewal.receive(message.part, message.order, handed)
            elif isinstance(message, NotRead):
                self._renewal.refused(message.message, message.order)
        except MessageError as error:
            _log.error("a message of the reader is not understood", reason=str(error))
        finally:
            if fd is not None:
                os.close(fd)

    def _gone(self, error: Exception | None) -> None:
        problem = "the reader of files has ended; restart the service"
        _log.error("files are not read again", reason=problem)
        self._renewal.give_up(problem)


def as_report(ended: Ended) -> Mapping[str, Any]:
    """Return the end of a reload as a member of the report of ``status``, and as the answer to ``reload``."""
    return {"at": ended.at, "problem": ended.problem, "waiting": list(ended.waiting)}
