"""Operations of agents, as a table.  An operation that is not listed for the phase of a link is refused.

Each is a function of the link, the message and a file descriptor, which it owns; that is None unless the
operation takes a socket.  It sends the answer itself, or raises HsframeworkError, which is sent as an error.  Those on
groups are here, and those on the requests that an agent has in hand in ``in_hand``.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Mapping

import structlog

from hsframework.dispatcher.agents.connection import AgentConnection, Operation, Phase
from hsframework.dispatcher.agents.demands import UNSUPPLIED, refusal, strange_words
from hsframework.dispatcher.agents.in_hand import done, netlink, psk_lookup, restore
from hsframework.dispatcher.messages import accept_reply
from hsframework.errors import RequestRefused
from hsframework.interface import Demand
from hsframework.netlink.messages import Message, encode_error

MOST_TEXT = 200
"""Characters that are kept of what an agent says for people."""

SOCKET_PROTOCOLS = range(1024)
"""Values of SO_PROTOCOL that an agent may name; the kernel's end at 262 (IPPROTO_MPTCP)."""

MAX_COUNT = 1024
"""Requests that one ACCEPT may ask for."""

MOST_MISSED = 1 << 20
"""Misses of a cache that one message counts at most."""

_log = structlog.get_logger("hsframework.dispatcher")


def join(agent: AgentConnection, message: Message, fd: int | None) -> None:
    """Add the agent to groups, unless it has given up since: it may have waited for a dispatcher for long."""
    if agent.channel.peer_has_closed:
        _log.info("an agent has given up while it waited for a dispatcher", process=agent.peer.pid, uid=agent.peer.uid)
        return
    groups = message.wanted("group")
    try:
        for group in groups:
            agent.service.policy.check_join(agent.peer, group)
    except RequestRefused as error:
        peer = agent.peer
        agent.service.refused.append(
            {"time": time.time(), "process": peer.pid, "user": peer.uid, "reason": str(error)[:MOST_TEXT]}
        )
        raise
    agent.service.dispatcher.check_groups(groups)
    declared = {name: value for name, value in message.values.items() if name != "group"}
    if agent.groups and declared != agent.declared:
        raise RequestRefused("a further JOIN of a link repeats the first, with other groups", errno=errno.EINVAL)
    protocols = frozenset(message.values.get("socket-protocol", ()))
    if unknown := [number for number in protocols if number not in SOCKET_PROTOCOLS]:
        raise RequestRefused(f"{min(unknown)} is no SO_PROTOCOL", errno=errno.EINVAL)
    agent.phase, agent.declared = Phase.JOINED, declared
    agent.protocol = message.values.get("protocol", "")[:64]
    agent.kernel_tls = message.values.get("kernel-tls", "")[:MOST_TEXT]
    agent.joined_at = agent.service.loop.time()
    agent.auth_modes = frozenset(message.values.get("auth-mode", UNSUPPLIED))
    agent.understands = frozenset(message.values.get("understands", ()))
    if message.values.get("tls-policies", False):
        agent.understands |= {Demand.TLS_POLICIES}
    agent.renews = message.values.get("renews", False)
    agent.socket_protocols = protocols
    agent.name = f"{message.values.get('agent', 'agent')[:64]} (pid {agent.peer.pid})"
    agent.groups.update(groups)
    _log.info("an agent joins", agent=agent.name, groups=groups, uid=agent.peer.uid)
    if unknown_words := strange_words(agent.auth_modes, agent.understands):
        _log.warning("an agent declares what is not known here", agent=agent.name, words=unknown_words)
    for group in groups:
        _compare(agent, group)
    agent.service.dispatcher.joined(agent, groups)


def _compare(agent: AgentConnection, name: str) -> None:
    """Warn if an agent of the group has declared other words: the outcome of a request depends on its agent then.

    Agents that serve different sockets get different requests.
    """
    group = agent.service.dispatcher.groups.get(name)
    for other in () if group is None else group.members:
        assert isinstance(other, AgentConnection)
        both = agent.socket_protocols & other.socket_protocols
        if agent.socket_protocols and other.socket_protocols and not both:
            continue
        if (other.auth_modes, other.understands) != (agent.auth_modes, agent.understands):
            text = "agents of one group declare different auth modes or demands: some requests depend on their agent"
            _log.warning(text, group=name, agent=agent.name, other=other.name)
            return


