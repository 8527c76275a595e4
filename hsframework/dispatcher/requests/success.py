"""Check of a success that an agent has reported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.planted import session_planted
from hsframework.dispatcher.requests.request import PendingRequest

_NONE_PLANTED = "the agent reported a session in the kernel, and the socket has none"


def missing_session(request: PendingRequest, values: Mapping[str, Any]) -> str | None:
    """Return the reason to reject a reported success, or None.

    An agent's report is no proof: the socket is asked, or the exported session is there.
    """
    submission = request.submission
    if submission.kernel_consumer:
        return missing_in_kernel(submission.group, request.custody, values)
    if not values.get("in-kernel"):
        return None if values.get("session") else "the agent reported success without a session"
    planted = session_planted(submission.group, request.custody)
    has_one = values.get("session") if planted is None else planted
    return None if has_one else _NONE_PLANTED


def missing_in_kernel(group: str, custody: Custody, values: Mapping[str, Any]) -> str | None:
    """Return the same for a kernel consumer, which takes no exported session.

    The report is enough where a socket cannot be asked for the sessions of its group.
    """
    if not values.get("in-kernel"):
        return "the agent reported success without a session in the kernel"
    return _NONE_PLANTED if session_planted(group, custody) is False else None
