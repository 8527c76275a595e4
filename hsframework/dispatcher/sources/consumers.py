"""Source of requests from user space: programs that hand over a socket and get its session back.

One link may have many requests under way; each is named by the sequence number of its submit.  A request that is
refused is answered with an error; one that was taken gets exactly one result.  A consumer that goes away takes its
requests with it.  The session's secrets go out once, over the link of the consumer that owns the socket.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import structlog

from hsframework.configuration.settings import Configuration
from hsframework.dispatcher.connections import Listener
from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.keys.given import GivenTrust, GivenTrusts
from hsframework.dispatcher.keys.modes import agreed_auth_mode, role_of
from hsframework.dispatcher.keys.vault import Vault, brings_nothing
from hsframework.dispatcher.messages import codec, parameters
from hsframework.dispatcher.overview import overview
from hsframework.dispatcher.policy import PeerCredentials, Policy
from hsframework.dispatcher.requests.asked import Consumer, asked_for
from hsframework.dispatcher.requests.core import Dispatcher
from hsframework.dispatcher.requests.request import HIGHEST_URGENCY, Outcome, PendingRequest, Submission, no_key
from hsframework.dispatcher.sources.answers import encoded_result, group_of, key_of, not_here
from hsframework.dispatcher.traces import Answer
from hsframework.errors import HsframeworkError, MessageError, RequestRefused
from hsframework.interface import AuthMode, Role
from hsframework.local.channel import AsyncChannel
from hsframework.netlink.messages import NLM_F_ACK, Message, encode_error, sequence_of, without_sequence
from hsframework.netlink.socket import NLM_F_DUMP

REMEMBERED = 16
"""Submits of a link that are remembered, since the next one often asks for the same."""

REMEMBERED_SIZE = 1024
"""Bytes of such a submit, at most."""

MOST_NONSENSE = 32
"""Messages of one link that make no sense, or may not be sent by this user; with the last the link is ended.  A request
that is taken begins the count anew."""

NONSENSE = frozenset({errno.EBADMSG, errno.EOPNOTSUPP, errno.EACCES})
"""Refusals that no program gets again and again unless it is wrong: they depend on the message and the user alone."""

_log = structlog.get_logger("hsframework.dispatcher")


class LocalSource:
    """Source to which consumers in user space connect; a :class:`~hsframework.dispatcher.requests.request.Source`."""

    name = "local"

    def __init__(
        self,
        dispatcher: Dispatcher,
        policy: Policy,
        vault: Vault,
        sock: socket.socket | None,
        configuration: Configuration,
        *,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.dispatcher = dispatcher
        self.policy = policy
        self.vault = vault
        self.timeouts = configuration.timeouts
        self.loop = loop
        self.trusts = GivenTrusts(dispatcher.close_fd)
        self.status: Callable[[], str] = lambda: "{}"
        """The state of the service, as a JSON object."""
        self.reload: Callable[[Callable[[str], None]], None] = not_here
        """Function that reads everything again and calls back with the end, in JSON.  Raises RequestRefused."""
        self.sessions: Callable[[Callable[[list[str]], None]], None] = not_here
        """Function that calls back with the open sessions, each a JSON object.  Raises RequestRefused."""
        self.trace: Callable[[Mapping[str, Any], Answer, Callable[[], bool]], None] = not_here
        """Function that begins a trace.  Raises RequestRefused."""
        self.wanted: Callable[[str], None] = lambda group: None
        """Called with the group of each submit for which there is no agent, before it is looked at."""
        self.listener = Listener(
            sock,
            lambda peer_socket, peer: ConsumerConnection(self, peer_socket, peer),
            configuration.limits,
            check=lambda peer: policy.check_submit(peer, None),
            privileged=policy.is_privileged,
            account=policy.account,
            close_fd=dispatcher.close_fd,
            loop=loop,
        )
        dispatcher.add_source(self)

    def group_opened(self, group: str) -> None:
        """Do nothing: each submit is checked when it comes."""

    def group_closed(self, group: str) -> None:
        """Do nothing, likewise."""

    def room_made(self, group: str) -> None:
        """Do nothing: a submit for which there was no room has been refused."""

    def group_number(self, group: str) -> int:
        """Return 0: submits name the group."""
        return 0

    def complete(self, request: PendingRequest, outcome: Outcome) -> None:
        """Give the socket back and send the consumer its result."""
        origin = request.origin
        assert isinstance(origin, _Origin)
        origin.connection.complete(origin.sequence, request, outcome)

    def restored(self, custody: Custody, values: Mapping[str, Any], outcome: Outcome | None) -> None:
        """End the connection: the consumer lost its link with the earlier dispatcher, so nobody waits."""
        custody.shut_down()
        custody.release()

    def timeout(self, values: Mapping[str, Any], role: Role) -> float:
        """Return the seconds that a submit asks for, or those of the role.  Raises RequestRefused."""
        asked = values.get("timeout")
        if asked is None:
            return self.timeouts.client if role is Role.CLIENT else self.timeouts.server
        if not 0 < asked <= self.timeouts.maximum * 1000:
            raise RequestRefused(
                f"a timeout is from 1 to {int(self.timeouts.maximum * 1000)} milliseconds", errno=errno.EINVAL
            )
        return float(asked) / 1000

    def renew(self, vault: Vault, configuration: Configuration) -> None:
        """Take submits by these from now on; those that were taken before keep their terms."""
        self.vault = vault
        self.timeouts = configuration.timeouts
        for connection in self.listener.connections:
            assert isinstance(connection, ConsumerConnection)
            connection.forget()

    def close(self) -> None:
        """Stop serving consumers."""
        self.listener.close()


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class _Terms:
    """A submission, and the words in which it was asked for."""

    asked: bytes = field(repr=False)
    submission: Submission


class _Origin(NamedTuple):
    """Link for the result, sequence number of the submit, and what a long one asked for."""

    connection: ConsumerConnection
    sequence: int
    terms: _Terms | None


class ConsumerConnection:
    """Link of a consumer."""

    def __init__(self, source: LocalSource, sock: socket.socket, peer: PeerCredentials) -> None:
        self.peer = peer
        self._consumer = Consumer(uid=peer.uid, process=peer.pid)
        self._source = source
        self._requests: dict[int, PendingRequest] = {}
        self._agreed: dict[bytes, Submission] = {}
        self._under_way: WeakValueDictionary[tuple[int, bytes], _Terms] = WeakValueDictionary()
        """Of long submits, by their length and end; each as long as a request has these words: a thousand keys are
        decoded once for all handshakes that are under way with them, and nothing that a consumer brings is kept."""
        self._trust: tuple[int, GivenTrust] | None = None
        """The trust that the consumer brought in a file, with its number."""
        self._nonsense = 0
        self._privileged = source.policy.is_privileged(peer)
        self._account = source.policy.account(peer)
        # What a user sends may be the last copy of a socket whose closing blocks.
        self._close_fd = os.close if self._privileged else source.dispatcher.close_fd
        self._channel = AsyncChannel(
            sock, self._packet, self._gone, loop=source.loop, close_fd=self._close_fd, holds_back=True
        )

    def complete(self, sequence: int, request: PendingRequest, outcome: Outcome) -> None:
        """Give the socket back, and send the result of the submit with this sequence number."""
        self._requests.pop(sequence, None)
        try:
            result = encoded_result(outcome, sequence)
        except MessageError as error:
            _log.error("a result cannot be sent", request=request.id, error=str(error))
            result = encoded_result(Outcome.failure(errno.EIO, f"the result cannot be sent: {error}"), sequence)
        request.custody.release()
        self._channel.send_soon(result)

    def forget(self) -> None:
        """Look at each submit anew: policy or configuration have changed."""
        self._agreed.clear()
        self._under_way.clear()

    def close(self) -> None:
        """End the link, as if the consumer had gone."""
        if not self._channel.closed:
            self._channel.close()
            self._gone(None)

    def _packet(self, data: bytes, fd: int | None) -> None:
        try:
            asked = without_sequence(data)
            submission = self._agreed.get(asked)
            values, terms = None, None
            if submission is None and len(asked) > REMEMBERED_SIZE:
                terms = self._under_way.get(key_of(asked))
                if terms is not None and terms.asked == asked:
                    submission = terms.submission
            if submission is None:
                message = codec.decode(data)
                if message.operation == "trust":
                    handed, fd = fd, None
                    self._take_trust(message.values, handed)
                    return
                if message.operation != "submit":
                    self._other(message)
                    return
                values = message.values
                submission = self._agree(values)
                # The same number may stand for another trust the next time.
                long = len(asked) > REMEMBERED_SIZE and "trust-id" not in values
                terms = _Terms(asked, submission) if long else None
            handed, fd = fd, None
            self._submit(submission, sequence_of(data), handed, terms)
            self._nonsense = 0
            if terms is not None:
                self._under_way[key_of(asked)] = terms
            if values is not None and brings_nothing(values):
                self._remember(asked, submission)
        except HsframeworkError as error:
            group = group_of(data)
            known = group if group in self._source.dispatcher.groups else ""
            self._source.dispatcher.metrics.refusal(known, error.errno)
            _log.info("a request is refused", uid=self.peer.uid, group=group[:64], error=str(error))
            self._channel.send(encode_error(error.errno, sequence_of(data), str(error)))
            self._nonsense += error.errno in NONSENSE
            if self._nonsense >= MOST_NONSENSE:
                _log.warning("a consumer's link is ended: it sends nonsense", uid=self.peer.uid, error=str(error))
                self.close()
        except Exception as error:
            _log.error("a fault in the dispatcher", error=repr(error), during=f"a message of user {self.peer.uid}")
            self._channel.send(encode_error(errno.EIO, sequence_of(data), "a fault in the dispatcher; see its log"))
        finally:
            if fd is not None:
                self._close_fd(fd)

    def _submit(self, submission: Submission, sequence: int, fd: int | None, terms: _Terms | None) -> None:
        if fd is None:
            raise RequestRefused("a submit comes with the socket attached", errno=errno.EBADF)
        dispatcher = self._source.dispatcher
        custody = Custody(fd, dispatcher.close_fd, trusted=self._privileged)
        try:
            group = dispatcher.groups.get(submission.group)
            if group is None or not group.members:
                self._source.wanted(submission.group)
            if sequence in self._requests:
                raise RequestRefused(f"sequence number {sequence} is under way; use another", errno=errno.EINVAL)
            self._requests[sequence] = dispatcher.submit(submission, custody, _Origin(self, sequence, terms))
        except BaseException:
            custody.release()
            raise

    def _take_trust(self, values: Mapping[str, Any], fd: int | None) -> None:
        if fd is None:
            raise RequestRefused("a trust comes in a file that is attached", errno=errno.EBADF)
        self._trust = None  # its number must not stand for what it was
        try:
            self._source.policy.check_submit(self.peer, None)
        except RequestRefused:
            self._close_fd(fd)
            raise
        self._trust = values.get("trust-id", 0), self._source.trusts.take(fd, values.get("size", 0), self._account)

    def _named_trust(self, values: Mapping[str, Any]) -> GivenTrust | None:
        """Return the trust that a submit names by its number, None if it names none.  Raises RequestRefused."""
        number = values.get("trust-id")
        if number is None:
            return None
        if self._trust is None or self._trust[0] != number:
            raise RequestRefused(f"trust {number} did not come over this link", errno=errno.ENOENT)
        if not {"trust-anchor", "crl", "crl-check"}.isdisjoint(values):
            raise RequestRefused("a submit brings a trust or names one, not both", errno=errno.EINVAL)
        return self._trust[1]

    def _remember(self, asked: bytes, submission: Submission) -> None:
        """Keep a submission for the next submit in the same words; its credentials are its profile's, in one copy."""
        if len(asked) <= REMEMBERED_SIZE:
            if len(self._agreed) >= REMEMBERED:
                del self._agreed[next(iter(self._agreed))]
            self._agreed[asked] = submission

    def _agree(self, values: Mapping[str, Any]) -> Submission:
        """Return the submission for a submit, by policy and configuration.  Raises RequestRefused.

        Both stay as they are until :meth:`forget`, so the same user gets the same for the same words.
        """
        source = self._source
        group = values.get("group", "")
        profile = source.vault.profile_name(values.get("profile"), group)
        source.policy.check_submit(self.peer, profile)
        if not source.dispatcher.is_open(group):
            source.wanted(group)  # that may open the group
        if source.dispatcher.is_open(group):  # else it is refused for want of an agent
            source.vault.check_group(profile, group)
        role = role_of(values)
        given = source.vault.resolve(profile, values)
        auth_mode = agreed_auth_mode(values, given, role)
        if auth_mode is AuthMode.PSK and not given.psks:
            raise RequestRefused("a PSK handshake needs a psk in the request or in its profile", errno=errno.ENOKEY)
        urgency = values.get("urgency", 0)
        if urgency > HIGHEST_URGENCY:
            raise RequestRefused(f"an urgency is from 0 to {HIGHEST_URGENCY}", errno=errno.EINVAL)
        asked = {**values, "profile": profile}
        return Submission(
            source=source,
            consumer=self._account,
            group=group,
            timeout=source.timeout(values, role),
            parameters=parameters(asked, given, role, auth_mode, source=source.name, user=self.peer.uid),
            trust=self._named_trust(values) or given.trust,
            psk_lookup=given.find_psk if auth_mode is AuthMode.PSK and role is Role.SERVER else no_key,
            urgency=urgency,
            asked=asked_for(values, profile, role, auth_mode, given, self._consumer),
        )

    def _other(self, message: Message) -> None:
        """Handle what is no submit."""
        source, operation = self._source, message.operation
        if operation == "cancel":
            self._cancel(message)
        elif operation not in ("groups", "reload", "status", "trace"):
            raise RequestRefused(f"{operation} is not for consumers", errno=errno.EOPNOTSUPP)
        else:
            source.policy.check_overview(self.peer)
            if operation == "reload":
                source.reload(lambda report: self._reported(message, [report]))
                return
            if operation == "trace":
                source.trace(message.values, partial(self._reported, message), lambda: self._channel.closed)
                return
            if operation == "status" and message.flags & NLM_F_DUMP == NLM_F_DUMP:
                source.sessions(partial(self._reported, message))
                return
            values = overview(source.dispatcher) if operation == "groups" else ({"report": source.status()},)
            for each in values:
                self._channel.send(codec.encode(operation, each, sequence=message.sequence))
        if message.flags & NLM_F_ACK:
            self._channel.send(encode_error(0, message.sequence))

    def _reported(self, asked: Message, reports: Sequence[str], more: bool = False) -> None:
        for report in reports:
            self._channel.send(codec.encode(asked.operation, {"report": report}, sequence=asked.sequence))
        if not more:
            self._channel.send(encode_error(0, asked.sequence))

    def _cancel(self, message: Message) -> None:
        sequence = message.values.get("request-id", 0)
        request = self._requests.get(sequence)
        if request is not None and (outcome := self._source.dispatcher.cancel(request)) is not None:
            self.complete(sequence, request, outcome)

    def _gone(self, error: Exception | None) -> None:
        self._source.listener.closed(self)
        self._trust = None
        requests, self._requests = self._requests, {}
        for request in requests.values():
            self._source.dispatcher.consumer_gone(request)
        if error is not None:
            _log.warning("a consumer's connection failed", uid=self.peer.uid, error=str(error))
