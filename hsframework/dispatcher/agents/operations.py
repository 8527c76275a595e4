"""Operations of agents, as a table.  An operation that is not listed for the phase of a connection is refused.

Each is a function of the connection, the message and a file descriptor, which it owns; that is None unless the
operation takes a socket.  It sends the answer itself, or raises HsframeworkError, which is sent as an error.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

import structlog

from hsframework.dispatcher.agents.connection import AgentConnection, Operation, Phase
from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.messages import accept_reply, codec, psk_values
from hsframework.dispatcher.namespaces import netlink_beside
from hsframework.dispatcher.requests.request import Outcome
from hsframework.errors import MessageError, RequestRefused
from hsframework.netlink.messages import Message, encode_error

MAX_COUNT = 1024
"""Requests that one ACCEPT may ask for."""

NETLINK_FAMILIES = (0, 16)
"""rtnetlink and generic netlink."""

_log = structlog.get_logger("hsframework.dispatcher")


def join(agent: AgentConnection, message: Message, fd: int | None) -> None:
    """Add the agent to groups."""
    groups = _wanted(message, "group")
    for group in groups:
        agent.service.policy.check_join(agent.peer, group)
    agent.phase = Phase.JOINED
    agent.socket_protocols = frozenset(message.values.get("socket-protocol", ()))
    agent.name = f"{message.values.get('agent', 'agent')[:64]} (pid {agent.peer.pid})"
    agent.groups.update(groups)
    _log.info("an agent joins", agent=agent.name, groups=groups, uid=agent.peer.uid)
    agent.service.dispatcher.joined(agent, groups)


def leave(agent: AgentConnection, message: Message, fd: int | None) -> None:
    """Remove the agent from groups.  It keeps the requests that it has in hand."""
    groups = [group for group in _wanted(message, "group") if group in agent.groups]
    agent.groups.difference_update(groups)
    agent.announced.difference_update(groups)
    _log.info("an agent leaves", agent=agent.name, groups=groups)
    agent.service.dispatcher.left(agent, groups, expected_back=False)


def accept(agent: AgentConnection, message: Message, fd: int | None) -> None:
    """Send requests of a group: as many as the agent asks for, or all that wait, and then EAGAIN.

    One that cannot be sent is completed, and another one pulled in its place.
    """
    group = _wanted(message, "group")
    if group not in agent.groups:
        raise RequestRefused(f"join the group {group!r} before accepting from it", errno=errno.EPERM)
    number = message.values.get("count", 1)
    if not 1 <= number <= MAX_COUNT:
        raise RequestRefused(f"a count is from 1 to {MAX_COUNT}", errno=errno.EINVAL)
    dispatcher, channel = agent.service.dispatcher, agent.channel
    # An agent that asks for one at a time need not know that packets can bring several sockets.
    send = channel.send if number == 1 else channel.send_soon
    while number:
        requests = dispatcher.pull(agent, group, number)
        empty = len(requests) < number
        for request in requests:
            submission, custody = request.submission, request.custody
            try:
                reply = accept_reply(
                    submission.parameters,
                    sequence=message.sequence,
                    request_id=request.id,
                    milliseconds=max(1, int((request.deadline - agent.service.loop.time()) * 1000)),
                    local_address=custody.local_address,
                    peer_address=custody.peer_address,
                    trust_id=None if submission.trust is None else agent.send_trust(submission.trust),
                )
                send(reply, custody.fileno())
            except Exception as error:
                dispatcher.not_handed_over(request, str(error) or repr(error))
            else:
                number -= 1
        if empty:
            # The ordinary end of a round, and no fault of the agent's.
            agent.announced.discard(group)
            send(encode_error(errno.EAGAIN, message.sequence))
            break
    channel.send_gathered()


def done(agent: AgentConnection, message: Message, fd: int | None) -> None:
    """End a request with the outcome that the agent reports."""
    number = _wanted(message, "request-id")
    values = message.values
    del values["request-id"]
    status = _status(values.pop("status", None))
    encoded = b"" if status else codec.without_first(message, "request-id")
    agent.service.dispatcher.done(agent, number, Outcome(status, values, encoded))


def psk_lookup(agent: AgentConnection, message: Message, fd: int | None) -> None:
    """Send the pre-shared key of an identity that a request's peer has named, or an answer without a key."""
    number = _wanted(message, "request-id")
    request = agent.service.dispatcher.in_hand(agent, number)
    found = request.submission.psk_lookup(_wanted(message, "identity"))
    values = {"request-id": number, "psk": None if found is None else psk_values(found)}
    agent.channel.send(codec.encode("psk-lookup", values, sequence=message.sequence))


def netlink(agent: AgentConnection, message: Message, fd: int | None) -> None:
    """Send a netlink socket in the network namespace of a request's socket."""
    number, family = _wanted(message, "request-id"), _wanted(message, "family")
    dispatcher = agent.service.dispatcher
    request = dispatcher.in_hand(agent, number)
    if family not in NETLINK_FAMILIES:
        raise RequestRefused(f"sockets of netlink family {family} are not handed out", errno=errno.EINVAL)
    served = dispatcher.configuration.kernel.namespaces
    with netlink_beside(request.custody.fileno(), family, served) as sock:
        reply = codec.encode("netlink", {"request-id": number}, sequence=message.sequence)
        agent.channel.send(reply, sock.fileno())


def restore(agent: AgentConnection, message: Message, fd: int | None) -> None:
    """Take a request of an earlier dispatcher back, and let its source complete it."""
    if fd is None:
        raise MessageError("restore comes with the socket attached")
    dispatcher = agent.service.dispatcher
    try:
        agent.service.policy.check_restore(agent.peer)
    except RequestRefused:
        dispatcher.close_fd(fd)
        raise
    # Its connection may have ended in the meantime; the source completes it all the same.
    custody = Custody(fd, dispatcher.close_fd, connected=False)
    name = message.values.get("source", "")
    source = dispatcher.sources.get(name)
    if source is None and message.values.get("kernel-consumer"):
        # Its namespace is gone.  The kernel takes DONE from any, in the form in which it was asked.
        source = dispatcher.sources.get(name.partition(":")[0])
    _log.warning("a request of an earlier dispatcher is given back", agent=agent.name, peer=custody.peer_address)
    if source is None:
        custody.shut_down()
        custody.release()
    else:
        source.restored(custody, message.values)


TABLE: Mapping[tuple[Phase, str], Operation] = {
    (Phase.CONNECTED, "join"): Operation(join),
    (Phase.CONNECTED, "restore"): Operation(restore, takes_socket=True),
    (Phase.JOINED, "join"): Operation(join),
    (Phase.JOINED, "leave"): Operation(leave),
    (Phase.JOINED, "accept"): Operation(accept),
    (Phase.JOINED, "done"): Operation(done),
    (Phase.JOINED, "psk-lookup"): Operation(psk_lookup),
    (Phase.JOINED, "netlink"): Operation(netlink),
    (Phase.JOINED, "restore"): Operation(restore, takes_socket=True),
}


def _wanted(message: Message, name: str) -> Any:
    value = message.values.get(name)
    if value is None:
        raise MessageError(f"{message.operation}: {name} is missing")
    return value


def _status(value: int | None) -> int:
    """Return the status of a DONE; as in the kernel, EIO if there is none.  Raises MessageError if it is no errno."""
    if value is None:
        return errno.EIO
    if value > 4095:
        raise MessageError(f"status {value} is not a positive errno up to 4095")
    return value
