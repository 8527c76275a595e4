"""The kernel's TLS module: loaded here, since that takes CAP_NET_ADMIN, which no agent has."""

from __future__ import annotations

import contextlib
import socket

TCP_ULP = 31


def load_kernel_tls() -> bool:
    """Have the module loaded, by asking for it on a connection over loopback.  False: this kernel has none."""
    with (
        contextlib.suppress(OSError),
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        client.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
        return True
    return False
