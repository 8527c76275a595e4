"""Sessions for tests: their peers' certificates are the tests' own."""

from __future__ import annotations

import time
from itertools import count
from typing import Any

from hsframework.configuration.rules import Facts
from hsframework.dispatcher.sessions.book import Session
from hsframework.interface import AuthMode, Role

_cookies = count(1)


def session(**changed: Any) -> Session:
    """Return a session of a kernel's server with a client; each has a cookie of its own."""
    values: dict[str, Any] = {
        "cookie": next(_cookies).to_bytes(8, "little"),
        "namespace": ".",
        "made_at": time.time(),
        "source": "kernel",
        "group": "tlshd",
        "protocol": "tls13",
        "local": "192.0.2.2:2049",
        "peer": "192.0.2.1:700",
        "role": Role.SERVER,
        "auth_mode": AuthMode.X509,
        "profile": "exports",
        "rule": "",
        "peer_name": None,
        "alpn": ("sunrpc",),
        "facts": Facts(role=Role.SERVER, auth_mode=AuthMode.X509, peer="192.0.2.1"),
        "own_trust": False,
        "certificates": (),
        "psk_identity": None,
        "peer_identity": "",
        "cipher": "",
        "uid": None,
    }
    return Session(**(values | changed))
