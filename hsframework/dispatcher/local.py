"""The source of requests from user space: programs that hand over a socket and get its session back.

One connection may have many requests under way; each is named by the sequence number of its submit.  A request that is
refused is answered with an error; one that was taken gets exactly one result.  A consumer that goes away takes its
requests with it.  The session's secrets go out once, over the connection of the consumer that owns the socket.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Mapping
from typing import Any

import structlog

from hsframework.channel import AsyncChannel
from hsframework.config import Configuration
from hsframework.dispatcher.connections import Listener, codec
from hsframework.dispatcher.core import Dispatcher
from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.policy import PeerCredentials, Policy
from hsframework.dispatcher.requests import HIGHEST_PRIORITY, Outcome, PendingRequest, no_key
from hsframework.dispatcher.vault import Vault, auth_mode_of, role_of
from hsframework.errors import HsframeworkError, MessageError, RequestRefused
from hsframework.interface import AuthMode, Role
from hsframework.netlink.messages import NLM_F_ACK, Message, encode_error, sequence_of

_log = structlog.get_logger("hsframework.dispatcher")


class LocalSource:
    """Everything that consumers in user space connect to.  A :class:`~hsframework.dispatcher.requests.Source`."""

    name = "local"

    def __init__(
        self,
        dispatcher: Dispatcher,
        policy: Policy,
        vault: Vault,
        sock: socket.socket,
        configuration: Configuration,
        *,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.dispatcher = dispatcher
        self.policy = policy
        self.vault = vault
        self.timeouts = configuration.timeouts
        self.loop = loop
        self.listener = Listener(
            sock,
            lambda peer_socket, peer: ConsumerConnection(self, peer_socket, peer),
            configuration.limits,
            check=lambda peer: policy.check_submit(peer, None),
            close_fd=dispatcher.close_fd,
            loop=loop,
        )
        dispatcher.add_source(self)

    def group_opened(self, group: str) -> None:
        """Nothing to do: a submit asks the dispatcher itself."""

    def group_closed(self, group: str) -> None:
        """Nothing to do."""

    def room_made(self) -> None:
        """Nothing to do: a submit that finds no room is refused."""

    def complete(self, request: PendingRequest, outcome: Outcome) -> None:
        """Tell the consumer."""
        assert isinstance(request, LocalRequest)
        request.connection.complete(request, outcome)
        self.dispatcher.acknowledged(request)

    def restored(self, custody: Custody, values: Mapping[str, Any]) -> None:
        """The consumer's connection died with the dispatcher before us, so nobody waits: end the connection."""
        custody.shut_down()
        custody.release()

    def timeout(self, values: Mapping[str, Any], role: Role) -> float:
        """Seconds, from the request or by role."""
        asked = values.get("timeout")
        if asked is None:
            return self.timeouts.client if role is Role.CLIENT else self.timeouts.server
        if not 0 < asked <= self.timeouts.maximum * 1000:
            raise RequestRefused(
                f"a timeout is from 1 to {int(self.timeouts.maximum * 1000)} milliseconds", errno=errno.EINVAL
            )
        return float(asked) / 1000

    def close(self) -> None:
        """Stop serving consumers."""
        self.listener.close()


class LocalRequest(PendingRequest):
    """A request of a consumer in user space."""

    __slots__ = ("connection", "sequence")
    connection: ConsumerConnection
    sequence: int


