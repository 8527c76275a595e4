"""UDP sockets for datagram protocols: a client's connected socket, and a listening port with one connected socket for
each newcomer.

The kernel delivers a datagram to the socket that is connected to its sender, else to any socket that is bound to the
port and not connected.  Between its bind and its connect, a newcomer's socket is such a socket.  There are two measures
against misdelivery:

* All sockets of the port are one SO_REUSEPORT group, with a program (classic BPF, no privilege needed) that always
  chooses the listening socket.  So a newcomer's socket receives nothing before it is connected.
* The program has no effect if the kernel refuses it, or if the newcomer's socket must be bound to one address because
  the route back would begin at another, while the listening socket is bound to all.  Then datagrams of any sender can
  reach either socket.  So :mod:`.newcomers` sorts the queues of both.  The same holds beside a predecessor's sockets.
* Linux 6.18 takes a socket out of its group when it connects, and lets the next one join the group of the socket bound
  last, which has no program: from the second newcomer on, that next socket receives the datagrams of all senders until
  it is connected.  So its receive buffer is as large as the listening one's until it is sorted (:meth:`Port.settle`).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import ipaddress
import socket
import struct
from dataclasses import dataclass
from typing import Any

from hsframework.client.ports import is_listened_at
from hsframework.errors import ClientError

MAX_DATAGRAM = 65535
"""Bytes; no UDP datagram is longer."""
RECEIVE_BUFFER = 4 << 20
"""Bytes asked for as the listening socket's receive buffer, for the first datagrams of all clients."""

_DONTWAIT = int(socket.MSG_DONTWAIT)
_IP_PKTINFO = 8  # linux/in.h; the socket module has no name for it before Python 3.14
_MTU_DISCOVER, _MTU_DISCOVER_6, _PMTUDISC_PROBE = 10, 23, 3  # linux/in.h, linux/in6.h
_ATTACH_REUSEPORT_CBPF = 51  # asm/socket.h
_BPF_RETURN = 0x06  # BPF_RET | BPF_K, linux/bpf_common.h
_INFO_4, _INFO_6 = struct.Struct("@i4s4s"), struct.Struct("@16si")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A datagram that has arrived at the port."""

    data: bytes
    source: Any
    """Address of the sender, as ``recvmsg`` returns it."""
    local: str
    """Our address to which it was sent."""
    interface: int
    """Index of the network interface, for an answer from a link-local address."""

    @property
    def path(self) -> tuple[Any, str]:
        """Addresses of sender and receiver, by which newcomers are told apart."""
        return self.source, self.local

    @property
    def peer(self) -> str:
        """``address:port`` of the sender, an IPv6 address in brackets."""
        return format_endpoint(self.source)


def format_endpoint(address: Any) -> str:
    """Format a socket address: ``("::1", 443, 0, 0)`` → ``[::1]:443``."""
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def connect_udp(host: str, port: int) -> socket.socket:
    """Return a UDP socket connected to the first of the host's addresses that has a route.  Raises ClientError.

    Nothing is sent: the handshake shows whether a server answers.  :mod:`.race` tries all of the addresses.
    """
    problem: ClientError | None = None
    for found in find_udp(host, port):
        try:
            return connected_udp(found)
        except ClientError as error:
            problem = error
    raise problem or ClientError(f"{host!r} has no address", errno=errno.EHOSTUNREACH)


def find_udp(host: str, port: int) -> list[Any]:
    """Return getaddrinfo's answers for a host.  Raises ClientError."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else "not a host name"
        raise ClientError(f"the address of {host!r} cannot be found: {reason}", errno=errno.EHOSTUNREACH) from None


def connected_udp(found: Any) -> socket.socket:
    """Return a UDP socket connected to one of getaddrinfo's answers.  Raises ClientError."""
    family, kind, protocol, _, address = found
    sock = socket.socket(family, kind, protocol)
    try:
        _never_fragment(sock)
        sock.connect(address)
        return sock
    except OSError as error:
        sock.close()
        raise ClientError(
            f"cannot connect to {format_endpoint(address)}: {error.strerror or error}", errno=error.errno or errno.EIO
        ) from None


