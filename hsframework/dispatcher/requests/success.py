"""Check of a success that an agent has reported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hsframework.dispatcher.planted import session_planted
from hsframework.dispatcher.requests.request import PendingRequest


def missing_session(request: PendingRequest, values: Mapping[str, Any]) -> str | None:
    """Return the reason to reject a reported success, or None.

    An agent's report is no proof: the socket is asked, or the exported session is there.  Only where a socket cannot be
    asked for the sessions of its group is the report enough for a kernel consumer.
    """
    kernel_consumer = request.submission.kernel_consumer
    if values.get("in-kernel"):
        planted = session_planted(request.submission.group, request.custody)
        has_one = kernel_consumer or values.get("session") if planted is None else planted
        return None if has_one else "the agent reported a session in the kernel, and the socket has none"
    if kernel_consumer:
        return "the agent reported success without a session in the kernel"
    if not values.get("session"):
        return "the agent reported success without a session"
    return None
