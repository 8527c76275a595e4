"""In-kernel QUIC sockets (``linux/quic.h`` of the module): a check for a session in one."""

from __future__ import annotations

from collections.abc import Callable

IPPROTO_QUIC = 261
SOL_QUIC, CONNECTION_ID = 288, 4


def is_established(getsockopt: Callable[[int, int, int], bytes]) -> bool:
    """Return True if the connection is established: only then does the kernel report its ids.

    ``getsockopt``: the socket's method.
    """
    try:
        return bool(getsockopt(SOL_QUIC, CONNECTION_ID, 12))
    except OSError:
        return False
