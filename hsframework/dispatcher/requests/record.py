"""Record of a handshake that is over: its one event, and its metrics.

* The event has everything that somebody needs to understand the outcome; what is not known is left out.
* A success is an ``info``, a failure a ``warning``.  A request that its consumer has withdrawn is no failure.
* What an agent says (tags, certificates) goes into the event alone; no decision is made by it here.
"""

from __future__ import annotations

import errno
import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hsframework.credentials.certificate import printable
from hsframework.credentials.labels import label_of
from hsframework.credentials.session_tags import tags_of
from hsframework.dispatcher.requests.request import Outcome, PendingRequest
from hsframework.errors import errno_name
from hsframework.failures import Failure
from hsframework.interface import Role
from hsframework.telemetry.metrics import MOST_LABEL, Kind, Metrics

_OF_TAGS = {"cipher": "cipher", "group": "key_exchange", "failure": "failure", "peer-alert": "peer_alert"}
"""Fields that come from the tags of an outcome."""
_LONGEST_TAG = 64
_ROLES = {role: role.name.lower() for role in Role}


Ended = Callable[[PendingRequest, Mapping[str, Any]], None]
"""Function that takes each request that is over, with the fields of its event."""


def record(
    log: Any, metrics: Metrics, request: PendingRequest, outcome: Outcome, now: float, ended: Ended | None = None
) -> None:
    """Log the event ``handshake`` and count it.  ``log``: a bound logger.  ``now``: on the loop's clock.

    ``ended``: called with it, whether or not its level is logged; None: nobody wants it.
    """
    group, offload, status = request.submission.group, request.offload, outcome.status
    seconds = now - request.taken_at
    metrics.handshake(group, status, seconds, _kind(request, outcome))
    metrics.recent.count(group, status, outcome.values.get("message"))
    if offload is not None:
        metrics.session(offload.transmit, offload.receive)
    level = logging.WARNING if status and status != errno.ECANCELED else logging.INFO
    if ended is None and not log.is_enabled_for(level):
        return
    fields = _fields(request, outcome, now)
    if ended is not None:
        ended(request, fields)
    tell = log.warning if level == logging.WARNING else log.info
    tell("handshake", **fields)


def _fields(request: PendingRequest, outcome: Outcome, now: float) -> dict[str, Any]:
    offload, status = request.offload, outcome.status
    return dict(
        request=request.id,
        source=request.submission.source.name,
        group=request.submission.group,
        agent=None if request.agent is None else request.agent.name,
        status=errno_name(status) if status else "OK",
        peer=request.custody.peer_address,
        milliseconds=round((now - request.taken_at) * 1000, 1),
        reason=outcome.values.get("message"),
        **_phases(request, now),
        **({"rule": request.submission.rule} if request.submission.rule else {}),
        **({} if request.submission.asked is None else request.submission.asked.fields),
        **_of_outcome(request, outcome.values),
        **({} if offload is None else offload.fields()),
    )


def _kind(request: PendingRequest, outcome: Outcome) -> Kind:
    asked, agent = request.submission.asked, request.agent
    return Kind(
        role="" if asked is None else _ROLES[asked.role],
        protocol="" if agent is None else agent.protocol[:MOST_LABEL],
        source=request.submission.source.name,
        reason=_failure(outcome.values.get("tag", ())) if outcome.status else "",
    )


def _failure(tags: Iterable[Mapping[str, Any]]) -> str:
    """Return the name of the failure that an agent has tagged; empty for what is none."""
    found = next((tag.get("value", "") for tag in tags if tag.get("name") == "failure"), "")
    return found if found in Failure.__members__ else ""


def _phases(request: PendingRequest, now: float) -> dict[str, float]:
    """Return the milliseconds that the request waited for an agent, and those that the agent had it."""
    begun = request.pulled_at
    if begun is None:
        return {"queued_ms": round((now - request.taken_at) * 1000, 1)}
    return {
        "queued_ms": round((begun - request.taken_at) * 1000, 1),
        "handshake_ms": round((now - begun) * 1000, 1),
    }


def _of_outcome(request: PendingRequest, values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    protocol = values.get("protocol") or (None if request.agent is None else request.agent.protocol)
    if protocol:
        found["protocol"] = protocol
    peer = identity_of(values)
    if peer:
        found["peer_identity"] = peer
    if values.get("alpn"):
        found["alpn"] = values["alpn"]
    asked = request.submission.asked
    if asked is not None and asked.session_tags is not None and values.get("remote-certificate"):
        found["tags"] = list(tags_of(asked.session_tags, values["remote-certificate"][0]))
    found.update(_of_tags(values.get("tag", ())))
    return found


def _of_tags(tags: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for tag in tags:
        name = _OF_TAGS.get(tag.get("name", ""))
        if name is not None and name not in found:
            found[name] = tag.get("value", "")[:_LONGEST_TAG]
    failure = Failure.__members__.get(found.get("failure", ""))
    if failure is not None:
        found["blame"] = failure.blame.value
    if found.get("peer_alert", "").isdecimal():
        found["peer_alert"] = int(found["peer_alert"])
    return found


def identity_of(values: Mapping[str, Any]) -> str:
    """Return the identity that a peer has proved, by the attribute set ``outcome``, as one line; empty: none."""
    if values.get("remote-certificate"):
        return label_of(values["remote-certificate"][0])
    if values.get("remote-psk-identity"):
        return f"psk:{printable(values['remote-psk-identity'].decode('utf-8', 'backslashreplace'))}"
    if values.get("remote-public-key"):
        return f"key-sha256:{hashlib.sha256(values['remote-public-key']).hexdigest()}"
    return ""
