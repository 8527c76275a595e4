"""Look-up of the kernel's TLS in a TCP socket, software or device (``linux/inet_diag.h``, ``linux/tls.h``).

The kernel itself chooses at TLS_TX and TLS_RX, and the socket's own options do not show its choice.  ``ss -ti`` shows
the same answer.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hsframework.errors import MessageError
from hsframework.netlink.attributes import walk
from hsframework.netlink.members import SOCK_DIAG_BY_FAMILY
from hsframework.netlink.messages import NLMSG_ERROR, Message, body_of, decode_error, framed, sequence_of, type_of
from hsframework.netlink.socket import NetlinkError, RequestSocket

BASE, SOFTWARE, DEVICE, DEVICE_RECORDS = 1, 2, 3, 4
"""TLS_CONF_*: no keys, the processor, a network card by packets, a network card by records."""

SO_COOKIE, SO_BINDTOIFINDEX = 57, 62
_ALL_STATES = 0xFFFFFFFF
_INFO = 1 << 1
"""INET_DIAG_INFO, without which the kernel leaves INET_DIAG_ULP_INFO out."""
_ULP_INFO, _ULP_TLS = 19, 2
_TXCONF, _RXCONF, _ZEROCOPY, _NO_PAD, _MAX_PAYLOAD = 3, 4, 5, 6, 7

# struct inet_diag_req_v2 up to its socket: u8 family, protocol, extensions, 0, u32 states
_REQUEST = struct.Struct("=BBBBI")
# struct inet_diag_sockid: be16 ports, addresses of 16 bytes, u32 interface, u32 cookie[2]
SOCKET_NAME = struct.Struct("!HH16s16s4s8s")
_ANSWER_SIZE = 4 + SOCKET_NAME.size + 5 * 4


@dataclass(frozen=True, slots=True)
class KernelTls:
    """The kernel's TLS in one socket.  ``transmit``, ``receive``: BASE, SOFTWARE, DEVICE or DEVICE_RECORDS.

    ``max_payload``: bytes of a record's content at most; None: the kernel does not say (TLS_TX_MAX_PAYLOAD_LEN).
    """

    transmit: int
    receive: int
    zerocopy: bool = False
    no_pad: bool = False
    max_payload: int | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """A TCP connection as the kernel looks it up.

    ``local``, ``peer``: address, as of ``getsockname()``, and port.  ``cookie``: SO_COOKIE, 8 bytes.
    """

    local: tuple[str, int]
    peer: tuple[str, int]
    cookie: bytes
    interface: int = 0
    """SO_BINDTOIFINDEX.  A socket that is bound to an interface is not found without it."""


class TcpDiagCodec:
    """A codec for the look-up of one TCP socket, for use with a RequestSocket."""

    def encode(self, operation: str, values: Mapping[str, Any], *, sequence: int = 0, flags: int = 0) -> bytes:
        """Encode the request.  ``values``: ``connection`` (a Connection)."""
        wanted: Connection = values["connection"]
        local, peer = _packed(wanted.local[0]), _packed(wanted.peer[0])
        family = socket.AF_INET if len(local) == 4 else socket.AF_INET6
        body = _REQUEST.pack(family, socket.IPPROTO_TCP, _INFO, 0, _ALL_STATES)
        interface = wanted.interface.to_bytes(4, sys.byteorder)
        body += SOCKET_NAME.pack(wanted.local[1], wanted.peer[1], local, peer, interface, wanted.cookie)
        return framed(SOCK_DIAG_BY_FAMILY, body, sequence=sequence, flags=flags)

    def decode(self, data: bytes) -> Message:
        """Decode an error, or ``tls``: a KernelTls, or None for a socket without TLS.  Raises MessageError."""
        if type_of(data) == NLMSG_ERROR:
            return decode_error(data)
        attributes = dict(walk(body_of(data, SOCK_DIAG_BY_FAMILY, _ANSWER_SIZE, "inet_diag")[_ANSWER_SIZE:]))
        protocol = dict(walk(attributes.get(_ULP_INFO, b"")))
        tls = dict(walk(protocol[_ULP_TLS])) if _ULP_TLS in protocol else None
        return Message("socket", {"tls": None if tls is None else _state(tls)}, sequence_of(data))


def kernel_tls(diag: RequestSocket, connection: Connection) -> KernelTls | None:
    """Return the state of the kernel's TLS in a socket, or None if it has none.

    ``diag``: a socket of the family NETLINK_SOCK_DIAG, in the network namespace of the connection.  The kernel loads
    its modules inet_diag and tcp_diag for the first look-up.  Raises NetlinkError: ENOENT if there is no such
    connection, or the kernel has no CONFIG_INET_TCP_DIAG.  MessageError for an answer that makes no sense.
    """
    answers = diag.request(TcpDiagCodec(), "look up", {"connection": connection})
    if not answers:
        raise NetlinkError("inet_diag does not answer", errno=errno.ENOENT)
    found: KernelTls | None = answers[0].values["tls"]
    return found


def _state(tls: Mapping[int, bytes]) -> KernelTls:
    transmit, receive = (_number(tls.get(kind, b"")) for kind in (_TXCONF, _RXCONF))
    if transmit is None or receive is None:
        raise MessageError("inet_diag's answer has no state of TLS in both directions")
    return KernelTls(transmit, receive, _ZEROCOPY in tls, _NO_PAD in tls, _number(tls.get(_MAX_PAYLOAD, b"")))


def _number(payload: bytes) -> int | None:
    return struct.unpack("=H", payload)[0] if len(payload) == 2 else None


def _packed(host: str) -> bytes:
    """Pack an address; a scope (``fe80::1%eth0``) is left out: the interface to which the socket is bound says it."""
    return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host.partition("%")[0])
