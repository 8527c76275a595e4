"""An audit log: one JSON line for each handshake, to the datagram socket of syslog, the journal, or a collector.

    [plugins.audit]
    socket = "/run/systemd/journal/dev-log"

The socket is opened before requests come.  A line that cannot be sent at once is lost, and the next one says how many
were: a handshake waits for nobody.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hsframework
from hsframework.errors import ConfigurationError, HsframeworkError
from hsframework.interface import Request, Result

hsframework_interface_version = 1


@dataclass(frozen=True)
class Settings:
    """The table ``[plugins.audit]``.  Without a socket nothing is written."""

    socket: Path | None = None


class Audit:
    """The socket that lines are written to.  Raises ConfigurationError."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._lost = 0
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise ConfigurationError(f"plugins.audit.socket: {path}: {error.strerror}; who reads it must run") from None

    def close(self) -> None:
        self._socket.close()

    def write(self, **facts: Any) -> None:
        """Write one line."""
        if self._lost:
            facts["lost_before"] = self._lost
        try:
            self._socket.send(json.dumps(facts).encode())
            self._lost = 0
        except OSError:
            self._lost += 1


def facts_of(request: Request, outcome: Result | HsframeworkError, duration: float) -> dict[str, Any]:
    """Return the facts that are written: names and numbers; no key, no certificate, no attribute."""
    facts: dict[str, Any] = {
        "request": request.id,
        "group": request.group,
        "role": request.role.name.lower(),
        "peer": request.peer_address,
        "milliseconds": round(duration * 1000),
    }
    if isinstance(outcome, Result):
        psk = outcome.peer.psk_identity
        identity = None if psk is None else psk.decode(errors="backslashreplace")
        return {**facts, "outcome": "success", "psk": identity, "tags": dict(outcome.tags)}
    return {**facts, "outcome": outcome.errno_name, "reason": str(outcome)}


audit: Audit | None = None


@hsframework.hookimpl
def hsframework_settings() -> type[Settings]:
    return Settings


@hsframework.hookimpl
def hsframework_configure(settings: Settings) -> None:
    global audit
    if audit is not None:
        audit.close()
    audit = None if settings.socket is None else Audit(settings.socket)


@hsframework.hookimpl
def hsframework_handshake_finished(request: Request, outcome: Result | HsframeworkError, duration: float) -> None:
    if audit is not None:
        audit.write(**facts_of(request, outcome, duration))
