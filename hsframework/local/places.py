"""Paths of the service's sockets.

The dispatcher makes both sockets in its runtime directory.  Agents connect to one, consumers to the other.  No path is
in a folder in which other users may make files, since whoever makes one first would answer in the dispatcher's place.
"""

from __future__ import annotations

import os
from pathlib import Path

SYSTEM_RUNTIME_DIR = Path("/run/hsframework")
"""Runtime directory of a dispatcher that root runs."""

CONSUMER_SOCKET = "consumer.sock"
AGENT_SOCKET = "agent.sock"

VARIABLE = "HSFRAMEWORK_RUNTIME_DIR"
"""Environment variable that names the runtime directory, for clients, commands and the service alike."""

PATH_LIMIT = 107
"""Longest path of a unix socket on Linux, in bytes."""


def environment_runtime_dir() -> Path | None:
    """Return the runtime directory that the environment names; None: it names none."""
    named = os.environ.get(VARIABLE)
    return Path(named).absolute() if named else None


def default_runtime_dir() -> Path:
    """Return the runtime directory of a service that this user runs, where no configuration names one.

    It is the environment's; else ``/run/hsframework`` for root, and for others a folder in XDG_RUNTIME_DIR, which is
    ``/run/user/UID`` where the variable is not set.
    """
    named = environment_runtime_dir()
    if named is not None:
        return named
    if os.geteuid() == 0:
        return SYSTEM_RUNTIME_DIR
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}").absolute() / "hsframework"


def consumer_socket(runtime_dir: Path | str | None = None) -> Path:
    """Return the path of the socket on which the dispatcher listens for consumers.

    ``runtime_dir``: its runtime directory, or the path of the socket itself.  None: the environment's; else the user's
    own runtime directory if a dispatcher has its socket there, else the system's.
    """
    named = environment_runtime_dir() if runtime_dir is None else Path(runtime_dir)
    if named is not None:
        return named if named.is_socket() else named / CONSUMER_SOCKET
    own = default_runtime_dir() / CONSUMER_SOCKET
    system = SYSTEM_RUNTIME_DIR / CONSUMER_SOCKET
    return system if not own.exists() and system.exists() else own
