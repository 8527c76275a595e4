"""Groups that a dispatcher serves, asked over the consumers' socket; for root and the dispatcher's own user."""

from __future__ import annotations

import errno
import json
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hsframework.client.wire import codec, connect, dispatcher_path, open_socket
from hsframework.errors import ClientError, ClientRequestRefused, MessageError
from hsframework.local.packets import MAX_PACKET, messages_of, send_packet
from hsframework.netlink.messages import NLM_F_ACK, Message
from hsframework.netlink.socket import NLM_F_DUMP

TIMEOUT = 5.0
"""Seconds that the dispatcher has for the whole answer."""

RELOAD_TIMEOUT = 60.0
"""The same where files are read before: they may be many, and on a slow disk."""

_SEQUENCE = 1


@dataclass(frozen=True, slots=True)
class GroupAgent:
    """Worker that has joined the group.  ``in_flight``: the group's requests that it has in hand."""

    name: str
    protocol: str
    process: int
    user: int
    in_flight: int
    kernel_tls: str = ""
    """Its use of the kernel's TLS, by its own word: ``yes``, or a reason why not."""
    age: int = 0
    """Seconds since it joined."""


@dataclass(frozen=True, slots=True)
class GroupSource:
    """Source that takes requests of the group.  ``number``: of the kernel's multicast group; None: it has none."""

    name: str
    number: int | None
    waiting: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class ServedGroup:
    """Group that is open, or has requests.  ``waiting``: requests that no agent has pulled yet."""

    group: str
    waiting: int
    in_flight: int
    agents: tuple[GroupAgent, ...]
    sources: tuple[GroupSource, ...]


def served_groups(runtime_dir: Path | str | None = None) -> list[ServedGroup]:
    """Return the groups that a dispatcher serves, by name.

    ``runtime_dir``: as for :class:`~hsframework.client.Client`.  Raises RequestRefused (EACCES: not for this user), and
    ClientError when the dispatcher cannot be reached.
    """
    return [_group(message) for message in _ask("groups", runtime_dir)]


def service_status(runtime_dir: Path | str | None = None) -> dict[str, Any]:
    """Return the state of the service, for doctor and for people: the members may change.  Raises as above."""
    (message,) = _ask("status", runtime_dir)
    try:
        report = json.loads(message.values.get("report", ""))
    except ValueError as error:
        raise _unanswered(error) from None
    return dict(report)


def reload_service(runtime_dir: Path | str | None = None) -> dict[str, Any]:
    """Have the service read its files again, and return the end of that.  Raises as above.

    ``problem``: reason why nothing was taken; empty: what was read is in force.  ``waiting``: keys whose new values
    wait for a restart.
    """
    (message,) = _ask("reload", runtime_dir, RELOAD_TIMEOUT)
    try:
        return dict(json.loads(message.values.get("report", "")))
    except ValueError as error:
        raise _unanswered(error) from None


def open_sessions(runtime_dir: Path | str | None = None) -> list[dict[str, Any]]:
    """Return the sessions that are open in the kernel, for people: the members may change.  Raises as above.

    ``known``: True if the service knows the peer.  One with ``problem`` is a network namespace that could not be asked.
    """
    found = _ask("status", runtime_dir, RELOAD_TIMEOUT, NLM_F_ACK | NLM_F_DUMP)
    try:
        return [dict(json.loads(message.values.get("report", ""))) for message in found]
    except ValueError as error:
        raise _unanswered(error) from None


def traced_handshakes(
    peer: str, count: int, seconds: int, runtime_dir: Path | str | None = None
) -> Iterator[dict[str, Any]]:
    """Yield each of the next handshakes with a peer as it ends: the members of its event, and ``steps``.

    ``peer``: its address, or a network.  ``count``: handshakes.  ``seconds``: time for all of them.  Raises as above.
    """
    values = {"peer": peer, "count": count, "seconds": seconds}
    for message in _asked("trace", runtime_dir, TIMEOUT + seconds, values=values):
        try:
            report = dict(json.loads(message.values.get("report", "")))
        except ValueError as error:
            raise _unanswered(error) from None
        yield report | {"steps": _steps(report.get("steps"))}


def _steps(text: object) -> list[Any]:
    """Return the steps that an agent has told; none for what is no JSON array: agents are not to be trusted."""
    try:
        found = json.loads(str(text))
    except (ValueError, RecursionError):
        return []
    return found if isinstance(found, list) else []


def _ask(
    operation: str, runtime_dir: Path | str | None, timeout: float | None = None, flags: int = NLM_F_ACK
) -> list[Message]:
    return list(_asked(operation, runtime_dir, timeout, flags))


def _asked(
    operation: str,
    runtime_dir: Path | str | None,
    timeout: float | None = None,
    flags: int = NLM_F_ACK,
    values: Mapping[str, Any] | None = None,
) -> Iterator[Message]:
    path = dispatcher_path(runtime_dir)
    with open_socket(path) as sock:
        connect(sock, path, TIMEOUT)
        try:
            send_packet(sock, codec().encode(operation, values or {}, sequence=_SEQUENCE, flags=flags))
        except OSError as error:
            raise _unanswered(error) from None
        for message in _answers(sock, TIMEOUT if timeout is None else timeout):
            if message.error:
                raise ClientRequestRefused(message.values.get("message", "it is not told"), errno=message.error)
            if message.error == 0:
                return
            yield message


def _unanswered(error: Exception | None) -> ClientError:
    """Return the error for a question that the dispatcher has not answered, or not as the protocol has it."""
    if isinstance(error, MessageError | ValueError):
        return ClientError(f"the dispatcher broke the protocol: {error}", errno=errno.EPROTO)
    return ClientError(
        "the dispatcher ended the connection before it had answered: ask again, or see its log", errno=errno.ECONNRESET
    )


def _answers(sock: socket.socket, timeout: float) -> Iterator[Message]:
    end = time.monotonic() + timeout
    while True:
        sock.settimeout(max(0.001, end - time.monotonic()))
        try:
            data = sock.recv(MAX_PACKET + 1)
        except TimeoutError:
            raise ClientError("the dispatcher does not answer; is it hung?", errno=errno.ETIMEDOUT) from None
        except OSError as error:
            raise _unanswered(error) from None
        if not data:
            raise _unanswered(None)
        try:
            messages = [codec().decode(message) for message in messages_of(data)]
        except MessageError as error:
            raise _unanswered(error) from None
        yield from messages


def _group(message: Message) -> ServedGroup:
    values = message.values
    return ServedGroup(
        values.get("group", ""),
        values.get("waiting", 0),
        values.get("in-flight", 0),
        tuple(
            GroupAgent(
                each.get("name", ""),
                each.get("protocol", ""),
                each.get("process", 0),
                each.get("user", 0),
                each.get("in-flight", 0),
                each.get("kernel-tls", ""),
                each.get("age", 0),
            )
            for each in values.get("agent", ())
        ),
        tuple(
            GroupSource(each.get("name", ""), each.get("number"), each.get("waiting", 0), each.get("in-flight", 0))
            for each in values.get("source", ())
        ),
    )
