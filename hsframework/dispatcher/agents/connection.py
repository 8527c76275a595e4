"""The agents' socket: join, accept, done, PSK-LOOKUP and restore, one connection for each agent process.

The dispatcher offers here what the kernel offers to it.  READY goes to every member of a group when a request arrives,
and again only after the agent has asked (a READY that waits unread says enough).  An agent that is gone costs each
consumer whose request it had one EIO; one that misses a deadline is killed unless it shows within a second that its
loop still turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

import structlog

from hsframework.configuration.settings import Limits
from hsframework.dispatcher.connections import Listener
from hsframework.dispatcher.keys.trusts import TrustFiles
from hsframework.dispatcher.messages import accept_reply, codec, psk_values
from hsframework.dispatcher.namespaces import netlink_beside
from hsframework.dispatcher.policy import PeerCredentials, Policy
from hsframework.dispatcher.requests.core import Dispatcher
from hsframework.dispatcher.requests.request import Outcome, PendingRequest
from hsframework.errors import HsframeworkError, MessageError, RequestRefused
from hsframework.interface import Trust
from hsframework.local.channel import AsyncChannel
from hsframework.netlink.messages import NLM_F_ACK, Message, encode_error, sequence_of

HANG_GRACE = 1.0
"""Seconds in which an agent that missed a deadline must show that it lives."""

MAX_COUNT = 1024

NETLINK_FAMILIES = (0, 16)
"""rtnetlink and generic netlink."""

_log = structlog.get_logger("hsframework.dispatcher")


class AgentServer:
    """Everything that agents connect to."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        policy: Policy,
        trusts: TrustFiles,
        sock: socket.socket,
        limits: Limits,
        *,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.dispatcher = dispatcher
        self.policy = policy
        self.trusts = trusts
        self.loop = loop
        self.listener = Listener(
            sock,
            lambda peer_socket, peer: AgentConnection(self, peer_socket, peer),
            limits,
            check=policy.check_restore,
            close_fd=dispatcher.close_fd,
            loop=loop,
        )

    def close(self) -> None:
        """Stop serving agents."""
        self.listener.close()


