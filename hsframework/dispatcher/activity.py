"""Activity of the dispatcher: its requests by state, and the outcomes of the last minutes, for `hsframework status`."""

from __future__ import annotations

import platform
from collections import Counter
from typing import Any

from hsframework.dispatcher.requests.core import Dispatcher

_RELEASE = platform.release()
_PYTHON = platform.python_version()


def activity(dispatcher: Dispatcher) -> dict[str, Any]:
    """Return the members of the report that are about activity and versions."""
    states = Counter(request.state.name.lower().replace("_", "-") for request in dispatcher.requests.values())
    return {
        "requests": dict(states),
        "recent": dispatcher.metrics.recent.report(),
        "kernel": _RELEASE,
        "python": _PYTHON,
    }
