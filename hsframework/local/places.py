"""Paths of the service's sockets.

The dispatcher makes both sockets in its runtime directory.  Agents connect to one, consumers to the other.
"""

from __future__ import annotations

import os
from pathlib import Path

SYSTEM_RUNTIME_DIR = Path("/run/hsframework")
"""Runtime directory of a dispatcher that root runs."""

CONSUMER_SOCKET = "consumer.sock"
AGENT_SOCKET = "agent.sock"

PATH_LIMIT = 107
"""Longest path of a unix socket on Linux, in bytes."""


def default_runtime_dir() -> Path:
    """Return ``/run/hsframework`` for root, else a folder in XDG_RUNTIME_DIR, else one in the temporary folder."""
    if os.geteuid() == 0:
        return SYSTEM_RUNTIME_DIR
    base = os.environ.get("XDG_RUNTIME_DIR")
    return Path(base) / "hsframework" if base else Path(f"/tmp/hsframework-{os.geteuid()}")


def consumer_socket(runtime_dir: Path | str | None = None) -> Path:
    """Return the path of the socket on which the dispatcher listens for consumers.

    ``runtime_dir``: its runtime directory, or the path of the socket itself.  None: the user's own runtime directory if
    a dispatcher has its socket there, else the system's.
    """
    if runtime_dir is not None:
        path = Path(runtime_dir)
        return path if path.is_socket() else path / CONSUMER_SOCKET
    own = default_runtime_dir() / CONSUMER_SOCKET
    system = SYSTEM_RUNTIME_DIR / CONSUMER_SOCKET
    return system if not own.exists() and system.exists() else own
