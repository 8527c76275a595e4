"""Record of a handshake that is over: its event, and its metrics."""

from __future__ import annotations

import logging
from typing import Any

from hsframework.dispatcher.requests.request import Outcome, PendingRequest
from hsframework.errors import errno_name
from hsframework.telemetry.metrics import Metrics


def record(log: Any, metrics: Metrics, request: PendingRequest, outcome: Outcome, seconds: float) -> None:
    """Log the event ``handshake`` and count it.  ``log``: a bound logger.  ``seconds``: since the request was taken."""
    group, offload = request.submission.group, request.offload
    metrics.handshake(group, outcome.status, seconds)
    metrics.recent.count(group, outcome.status, outcome.values.get("message"))
    if offload is not None:
        metrics.session(offload.transmit, offload.receive)
    if not log.is_enabled_for(logging.INFO):
        return
    log.info(
        "handshake",
        request=request.id,
        source=request.submission.source.name,
        group=group,
        agent=None if request.agent is None else request.agent.name,
        status=errno_name(outcome.status) if outcome.status else "OK",
        peer=request.custody.peer_address,
        milliseconds=round(seconds * 1000, 1),
        reason=outcome.values.get("message"),
        **({"rule": request.submission.rule} if request.submission.rule else {}),
        **({} if offload is None else offload.fields()),
    )