def leave(agent: AgentConnection, message: Message, fd: int | None) -> None:
    """Remove the agent from groups.  It keeps the requests that it has in hand.

    Another one is expected, as after a death: who restarts an agent has it leave first.
    """
    groups = [group for group in message.wanted("group") if group in agent.groups]
    agent.groups.difference_update(groups)
    agent.announced.difference_update(groups)
    _log.info("an agent leaves", agent=agent.name, groups=groups, uid=agent.peer.uid)
    agent.service.dispatcher.left(agent, groups, expected_back=message.values.get("expected-back", False))


def accept(agent: AgentConnection, message: Message, fd: int | None) -> None:
    """Send requests of a group: as many as the agent asks for, or all that wait, and then EAGAIN.

    One that cannot be sent is completed, and another one pulled in its place.
    """
    group = message.wanted("group")
    if group not in agent.groups:
        raise RequestRefused(f"join the group {group!r} before accepting from it", errno=errno.EPERM)
    number = message.values.get("count", 1)
    if not 1 <= number <= MAX_COUNT:
        raise RequestRefused(f"a count is from 1 to {MAX_COUNT}", errno=errno.EINVAL)
    dispatcher, channel, traces = agent.service.dispatcher, agent.channel, agent.service.traces
    # An agent that asks for one at a time need not know that packets can bring several sockets.
    send = channel.send if number == 1 else channel.send_soon
    while number:
        requests = dispatcher.pull(agent, group, number)
        empty = len(requests) < number
        for request in requests:
            submission, custody = request.submission, request.custody
            asked = submission.parameters
            if asked.auth_mode not in agent.auth_modes or not asked.demands <= agent.understands:
                dispatcher.done(agent, request.id, refusal(asked, agent.auth_modes, agent.understands))
                continue
            trust = submission.trust if Demand.TRUST in agent.understands else None
            try:
                reply = accept_reply(
                    asked,
                    sequence=message.sequence,
                    request_id=request.id,
                    milliseconds=max(1, int((request.deadline - agent.service.loop.time()) * 1000)),
                    local_address=custody.local_address,
                    peer_address=custody.peer_address,
                    trust_id=None if trust is None else agent.send_trust(trust),
                    trace=bool(traces.open) and traces.wants(custody.peer_address),
                )
                send(reply, custody.fileno())
            except Exception as error:
                dispatcher.not_handed_over(request, error)
            else:
                number -= 1
        if empty:
            # The ordinary end of a round, and no fault of the agent's.
            agent.announced.discard(group)
            send(encode_error(errno.EAGAIN, message.sequence))
            break
    channel.send_gathered()


def crowded(agent: AgentConnection, message: Message, fd: int | None) -> None:
    """Count the misses of an agent's cache that is too small."""
    missed = min(message.values.get("missed", 0), MOST_MISSED)
    agent.service.dispatcher.metrics.crowded(agent.protocol, message.wanted("name"), missed)


def traced(agent: AgentConnection, message: Message, fd: int | None) -> None:
    """Keep the messages of a handshake that is traced."""
    number = message.wanted("request-id")
    agent.service.dispatcher.in_hand(agent, number)
    agent.service.traces.traced(number, message.wanted("report"))


TABLE: Mapping[tuple[Phase, str], Operation] = {
    (Phase.CONNECTED, "join"): Operation(join),
    (Phase.CONNECTED, "restore"): Operation(restore, takes_socket=True),
    (Phase.JOINED, "join"): Operation(join),
    (Phase.JOINED, "leave"): Operation(leave),
    (Phase.JOINED, "accept"): Operation(accept),
    (Phase.JOINED, "done"): Operation(done),
    (Phase.JOINED, "psk-lookup"): Operation(psk_lookup),
    (Phase.JOINED, "netlink"): Operation(netlink),
    (Phase.JOINED, "crowded"): Operation(crowded),
    (Phase.JOINED, "traced"): Operation(traced),
    (Phase.JOINED, "restore"): Operation(restore, takes_socket=True),
}