class Port:
    """A listening UDP socket; no call waits.  Raises ClientError if the address cannot be bound.

    ``sock``: one that is bound already, of a service manager or of a predecessor; it is the port's from then on.
    """

    def __init__(self, host: str, port: int, sock: socket.socket | None = None) -> None:
        if sock is not None:
            self._socket = sock
            self._adopt()
            return
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host or None, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
            )[0]
            self._socket = socket.socket(family, kind, protocol)
        except (OSError, UnicodeError) as error:
            raise _cannot_listen(host, port, error) from None
        try:
            self._set_up(address)
        except OSError as error:
            self._socket.close()
            raise _cannot_listen(host, port, error) from None
        self.address = self._socket.getsockname()

    def _adopt(self) -> None:
        sock = self._socket
        if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_DGRAM:
            raise ClientError("this is no UDP socket; pass one that is bound and not connected", errno=errno.EINVAL)
        self.address = sock.getsockname()
        if not self.address[1]:
            raise ClientError("the socket is not bound to a port; bind it first", errno=errno.EINVAL)
        try:
            sock.setblocking(False)
            _never_fragment(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            _always_choose_first(sock)
            self._receive_all(sock)
            with socket.socket(sock.family, socket.SOCK_DGRAM) as newcomer:
                newcomer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                if sock.family == socket.AF_INET6:
                    only = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
                    newcomer.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
                newcomer.bind(self.address)
        except OSError as error:
            raise ClientError(
                f"the socket at {format_endpoint(self.address)} cannot be shared with its clients' sockets: "
                f"{error.strerror}; it must have been made by this process's own user",
                errno=error.errno or errno.EIO,
            ) from None

    def _set_up(self, address: Any) -> None:
        sock = self._socket
        sock.setblocking(False)
        _never_fragment(sock)
        # Refuse a port that is listened at: with SO_REUSEPORT alone two listeners of one user would share clients.
        # A predecessor's connections may go on there.  Beside them there is no program: it would choose one of theirs.
        alone = True
        with socket.socket(sock.family, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(address)
                address = probe.getsockname()
            except OSError:
                if is_listened_at(sock.family, address):
                    raise
                alone = False
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if alone:
            _always_choose_first(sock)
        sock.bind(address)
        self._receive_all(sock)

    def _receive_all(self, sock: socket.socket) -> None:
        """Make room for the first datagrams of all clients, and ask for the address that each is sent to."""
        self._usual_buffer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)

    def fileno(self) -> int:
        """Return the fd of the listening socket, for poll."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the listening socket; those of newcomers stay open."""
        self._socket.close()

    def receive(self) -> Arrival | None:
        """Return the next datagram, or None."""
        while True:
            try:
                data, ancillary, _, source = self._socket.recvmsg(MAX_DATAGRAM, 128, _DONTWAIT)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EBADF):
                    return None
                continue  # the error belongs to an answer that was sent before
            for level, kind, value in ancillary:
                place = _place(level, kind, value)
                if place is not None:
                    return Arrival(data, source, *place)

    def answer(self, arrival: Arrival, data: bytes) -> None:
        """Send ``data`` to the sender of ``arrival``, from the address to which it was sent.

        Errors are ignored: a datagram may be lost on its way, too.
        """
        if self._socket.family == socket.AF_INET6:
            info = _INFO_6.pack(socket.inet_pton(socket.AF_INET6, arrival.local), arrival.interface)
            ancillary = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, info)
        else:
            info = _INFO_4.pack(0, socket.inet_pton(socket.AF_INET, arrival.local), bytes(4))
            ancillary = (socket.IPPROTO_IP, _IP_PKTINFO, info)
        with contextlib.suppress(OSError):
            self._socket.sendmsg([data], [ancillary], _DONTWAIT, arrival.source)

    def connect(self, arrival: Arrival) -> socket.socket:
        """Return a socket of the same address and port, connected to the sender of ``arrival``.

        Raises OSError; EADDRNOTAVAIL for a source address that no host can have.  To Linux a socket connected to port 0
        has no peer, and would be preferred to the listening socket for every datagram of that address; one connected to
        ``0.0.0.0`` or ``::`` would have our own host as its peer.
        """
        host, number = arrival.source[:2]
        if not number or ipaddress.ip_address(host.partition("%")[0]).is_unspecified:
            raise OSError(errno.EADDRNOTAVAIL, "nobody sends from there")
        sock = self._connected(arrival, self.address[0])
        if sock.getsockname()[0] != arrival.local:
            # We listen on every address, and the route to the client begins at another address than it wrote to.
            sock.close()
            sock = self._connected(arrival, arrival.local)
        return sock

    def settle(self, sock: socket.socket) -> None:
        """Give a client's socket the usual receive buffer, once others' datagrams have been taken out of it."""
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._usual_buffer // 2)  # the kernel doubles it

    def _connected(self, arrival: Arrival, local: str) -> socket.socket:
        sock = socket.socket(self._socket.family, socket.SOCK_DGRAM)
        try:
            _never_fragment(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if sock.family == socket.AF_INET6:
                only = self._socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
                sock.bind((local, self.address[1], 0, arrival.source[3]))
            else:
                sock.bind((local, self.address[1]))
            sock.connect(arrival.source)
        except BaseException:
            sock.close()
            raise
        return sock


def drain(sock: socket.socket, arrival: Arrival) -> list[Arrival]:
    """Return the datagrams in a newcomer's socket; others' may have reached it before it was connected.

    ``arrival``: the newcomer's first datagram, for the local address.
    """
    arrivals: list[Arrival] = []
    while True:
        try:
            data, source = sock.recvfrom(MAX_DATAGRAM, _DONTWAIT)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EBADF):
                return arrivals
            continue
        arrivals.append(Arrival(data, source, arrival.local, arrival.interface))


