"""Table of the TCP sockets of a network namespace, and the end of one of them (``linux/inet_diag.h``).

``ss -ti`` and ``ss -K`` have the same answers.  A socket is named by its cookie, which no other socket gets as long as
the kernel runs: addresses alone may be those of another connection by now.

INET_DIAG_INFO is not asked for.  For it the kernel takes the lock of each socket, and a local user may hold that of his
own for as long as he likes: whoever asks would wait, in a state that no signal ends.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hsframework.netlink.members import SOCK_DIAG_BY_FAMILY
from hsframework.netlink.messages import NLMSG_ERROR, Message, body_of, decode_error, framed, sequence_of, type_of
from hsframework.netlink.socket import NetlinkError, RequestSocket
from hsframework.netlink.tcp_diag import SOCKET_NAME

SOCK_DESTROY = 21
"""Type of the request that ends a socket (Linux 4.5, CONFIG_INET_DIAG_DESTROY)."""

# struct inet_diag_req_v2: u8 family, protocol, extensions, 0, u32 states, and struct inet_diag_sockid
_REQUEST = struct.Struct("=BBBBI48s")
# struct inet_diag_msg: u8 family, state, timer, retransmissions, struct inet_diag_sockid, five u32
_ANSWER = struct.Struct("=BBBB48sIIIII")
_NO_EXTENSION = 0
# ESTABLISHED, SYN_SENT, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING (include/net/tcp_states.h)
_CONNECTED = sum(1 << state for state in (1, 2, 4, 5, 8, 9, 11))


@dataclass(frozen=True, slots=True)
class TcpSocket:
    """A connected TCP socket.  ``cookie``: 8 bytes, as of SO_COOKIE.  ``local``, ``peer``: address and port."""

    cookie: bytes
    local: tuple[str, int]
    peer: tuple[str, int]
    family: int = socket.AF_INET
    name: bytes = field(default=b"", repr=False)
    """The kernel's name of the socket, struct inet_diag_sockid."""


class _Codec:
    """A codec for use with a RequestSocket: ``dump`` (``family``) and ``end`` (``socket``, a TcpSocket)."""

    def encode(self, operation: str, values: Mapping[str, Any], *, sequence: int = 0, flags: int = 0) -> bytes:
        if operation == "dump":
            kind, family, name = SOCK_DIAG_BY_FAMILY, values["family"], bytes(48)
        else:
            kind, family, name = SOCK_DESTROY, values["socket"].family, values["socket"].name
        body = _REQUEST.pack(family, socket.IPPROTO_TCP, _NO_EXTENSION, 0, _CONNECTED, name)
        return framed(kind, body, sequence=sequence, flags=flags)

    def decode(self, data: bytes) -> Message:
        if type_of(data) == NLMSG_ERROR:
            return decode_error(data)
        body = body_of(data, SOCK_DIAG_BY_FAMILY, _ANSWER.size, "inet_diag")
        return Message("socket", {"socket": _decoded(body)}, sequence_of(data))


def connected_sockets(diag: RequestSocket) -> Iterator[TcpSocket]:
    """Yield the connected TCP sockets of the namespace in which ``diag``, of NETLINK_SOCK_DIAG, was opened.

    While the table changes, an entry may be left out or be there twice.  Raises NetlinkError, MessageError.
    """
    for family in (socket.AF_INET, socket.AF_INET6):
        for answer in diag.dump(_Codec(), "dump", {"family": int(family)}):
            yield answer.values["socket"]


def end_socket(diag: RequestSocket, found: TcpSocket) -> bool:
    """End a connection: whoever has the socket gets ECONNABORTED, and the peer a reset.

    Return False if there is no such socket any longer.  It takes CAP_NET_ADMIN.  Raises NetlinkError: EOPNOTSUPP for a
    kernel without CONFIG_INET_DIAG_DESTROY.
    """
    try:
        diag.request(_Codec(), "end", {"socket": found}, acknowledge=True)
    except NetlinkError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return False
        raise
    return True


def can_end_sockets(diag: RequestSocket) -> str:
    """Return an empty text if the kernel ends sockets, else the reason why it does not.  No socket is ended."""
    nobody = SOCKET_NAME.pack(1, 1, *(socket.inet_aton("0.0.0.1").ljust(16, b"\0"),) * 2, bytes(4), b"\xff" * 8)
    try:
        end_socket(diag, TcpSocket(b"", ("", 0), ("", 0), name=nobody))
    except NetlinkError as error:
        if error.errno == errno.EOPNOTSUPP:
            return "the kernel ends no sockets of others: it was built without CONFIG_INET_DIAG_DESTROY"
        return str(error)
    return ""


def _decoded(body: bytes) -> TcpSocket:
    family, _, _, _, name, *_ = _ANSWER.unpack_from(body)
    local_port, peer_port, local, peer, _, cookie = SOCKET_NAME.unpack(name)
    return TcpSocket(
        cookie,
        (_text(family, local), local_port),
        (_text(family, peer), peer_port),
        family,
        name,
    )


def _text(family: int, address: bytes) -> str:
    return socket.inet_ntop(family, address[: 4 if family == socket.AF_INET else 16])
