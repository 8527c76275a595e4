"""One agent's link: its phase and memberships, what is sent to it, and its end.

READY goes to every member of a group when a request arrives, and again only after the agent has asked (a READY that
waits unread says enough); one that does not answer it is killed.  An agent that is gone costs each consumer whose
request it had one EIO; one that misses a deadline is killed unless it sends something within a second, which shows that
its loop still turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import errno
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import structlog

from hsframework.dispatcher.agents.answer import INTERVAL, Answer
from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.keys.given import GivenTrust
from hsframework.dispatcher.keys.trusts import TrustFiles
from hsframework.dispatcher.messages import codec
from hsframework.dispatcher.policy import PeerCredentials, Policy
from hsframework.dispatcher.requests.core import Dispatcher
from hsframework.dispatcher.traces import Traces
from hsframework.errors import HsframeworkError, MessageError, RequestRefused
from hsframework.interface import Trust
from hsframework.local.channel import AsyncChannel
from hsframework.netlink.messages import NLM_F_ACK, Message, encode_error, sequence_of

MOST_REFUSALS = 8

MOST_NONSENSE = 32
"""Messages of one link that make no sense or may not be sent by this user, one after the other; with the last the link
is ended.  Before the first join each refusal counts."""

NONSENSE = frozenset({errno.EBADMSG, errno.EOPNOTSUPP, errno.EACCES})
"""Refusals that depend on the message and the user alone."""

HANG_GRACE = 1.0
"""Seconds in which an agent that missed a deadline must show that it lives."""

_log = structlog.get_logger("hsframework.dispatcher")


class Phase(enum.Enum):
    """Stage of an agent's link.  There is no way back, not even by leaving every group."""

    CONNECTED = "it has joined no group yet"
    JOINED = "it has joined one"

    # Hashed as the object that it is: Enum's own hash costs more than the look-up.
    __hash__ = object.__hash__


class Operation(NamedTuple):
    """An entry of the table of operations.  ``takes_socket``: a file descriptor comes with the message.

    ``run`` returns the custody whose release acknowledges the message; None: it is done already.
    """

    run: Callable[[AgentConnection, Message, int | None], Custody | None]
    takes_socket: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """Objects that the links of all agents share."""

    dispatcher: Dispatcher
    policy: Policy
    trusts: TrustFiles
    operations: Mapping[tuple[Phase, str], Operation]
    loop: asyncio.AbstractEventLoop
    refused: deque[Mapping[str, Any]] = field(default_factory=lambda: deque(maxlen=MOST_REFUSALS))
    """The last agents that were not allowed to join, for people."""
    traces: Traces = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "traces", Traces(self.dispatcher, self.loop))


