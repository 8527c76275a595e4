"""A handshake of the service with itself, over loopback: what every consumer in user space would meet.

It has a certificate of its own that nobody else trusts.  The service has :data:`PATIENCE` seconds; an agent that hangs
in it is ended by the dispatcher as one that hangs in any request.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from hsframework.cli.checks.finding import Finding
from hsframework.client import Client, HandshakeOptions
from hsframework.configuration.settings import Configuration
from hsframework.errors import HsframeworkError
from hsframework.interface import Role
from hsframework.testing.certificates import Authority

PATIENCE = 5.0
GROUP = "tls13"
NAME = "doctor.invalid"


def check_handshake(settings: Configuration) -> Iterable[Finding]:
    """Check that two ends of a connection of our own reach a session of TLS 1.3 through the service."""
    authority = Authority("hsframework doctor")
    server = HandshakeOptions(
        role=Role.SERVER, group=GROUP, identities=(authority.issue([NAME]).identity,), timeout=PATIENCE
    )
    client = HandshakeOptions(group=GROUP, peer_name=NAME, trust=authority.trust(), timeout=PATIENCE)
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as listening,
            socket.create_connection(listening.getsockname(), timeout=1) as near,
            listening.accept()[0] as far,
            Client(settings.runtime_dir) as service,
            ThreadPoolExecutor(2) as pool,
        ):
            near.settimeout(None)
            ends = [pool.submit(service.handshake, near, client), pool.submit(service.handshake, far, server)]
            sessions = [end.result() for end in ends]
    except (HsframeworkError, OSError) as error:
        yield Finding("handshake", "missing", f"a handshake of our own fails: {error}", "see the service's log")
        return
    where = "in the kernel" if all(session.in_kernel for session in sessions) else "in user space"
    yield Finding("handshake", "ok", f"both ends of a connection of our own have a session, {where}")