def _never_fragment(sock: socket.socket) -> None:
    """Set DF, forbid fragmentation on this host, and ignore the path MTU that ICMP reports (RFC 9000 section 14)."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _MTU_DISCOVER_6, _PMTUDISC_PROBE)
    # On an IPv6 socket too, for IPv4 clients.
    sock.setsockopt(socket.IPPROTO_IP, _MTU_DISCOVER, _PMTUDISC_PROBE)


def _always_choose_first(sock: socket.socket) -> None:
    """Make the kernel choose the first socket of the SO_REUSEPORT group, the listening one; ignore a refusal."""
    instruction = ctypes.create_string_buffer(struct.pack("=HBBI", _BPF_RETURN, 0, 0, 0))
    program = struct.pack("@HP", 1, ctypes.addressof(instruction))
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _ATTACH_REUSEPORT_CBPF, program)


def _place(level: int, kind: int, value: bytes) -> tuple[str, int] | None:
    """Return local address and interface index from control data.

    None for control data of another type, and for datagrams sent to a multicast or broadcast address.
    """
    if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
        packed, interface = _INFO_6.unpack_from(value)
        address = ipaddress.IPv6Address(packed)
        return None if address.is_multicast else (socket.inet_ntop(socket.AF_INET6, packed), interface)
    if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
        interface, ours, written_to = _INFO_4.unpack_from(value)
        return (socket.inet_ntop(socket.AF_INET, ours), interface) if ours == written_to else None
    return None


def _cannot_listen(host: str, port: int, error: OSError | UnicodeError) -> ClientError:
    number = error.errno if isinstance(error, OSError) and 0 < (error.errno or 0) < 4096 else errno.EADDRNOTAVAIL
    reason = getattr(error, "strerror", None) or str(error)
    return ClientError(f"cannot listen on {host} port {port}: {reason}; choose another address or port", errno=number)