class ConsumerConnection:
    """One consumer."""

    def __init__(self, source: LocalSource, sock: socket.socket, peer: PeerCredentials) -> None:
        self.peer = peer
        self._source = source
        self._requests: dict[int, LocalRequest] = {}
        # What a user sends may be the last copy of a socket whose closing blocks.
        self._close_fd = os.close if source.policy.is_privileged(peer) else source.dispatcher.close_fd
        self._channel = AsyncChannel(sock, self._packet, self._gone, loop=source.loop, close_fd=self._close_fd)

    def complete(self, request: LocalRequest, outcome: Outcome) -> None:
        """Send the one result."""
        self._requests.pop(request.sequence, None)
        values = {**outcome.values, "status": outcome.status}
        if outcome.status:
            values.pop("session", None)
        try:
            self._channel.send_soon(codec.encode("result", values, sequence=request.sequence))
        except MessageError as error:
            _log.error("a result cannot be sent", request=request.id, error=str(error))
            failed = {"status": errno.EIO, "message": f"the result cannot be sent: {error}"}
            self._channel.send_soon(codec.encode("result", failed, sequence=request.sequence))

    def close(self) -> None:
        """End the connection, as if the consumer had gone."""
        if not self._channel.closed:
            self._channel.close()
            self._gone(None)

    def _packet(self, data: bytes, fd: int | None) -> None:
        group = ""
        try:
            message = codec.decode(data)
            if message.operation == "submit":
                group = message.values.get("group", "")
                handed, fd = fd, None
                self._submit(message, handed)
            elif message.operation == "cancel":
                self._cancel(message)
            else:
                raise RequestRefused(f"{message.operation} is not for consumers", errno=errno.EOPNOTSUPP)
        except HsframeworkError as error:
            self._source.dispatcher.metrics.refusal(
                group if group in self._source.dispatcher.groups else "", error.errno
            )
            _log.info("a request is refused", uid=self.peer.uid, group=group[:64], error=str(error))
            self._channel.send(encode_error(error.errno, sequence_of(data), str(error)))
        except Exception as error:
            _log.error("a fault in the dispatcher", error=repr(error), during=f"a message of user {self.peer.uid}")
            self._channel.send(encode_error(errno.EIO, sequence_of(data), "a fault in the dispatcher; see its log"))
        else:
            if message.flags & NLM_F_ACK and message.operation == "cancel":
                self._channel.send(encode_error(0, message.sequence))
        finally:
            if fd is not None:
                self._close_fd(fd)

    def _submit(self, message: Message, fd: int | None) -> None:
        if fd is None:
            raise RequestRefused("a submit comes with the socket attached", errno=errno.EBADF)
        custody = self._source.dispatcher.take_socket(fd, trusted=self._source.policy.is_privileged(self.peer))
        try:
            request = self._request(message, custody)
            self._source.dispatcher.submit(request)
        except BaseException:
            custody.release()
            raise
        self._requests[message.sequence] = request

    def _request(self, message: Message, custody: Custody) -> LocalRequest:
        if message.sequence in self._requests:
            raise RequestRefused(f"sequence number {message.sequence} is under way; use another", errno=errno.EINVAL)
        source, values = self._source, message.values
        profile = source.vault.profile_name(values.get("profile"))
        source.policy.check_submit(self.peer, profile)
        role, auth_mode = role_of(values), auth_mode_of(values)
        given = source.vault.resolve(profile, values)
        if auth_mode is AuthMode.PSK and not given.psks:
            raise RequestRefused("a PSK handshake needs a psk in the request or in its profile", errno=errno.ENOKEY)
        priority = values.get("priority", 0)
        if priority > HIGHEST_PRIORITY:
            raise RequestRefused(f"a priority is from 0 to {HIGHEST_PRIORITY}", errno=errno.EINVAL)
        request = LocalRequest(
            source=source,
            consumer=self.peer.uid,
            group=values.get("group", ""),
            custody=custody,
            timeout=source.timeout(values, role),
            values={
                "profile": profile,
                "peername": values.get("peername"),
                "attributes": values.get("attributes"),
                "user": self.peer.uid,
            },
            encoded=given.encoded(role, auth_mode),
            trust=given.trust,
            psk_lookup=given.find_psk if auth_mode is AuthMode.PSK and role is Role.SERVER else no_key,
            priority=priority,
        )
        request.connection = self
        request.sequence = message.sequence
        return request

    def _cancel(self, message: Message) -> None:
        request = self._requests.get(message.values.get("request-id", 0))
        if request is not None:
            self._source.dispatcher.cancel(request)

    def _gone(self, error: Exception | None) -> None:
        self._source.listener.closed(self)
        requests, self._requests = self._requests, {}
        for request in requests.values():
            self._source.dispatcher.consumer_gone(request)
        if error is not None:
            _log.warning("a consumer's connection failed", uid=self.peer.uid, error=str(error))
