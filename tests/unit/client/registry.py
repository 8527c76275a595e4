"""A registry of plugins, made by hand, with a protocol ``tiny`` whose session and stream are as small as can be."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

from hsframework.interface import EstablishedSession
from hsframework.netlink.spec import parse_specification

SPECIFICATION = parse_specification(
    """
name: tiny
protocol: genetlink
attribute-sets:
  - name: request
    attributes:
      - {name: colour, type: string}
  - name: session
    attributes:
      - {name: secret, type: binary}
      - {name: number, type: u32}
""",
    sensitive="session: [secret]",
)


class TinyStream:
    """Remembers what it was made from."""

    def __init__(self, session: EstablishedSession, sock: socket.socket, asynchronous: bool) -> None:
        self.session = session
        self.socket = sock
        self.asynchronous = asynchronous


def _attach(*, session: EstablishedSession, socket: socket.socket, asynchronous: bool) -> TinyStream | None:
    return None if session.in_kernel else TinyStream(session, socket, asynchronous)


def tiny_registry(**changes: Any) -> Any:
    """Return what ``load_plugins`` gives, as far as the client looks at it."""
    protocol = SimpleNamespace(name="tiny", groups=("tls13",), specification=SPECIFICATION)
    values = {
        "protocols": {"tiny": SimpleNamespace(protocol=protocol)},
        "errors": [],
        "hook": SimpleNamespace(hsframework_attach_session=_attach),
    }
    return SimpleNamespace(**{**values, **changes})