class AgentConnection:
    """Link of one worker, the dispatcher's end.  ``on_closed`` is called once, when it has ended."""

    def __init__(
        self,
        sock: socket.socket,
        peer: PeerCredentials,
        service: Service,
        on_closed: Callable[[AgentConnection], None],
    ) -> None:
        self.peer = peer
        self.service = service
        self.name = f"pid {peer.pid}"
        self.phase = Phase.CONNECTED
        self.protocol = ""
        self.declared: Mapping[str, Any] = {}
        """Values of its JOIN, without the groups."""
        self.groups: set[str] = set()
        self.socket_protocols: frozenset[int] = frozenset()
        self.kernel_tls = ""
        """The agent's use of the kernel's TLS, by its own word."""
        self.joined_at = 0.0
        self.auth_modes: frozenset[int] = frozenset()
        """The proofs of identity that the agent supports, by its own word."""
        self.understands: frozenset[str] = frozenset()
        """The demands of requests that the agent keeps to, by its own word."""
        self.renews = False
        """True if the agent has said that it drops what it remembers when it is sent RENEW."""
        self.announced: set[str] = set()
        """Groups with a READY under way."""
        self._on_closed = on_closed
        self._trusts_sent: dict[int, int] = {}
        self._watch: asyncio.TimerHandle | None = None
        self._pidfd = _open_pidfd(peer.pid)
        self._nonsense = 0
        self._answer = Answer(service.loop, peer.pid, self._is_wanted, self._does_not_answer)
        self.channel = AsyncChannel(
            sock, self._packet, self._gone, loop=service.loop, close_fd=service.dispatcher.close_fd, holds_back=True
        )

    def announce(self, group: str) -> None:
        """Send READY, unless one is under way already."""
        if group not in self.announced:
            self.announced.add(group)
            self.channel.send(codec.encode("ready", {"group": group}))
            answer, loop = self._answer, self.service.loop
            if answer.silent is None:
                answer.silent = 0
                if answer.timer is None:
                    answer.due = loop.time() + INTERVAL
                    answer.timer = loop.call_at(answer.due, answer.look)

    def renew(self) -> None:
        """Send RENEW: what the agent remembers is of terms that are no longer in force."""
        if self.renews:
            self.channel.send(codec.encode("renew", {}))

    def withdraw(self, request_id: int, reason: int) -> None:
        """Send CANCEL: the request has been completed.  The agent closes its socket and acknowledges."""
        self.channel.send(codec.encode("cancel", {"request-id": request_id, "reason": reason}, flags=NLM_F_ACK))

    def send_trust(self, trust: Trust | GivenTrust) -> int:
        """Send a trust unless the agent has it already.  Return its trust-id."""
        slot = self.service.trusts.slot(trust)
        if self._trusts_sent.get(slot.number) != slot.generation:
            file = self.service.trusts.file(trust)
            values = {"trust-id": slot.number, "size": file.size}
            self.channel.send(codec.encode("trust", values), file.fd)
            self._trusts_sent[slot.number] = slot.generation
        return slot.number

    def watch(self) -> None:
        """Kill the agent unless it sends a message within :data:`HANG_GRACE`: it has missed a deadline."""
        if self._watch is None:
            self._watch = self.service.loop.call_later(HANG_GRACE, self._kill)

    def close(self) -> None:
        """End the link, as if the agent had gone, but that nobody is surprised."""
        if not self.channel.closed:
            self.channel.close()
            self._end(None, _log.info)

    def _is_wanted(self) -> bool:
        groups = self.service.dispatcher.groups
        return any(len(groups[name]) for name in self.announced if name in groups)

    def _does_not_answer(self) -> None:
        _log.error("an agent does not answer READY", agent=self.name, uid=self.peer.uid, process=self.peer.pid)
        self._kill()

    def _packet(self, data: bytes, fd: int | None) -> None:
        self._answer.silent = None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        try:
            message = codec.decode(data)
            if message.error is not None:
                return
            operation = self._allowed(message.operation)
            if fd is not None and not operation.takes_socket:
                raise MessageError(f"{message.operation} carries no file descriptor")
            handed, fd = fd, None
            held = operation.run(self, message, handed)
        except HsframeworkError as error:
            self._refuse(error, sequence_of(data))
        except Exception as error:
            _log.error("a fault in the dispatcher", error=repr(error), during=f"a message of {self.name}")
            self.channel.send(encode_error(errno.EIO, sequence_of(data), "a fault in the dispatcher; see its log"))
        else:
            self._nonsense = 0
            if message.flags & NLM_F_ACK:
                acknowledge = partial(self.channel.send, encode_error(0, message.sequence))
                if held is None:
                    acknowledge()
                else:
                    held.when_released = acknowledge
        finally:
            if fd is not None:
                self.service.dispatcher.close_fd(fd)

    def _refuse(self, error: HsframeworkError, sequence: int) -> None:
        """Send an error, and end the link of a process that sends nothing but nonsense."""
        _log.warning("an agent's message is refused", agent=self.name, uid=self.peer.uid, error=str(error))
        self.channel.send(encode_error(error.errno, sequence, str(error)))
        self._nonsense += self.phase is Phase.CONNECTED or error.errno in NONSENSE
        if self._nonsense >= MOST_NONSENSE:
            _log.warning("an agent's link is ended: it sends nonsense", agent=self.name, uid=self.peer.uid)
            self.close()

    def _allowed(self, name: str) -> Operation:
        """Return the operation of this name.  Raises RequestRefused if the table does not list it for the phase."""
        operations = self.service.operations
        operation = operations.get((self.phase, name))
        if operation is not None:
            return operation
        if any(name == known for _, known in operations):
            raise RequestRefused(f"join a group before {name}", errno=errno.EPERM)
        raise RequestRefused(f"{name} is not for agents", errno=errno.EOPNOTSUPP)

    def _gone(self, error: Exception | None) -> None:
        self._end(error, _log.warning if self.groups else _log.info)

    def _end(self, error: Exception | None, tell: Callable[..., object]) -> None:
        self._answer.close()
        if self._watch is not None:
            self._watch.cancel()
        dispatcher = self.service.dispatcher
        requests = dispatcher.all_in_hand(self) if self.phase is Phase.JOINED else []
        tell("an agent is gone", agent=self.name, uid=self.peer.uid, in_hand=len(requests), error=str(error or ""))
        self._on_closed(self)
        # First the members, so that nothing is announced to the one that is gone.
        groups, self.groups = self.groups, set()
        dispatcher.left(self, groups, expected_back=True)
        dispatcher.agent_gone(requests)
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    def _kill(self) -> None:
        self._watch = None
        _log.error("an agent hangs and is killed", agent=self.name, uid=self.peer.uid)
        if self._pidfd is not None and self.peer.pid != os.getpid():
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self.close()


def _open_pidfd(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        return os.pidfd_open(pid)
    return None
