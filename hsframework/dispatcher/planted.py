"""Checks that a session is planted in a socket.  They ask the socket itself; an agent's report is no proof.

The kernel takes success at its word, and would go on in plain text.  So a group with a row here has one for every kind
of socket for which success can be reported: a socket of another kind has no session.  A mechanism whose sessions can be
asked for adds its row.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.namespaces import netlink_beside
from hsframework.errors import HsframeworkError
from hsframework.netlink.psp import sends_protected
from hsframework.netlink.socket import NETLINK_GENERIC, RequestSocket
from hsframework.tls import kernel as kernel_tls, kernel_quic
from hsframework.tls.kernel_quic import IPPROTO_QUIC

Check = Callable[[Custody], bool]


def has_kernel_tls(custody: Custody) -> bool:
    """True if TLS_TX and TLS_RX are in place."""
    return kernel_tls.is_planted(custody.option)


def has_kernel_quic(custody: Custody) -> bool:
    """True if the connection is established."""
    return kernel_quic.is_established(custody.option)


def has_kernel_psp(custody: Custody) -> bool:
    """True if the socket has a Tx association.  False if it cannot be asked, for want of a right or an fd."""
    try:
        sock = RequestSocket.adopt(netlink_beside(custody.fileno(), NETLINK_GENERIC))
    except HsframeworkError:
        return False
    try:
        return sends_protected(sock, custody.fileno())
    except HsframeworkError:
        return False
    finally:
        sock.close()


_TLS: Mapping[int, Check] = {socket.IPPROTO_TCP: has_kernel_tls}
CHECKS: Mapping[str, Mapping[int, Check]] = {
    "tlshd": {**_TLS, IPPROTO_QUIC: has_kernel_quic},
    "tls13": _TLS,
    "psp": {socket.IPPROTO_TCP: has_kernel_psp},
}
"""By group, by SO_PROTOCOL."""


def session_planted(group: str, custody: Custody) -> bool | None:
    """Return True if a session of this group is planted; None if the socket cannot be asked for one."""
    checks = CHECKS.get(group)
    if checks is None:
        # A group that we do not know may use the kernel's TLS all the same.
        return has_kernel_tls(custody) or None
    check = checks.get(custody.protocol)
    return check is not None and check(custody)