class AgentConnection:
    """One agent process."""

    def __init__(self, server: AgentServer, sock: socket.socket, peer: PeerCredentials) -> None:
        self.peer = peer
        self.name = f"pid {peer.pid}"
        self._server = server
        self._dispatcher = server.dispatcher
        self._groups: set[str] = set()
        self.socket_protocols: frozenset[int] = frozenset()
        self._announced: set[str] = set()
        self._trusts_sent: dict[int, int] = {}
        self._watch: asyncio.TimerHandle | None = None
        self._pidfd = _open_pidfd(peer.pid)
        self._channel = AsyncChannel(
            sock, self._packet, self._gone, loop=server.loop, close_fd=self._dispatcher.close_fd
        )
        self._handlers: dict[str, Callable[[Message, int | None], None]] = {
            "accept": self._accept,
            "done": self._done,
            "psk-lookup": self._psk_lookup,
            "netlink": self._netlink,
            "join": self._join,
            "leave": self._leave,
            "restore": self._restore,
        }

    # What the dispatcher calls

    def announce(self, group: str) -> None:
        """READY, unless one is under way already."""
        if group not in self._announced:
            self._announced.add(group)
            self._channel.send(codec.encode("ready", {"group": group}))

    def withdraw(self, request_id: int, reason: int) -> None:
        """The request is over: the agent lets go of it, and acknowledges."""
        self._channel.send(codec.encode("cancel", {"request-id": request_id, "reason": reason}, flags=NLM_F_ACK))

    def watch(self) -> None:
        """A deadline was missed: kill the agent unless a message of it arrives in time."""
        if self._watch is None:
            self._watch = self._server.loop.call_later(HANG_GRACE, self._kill)

    def close(self) -> None:
        """End the connection, as if the agent had gone."""
        if not self._channel.closed:
            self._channel.close()
            self._gone(None)

    # What the agent sends

    def _packet(self, data: bytes, fd: int | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        try:
            message = codec.decode(data)
            if message.error is not None:
                return
            handler = self._handlers.get(message.operation)
            if handler is None:
                raise RequestRefused(f"{message.operation} is not for agents", errno=errno.EOPNOTSUPP)
            if fd is not None and message.operation != "restore":
                raise MessageError(f"{message.operation} carries no file descriptor")
            handed, fd = fd, None
            handler(message, handed)
        except HsframeworkError as error:
            _log.warning("an agent's message is refused", agent=self.name, error=str(error))
            self._channel.send(encode_error(error.errno, sequence_of(data), str(error)))
        except Exception as error:
            _log.error("a fault in the dispatcher", error=repr(error), during=f"a message of {self.name}")
            self._channel.send(encode_error(errno.EIO, sequence_of(data), "a fault in the dispatcher; see its log"))
        else:
            if message.flags & NLM_F_ACK:
                self._channel.send(encode_error(0, message.sequence))
        finally:
            if fd is not None:
                self._dispatcher.close_fd(fd)

    def _join(self, message: Message, fd: int | None) -> None:
        groups = _wanted(message, "group")
        for group in groups:
            self._server.policy.check_join(self.peer, group)
        self.socket_protocols = frozenset(message.values.get("socket-protocol", ()))
        self.name = f"{message.values.get('agent', 'agent')[:64]} (pid {self.peer.pid})"
        self._groups.update(groups)
        _log.info("an agent joins", agent=self.name, groups=groups, uid=self.peer.uid)
        self._dispatcher.joined(self, groups)

    def _leave(self, message: Message, fd: int | None) -> None:
        groups = [group for group in _wanted(message, "group") if group in self._groups]
        self._groups.difference_update(groups)
        self._announced.difference_update(groups)
        _log.info("an agent leaves", agent=self.name, groups=groups)
        self._dispatcher.left(self, groups, expected_back=False)

    def _accept(self, message: Message, fd: int | None) -> None:
        group = _wanted(message, "group")
        if group not in self._groups:
            raise RequestRefused(f"join the group {group!r} before accepting from it", errno=errno.EPERM)
        number = message.values.get("count", 1)
        if not 1 <= number <= MAX_COUNT:
            raise RequestRefused(f"a count is from 1 to {MAX_COUNT}", errno=errno.EINVAL)
        # Who asks for one at a time need not know that packets can bring several sockets.
        send = self._channel.send if number == 1 else self._channel.send_soon
        while number and (request := self._dispatcher.pull(self, group)) is not None:
            try:
                send(self._accept_reply(request, message.sequence), request.custody.fileno())
            except (HsframeworkError, OSError) as error:
                self._dispatcher.not_handed_over(request, str(error))
            else:
                number -= 1
        if number:
            # The queue is empty, which is the ordinary end of a round and no fault of the agent's.
            self._announced.discard(group)
            send(encode_error(errno.EAGAIN, message.sequence))
        self._channel.send_gathered()

    def _accept_reply(self, request: PendingRequest, sequence: int) -> bytes:
        submission, custody = request.submission, request.custody
        return accept_reply(
            submission.parameters,
            sequence=sequence,
            request_id=request.id,
            milliseconds=max(1, int((request.deadline - self._server.loop.time()) * 1000)),
            local_address=custody.local_address,
            peer_address=custody.peer_address,
            trust_id=None if submission.trust is None else self._send_trust(submission.trust),
        )

    def _done(self, message: Message, fd: int | None) -> None:
        number = _wanted(message, "request-id")
        values = message.values
        del values["request-id"]
        status = _status(values.pop("status", None))
        encoded = b"" if status else codec.without_first(message, "request-id")
        self._dispatcher.done(self, number, Outcome(status, values, encoded))

    def _psk_lookup(self, message: Message, fd: int | None) -> None:
        number = _wanted(message, "request-id")
        request = self._dispatcher.in_hand(self, number)
        found = request.submission.psk_lookup(_wanted(message, "identity"))
        values = {"request-id": number, "psk": None if found is None else psk_values(found)}
        self._channel.send(codec.encode("psk-lookup", values, sequence=message.sequence))

    def _netlink(self, message: Message, fd: int | None) -> None:
        number, family = _wanted(message, "request-id"), _wanted(message, "family")
        request = self._dispatcher.in_hand(self, number)
        if family not in NETLINK_FAMILIES:
            raise RequestRefused(f"sockets of netlink family {family} are not handed out", errno=errno.EINVAL)
        served = self._dispatcher.configuration.kernel.namespaces
        with netlink_beside(request.custody.fileno(), family, served) as sock:
            reply = codec.encode("netlink", {"request-id": number}, sequence=message.sequence)
            self._channel.send(reply, sock.fileno())

    def _restore(self, message: Message, fd: int | None) -> None:
        if fd is None:
            raise MessageError("restore comes with the socket attached")
        try:
            self._server.policy.check_restore(self.peer)
        except RequestRefused:
            self._dispatcher.close_fd(fd)
            raise
        # Its connection may have ended in the meantime; the consumer is told all the same.
        custody = self._dispatcher.take_socket(fd, connected=False)
        sources = self._dispatcher.sources
        source = sources.get(message.values.get("source", ""))
        if source is None and message.values.get("kernel-consumer"):
            # Its namespace is gone.  The kernel takes DONE from any, in the form in which it was asked.
            source = sources.get(message.values.get("source", "").partition(":")[0])
        _log.warning("a request of an earlier dispatcher is given back", agent=self.name, peer=custody.peer_address)
        if source is None:
            custody.shut_down()
            custody.release()
        else:
            source.restored(custody, message.values)

    # Its end

    def _gone(self, error: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        requests = self._dispatcher.all_in_hand(self)
        tell = _log.warning if self._groups else _log.info
        tell("an agent is gone", agent=self.name, in_hand=len(requests), error=str(error or ""))
        self._server.listener.closed(self)
        # First the members, so that nothing is announced to the one that is gone.
        groups, self._groups = self._groups, set()
        self._dispatcher.left(self, groups, expected_back=True)
        self._dispatcher.agent_gone(requests)
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    def _kill(self) -> None:
        self._watch = None
        _log.error("an agent hangs and is killed", agent=self.name)
        if self._pidfd is not None and self.peer.pid != os.getpid():
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self.close()

    def _send_trust(self, trust: Trust) -> int:
        file = self._server.trusts.file(trust)
        if self._trusts_sent.get(file.number) != file.generation:
            values = {"trust-id": file.number, "size": file.size}
            self._channel.send(codec.encode("trust", values), file.fd)
            self._trusts_sent[file.number] = file.generation
        return file.number


def _wanted(message: Message, name: str) -> Any:
    value = message.values.get(name)
    if value is None:
        raise MessageError(f"{message.operation}: {name} is missing")
    return value


def _status(value: int | None) -> int:
    """The kernel's rule: no status is EIO; one past 4095 is none."""
    if value is None:
        return errno.EIO
    if value > 4095:
        raise MessageError(f"status {value} is not a positive errno up to 4095")
    return value


def _open_pidfd(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        return os.pidfd_open(pid)
    return None
