"""Check of a session that is said to be in the kernel: the socket is asked before the consumer may write to it.

A socket without a session sends plain text.  The dispatcher has looked for it too; this is the owner's own look.
"""

from __future__ import annotations

import errno
import socket

from hsframework.errors import ClientHandshakeError, HsframeworkError
from hsframework.tls import kernel, kernel_quic

_SO_NETNS_COOKIE = 71


def check_planted(sock: socket.socket, group: str) -> None:
    """Check that the session of a handshake in ``group`` is in the socket.

    A TCP socket has TLS_TX and TLS_RX, in the group ``psp`` an association to send with; an in-kernel QUIC socket is
    established; any other has none.  Raises HandshakeError (EIO).
    """
    protocol = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL)
    if protocol == kernel_quic.IPPROTO_QUIC:
        planted = kernel_quic.is_established(sock.getsockopt)
    elif protocol == socket.IPPROTO_TCP and sock.family != socket.AF_UNIX:
        planted = _has_association(sock) if group == "psp" else kernel.is_planted(sock.getsockopt)
    else:
        planted = False
    if not planted:
        raise ClientHandshakeError(
            "the session is said to be in the kernel, and the socket has none: what is written to it would go out in "
            "plain text; close it",
            errno=errno.EIO,
        )


def _has_association(sock: socket.socket) -> bool:
    """Return True if the socket sends protected by PSP.

    The kernel answers in the socket's own network namespace alone.  A socket in another is asked by its stream, which
    is made there.
    """
    from hsframework.netlink.psp import sends_protected
    from hsframework.netlink.socket import NETLINK_GENERIC, RequestSocket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
        if sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8) != own.getsockopt(
            socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8
        ):
            return True
    try:
        asked = RequestSocket(NETLINK_GENERIC)
    except HsframeworkError:
        return False
    try:
        return sends_protected(asked, sock.fileno())
    except HsframeworkError:
        return False
    finally:
        asked.close()
