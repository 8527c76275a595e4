"""Operations of agents on the requests that they have in hand: done, PSK-LOOKUP, netlink and restore."""

from __future__ import annotations

import errno

import structlog

from hsframework.dispatcher.agents.connection import AgentConnection
from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.messages import codec, psk_values
from hsframework.dispatcher.namespaces import netlink_beside
from hsframework.dispatcher.requests.request import Outcome
from hsframework.errors import MessageError, RequestRefused, errno_name
from hsframework.netlink.attributes import attribute_codec
from hsframework.netlink.messages import Message
from hsframework.netlink.spec import builtin_specification

NETLINK_FAMILIES = (0, 16)
"""rtnetlink and generic netlink."""

_outcomes = attribute_codec(builtin_specification("local"), "outcome")
_log = structlog.get_logger("hsframework.dispatcher")


def done(agent: AgentConnection, message: Message, fd: int | None) -> Custody | None:
    """End a request with the outcome that the agent reports.  Return its custody if its source still holds it."""
    number = message.wanted("request-id")
    values = message.values
    del values["request-id"]
    status = _status(values.pop("status", None))
    encoded = b"" if status else codec.without_first(message, "request-id")
    request = agent.service.dispatcher.requests.get(number)
    agent.service.dispatcher.done(agent, number, Outcome(status, values, encoded))
    # One whose socket is still open is not completed yet, should this dispatcher die now.
    return request.custody if request is not None and request.custody.fileno() >= 0 else None


def psk_lookup(agent: AgentConnection, message: Message, fd: int | None) -> None:
    """Send the pre-shared key of an identity that a request's peer has named, or an answer without a key."""
    number = message.wanted("request-id")
    request = agent.service.dispatcher.in_hand(agent, number)
    found = request.submission.psk_lookup(message.wanted("identity"))
    values = {"request-id": number, "psk": None if found is None else psk_values(found)}
    agent.channel.send(codec.encode("psk-lookup", values, sequence=message.sequence))


def netlink(agent: AgentConnection, message: Message, fd: int | None) -> None:
    """Send a netlink socket in the network namespace of a request's socket."""
    number, family = message.wanted("request-id"), message.wanted("family")
    dispatcher = agent.service.dispatcher
    request = dispatcher.in_hand(agent, number)
    if family not in NETLINK_FAMILIES:
        raise RequestRefused(f"sockets of netlink family {family} are not handed out", errno=errno.EINVAL)
    served = dispatcher.configuration.kernel.namespaces
    with netlink_beside(request.custody.fileno(), family, served) as sock:
        reply = codec.encode("netlink", {"request-id": number}, sequence=message.sequence)
        agent.channel.send(reply, sock.fileno())


def restore(agent: AgentConnection, message: Message, fd: int | None) -> Custody | None:
    """Take a request of an earlier dispatcher back, and let its source complete it.  Return its custody as above."""
    if fd is None:
        raise MessageError("restore comes with the socket attached")
    dispatcher = agent.service.dispatcher
    try:
        agent.service.policy.check_restore(agent.peer)
        name, _ = message.wanted("source"), message.wanted("group")
        outcome = _own_outcome(agent, message)
    except (RequestRefused, MessageError):
        dispatcher.close_fd(fd)
        raise
    # Its connection may have ended in the meantime; the source completes it all the same.
    custody = Custody(fd, dispatcher.close_fd, connected=False)
    source = dispatcher.sources.get(name)
    if source is None and message.values.get("kernel-consumer"):
        # Its namespace is gone.  The kernel takes DONE from any, in the form in which it was asked.
        source = dispatcher.sources.get(name.partition(":")[0])
    _log.warning(
        "a request of an earlier dispatcher is given back",
        agent=agent.name,
        uid=agent.peer.uid,
        peer=custody.peer_address,
        source=name,
        outcome=None if outcome is None else errno_name(outcome.status) if outcome.status else "OK",
    )
    if source is None:
        custody.shut_down()
        custody.release()
    else:
        source.restored(custody, message.values, outcome)
    return custody if custody.fileno() >= 0 else None


def _own_outcome(agent: AgentConnection, message: Message) -> Outcome | None:
    """Return the outcome that the agent tells; None: there is none that counts.

    The group decides how a success is checked, so a success in a group that the agent may not join is none.  Raises
    MessageError.
    """
    outcome = _outcome(message.values.get("outcome"))
    if outcome is None or outcome.status:
        return outcome
    try:
        agent.service.policy.check_join(agent.peer, message.values.get("group", ""))
    except RequestRefused as error:
        whose = {"agent": agent.name, "uid": agent.peer.uid}
        _log.error("a success that is given back does not count", **whose, reason=str(error))
        return None
    return outcome


def _outcome(encoded: bytes | None) -> Outcome | None:
    """Return the outcome of a restored request; None: it was interrupted.  Raises MessageError."""
    if encoded is None:
        return None
    values = dict(_outcomes.decode(encoded))
    values.pop("request-id", None)
    return Outcome(_status(values.pop("status", None)), values)


def _status(value: int | None) -> int:
    """Return the status of a DONE; as in the kernel, EIO if there is none.  Raises MessageError if it is no errno."""
    if value is None:
        return errno.EIO
    if value > 4095:
        raise MessageError(f"status {value} is not a positive errno up to 4095")
    return value
