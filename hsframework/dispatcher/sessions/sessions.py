"""Sessions of a dispatcher: noted when they are made, shown when somebody asks, ended when their peers are out.

Rules:

* The loop notes and logs; tables of the kernel's, verdicts and snapshots are made in a thread, one at a time.
* A reload is followed by a review of all sessions by the terms that are in force then.  A session that was made later
  by a request that was taken before gets a review of its own: it has the terms of its moment, and no longer.
* ``end-sessions`` decides on what follows: nothing, a line in the log, or the end of the sockets.
* What is known is kept for a successor (:mod:`hsframework.process.kept`): a snapshot each :data:`PAUSE` seconds, if
  anything has changed.  A successor that gets none knows nothing of the peers, and says so.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from hsframework.configuration.rules import OWN_NAMESPACE
from hsframework.configuration.settings import Configuration
from hsframework.dispatcher.keys.vault import Vault
from hsframework.dispatcher.requests.request import PendingRequest
from hsframework.dispatcher.sessions import kernel
from hsframework.dispatcher.sessions.book import Book, Session
from hsframework.process.kept import SESSIONS, Kept
from hsframework.process.snapshot import freeze, thaw

OFF, DRY_RUN, ON = "off", "dry-run", "on"
PAUSE = 5.0
"""Seconds between two snapshots."""
LOOK = 30.0
"""Seconds between two looks for sessions that are closed."""

_log = structlog.get_logger("hsframework.dispatcher")


class Sessions:
    """The sessions of one dispatcher, by the terms in force.  To be made while the process has its capabilities."""

    def __init__(
        self, vault: Vault, configuration: Configuration, kept: Kept, *, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._vault, self._configuration = vault, configuration
        self._kept = kept
        self._loop = loop
        self._renewed_at = loop.time()
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._kept_changes = 0
        self.results: Counter[str] = Counter()
        """Sessions of peers that are out, by what became of them: ``ended``, ``dry-run``, ``failed``.  Each is counted
        once, however many reviews find it."""
        self._counted: set[tuple[str, bytes]] = set()
        """Results that were counted, with the cookies of sessions that are still known."""
        self.refusal = kernel.refusal()
        """Reason why the kernel ends no sockets; empty: it does."""
        self.book = Book(_before(kept))
        if self.refusal and configuration.end_sessions == ON:
            _log.error("sessions of peers that are out cannot be ended", reason=self.refusal)
        self._timers = [
            loop.call_later(PAUSE, self._every, 0, PAUSE, self._keep),
            loop.call_later(LOOK, self._every, 1, LOOK, self._look),
        ]
        if len(self.book):
            self._begin(self._review())

    def note(self, request: PendingRequest, values: Mapping[str, Any]) -> None:
        """Note the session of a request that has succeeded."""
        self.book.note(request, values)
        if request.taken_at < self._renewed_at:
            self._begin(self._review())

    def renew(self, vault: Vault, configuration: Configuration) -> None:
        """Take these terms from now on, and review all sessions by them."""
        self._vault, self._configuration = vault, configuration
        self._renewed_at = self._loop.time()
        self._begin(self._review())

    def show(self, answer: Callable[[list[str]], None]) -> None:
        """Ask the kernel for the sessions that are open; ``answer`` gets each as a JSON object."""
        self._begin(self._show(answer))

    def report(self) -> Mapping[str, Any]:
        """Return the member of the report of ``status``."""
        return {
            "known": len(self.book),
            "forgotten": self.book.crowded,
            "end-sessions": self._configuration.end_sessions,
            "cannot-end": self.refusal,
            "out": dict(self.results),
        }

    def close(self) -> None:
        """Stop, and leave what is known to a successor."""
        for timer in self._timers:
            timer.cancel()
        for task in self._tasks:
            task.cancel()

    def _begin(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _every(self, place: int, seconds: float, begin: Callable[[], Any]) -> None:
        self._timers[place] = self._loop.call_later(seconds, self._every, place, seconds, begin)
        if not self._lock.locked():
            self._begin(begin())

    def _namespaces(self) -> list[str]:
        return [OWN_NAMESPACE, *self._configuration.kernel.namespaces]

    async def _keep(self) -> None:
        """Leave a snapshot to a successor, if anything has changed."""
        if self.book.changes == self._kept_changes:
            return
        async with self._lock:
            changes, sessions = self.book.changes, tuple(self.book.sessions())
            try:
                fd = await self._loop.run_in_executor(None, freeze, SESSIONS, sessions)
            except OSError as error:
                _log.warning("nothing is kept for the case of a crash", name=SESSIONS, reason=error.strerror)
                return
            self._kept.put(SESSIONS, fd)
            os.close(fd)
            self._kept_changes = changes
            _log.debug("what is known of sessions is kept", number=len(sessions))

    async def _look(self) -> None:
        if len(self.book):
            async with self._lock:
                await self._compare()

    async def _compare(self) -> list[kernel.Table]:
        """Ask the kernel, and forget the sessions that are closed."""
        found = await self._loop.run_in_executor(None, kernel.tables, self._namespaces())
        for table in found:
            if not table.problem:
                self.book.compare(table.namespace, table.sockets.keys(), table.asked_at)
        return found

    async def _show(self, answer: Callable[[list[str]], None]) -> None:
        async with self._lock:
            found = await self._compare()
        now = time.time()
        lines: list[str] = []
        for table in found:
            if table.problem:
                lines.append(json.dumps({"namespace": table.namespace, "problem": table.problem}))
            known = [session for session in map(self.book.get, table.sockets) if session is not None]
            lines += [json.dumps(session.as_report(now)) for session in known]
            if table.with_tls > len(known):
                unknown = {"known": False, "namespace": table.namespace, "number": table.with_tls - len(known)}
                lines.append(json.dumps(unknown))
        answer(lines)

    async def _review(self) -> None:
        """Find the sessions whose peers are out, and do what the configuration says."""
        mode = self._configuration.end_sessions
        if mode == OFF or not len(self.book):
            return
        async with self._lock:
            vault, configuration = self._vault, self._configuration
            mode = configuration.end_sessions
            try:
                results = await self._loop.run_in_executor(
                    None, _reviewed, vault, configuration, self.book.sessions(), mode
                )
            except Exception as error:  # what is wrong with one session must not end the dispatcher
                _log.error("sessions could not be reviewed", error=str(error) or repr(error))
                return
        for session, reason, result in results:
            self._note_end(session, reason, result)
        self._counted = {each for each in self._counted if self.book.get(each[1]) is not None}

    def _note_end(self, session: Session, reason: str, result: str) -> None:
        fields = {
            "peer": session.peer,
            "local": session.local,
            "peer_identity": session.peer_identity or None,
            "profile": session.profile,
            "source": session.source,
            "namespace": session.namespace,
            "group": session.group,
            "age": round(time.time() - session.made_at),
            "reason": reason,
        }
        if result == DRY_RUN:
            self._count(DRY_RUN, session)
            _log.warning("a session would be ended: its peer is out", **fields, mend="end-sessions = 'on' ends it")
            return
        if result == kernel.GONE:
            self.book.forget(session.cookie)
        elif result == kernel.ENDED:
            self.results[kernel.ENDED] += 1
            self.book.forget(session.cookie)
            _log.warning("a session is ended: its peer is out", **fields)
        else:
            self._count("failed", session)
            _log.error("a session cannot be ended, and its peer is out", **fields, problem=result)

    def _count(self, result: str, session: Session) -> None:
        if (result, session.cookie) not in self._counted:
            self._counted.add((result, session.cookie))
            self.results[result] += 1


def _reviewed(
    vault: Vault, configuration: Configuration, sessions: list[Session], mode: str
) -> list[tuple[Session, str, str]]:
    """Return the sessions whose peers are out, each with the reason and what became of it.  For a thread."""
    # The judges are an agent's work, and imported where something is to be judged: a start does without them.
    from hsframework.dispatcher.sessions.verdicts import Verdicts

    out = Verdicts(vault, configuration).out(sessions)
    if mode != ON:
        return [(session, reason, DRY_RUN) for session, reason in out]
    results: dict[bytes, str] = {}
    for namespace in {session.namespace for session, _ in out}:
        results |= kernel.end(namespace, [session.cookie for session, _ in out if session.namespace == namespace])
    return [(session, reason, results[session.cookie]) for session, reason in out]


def _before(kept: Kept) -> tuple[Session, ...]:
    """Return what a predecessor has known, nothing if there was none or it cannot be read."""
    fd = kept.take(SESSIONS)
    if fd is None:
        return ()
    try:
        found = thaw(fd)
    except ValueError as error:
        _log.error("what the dispatcher before knew of sessions is lost", reason=str(error))
        return ()
    return found if isinstance(found, tuple) and all(isinstance(each, Session) for each in found) else ()
