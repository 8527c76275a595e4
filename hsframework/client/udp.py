"""UDP sockets for datagram protocols: a client's connected socket, and a listening port with a connected one per
client.

The kernel delivers a datagram to the socket that is connected to its sender, and else to any that is bound to the port
and not connected: between its bind and its connect that is a client's socket too.  Two things are done about it:

* All sockets of the port are one SO_REUSEPORT group, with a program (classic BPF, no privilege needed) that always
  chooses the listening one.  So a client's socket gets nothing before it is connected.
* Where that cannot be (a client's socket is bound to one address, the listening one to all of them, and the route back
  would begin at another; or the kernel refuses the program), anybody's datagram lands in either.  So who opens a
  client's socket sorts both queues again; :mod:`.newcomers` does.
* Linux 6.18 takes a socket out of its group when it connects, and lets the next one join the group of the socket bound
  last, which has no program: from the second client on, that next socket gets everybody's datagrams until it is
  connected.  So its receive buffer is as large as the listening one's until it has been sorted (:meth:`Port.settle`).
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

from hsframework.errors import HsframeworkError

MAX_DATAGRAM = 65535
RECEIVE_BUFFER = 4 << 20
"""Bytes asked for the listening socket, which takes the first datagrams of all clients; the system may give less."""

_DONTWAIT = int(socket.MSG_DONTWAIT)
_IP_PKTINFO = 8  # linux/in.h; the socket module has no name for it before Python 3.14
_MTU_DISCOVER, _MTU_DISCOVER_6, _PMTUDISC_PROBE = 10, 23, 3  # linux/in.h, linux/in6.h
_ATTACH_REUSEPORT_CBPF = 51  # asm/socket.h
_BPF_RETURN = 0x06  # BPF_RET | BPF_K, linux/bpf_common.h
_INFO_4, _INFO_6 = struct.Struct("@i4s4s"), struct.Struct("@16si")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A datagram.  ``source``: as recvmsg has it.  ``local``: the address of ours that it was sent to."""

    data: bytes
    source: Any
    local: str
    interface: int
    """Of the network; for answering from a link-local address."""

    @property
    def path(self) -> tuple[Any, str]:
        """Who sent it to whom: one client, one path."""
        return self.source, self.local

    @property
    def peer(self) -> str:
        """``address:port``, an IPv6 address in brackets."""
        return format_endpoint(self.source)


def format_endpoint(address: Any) -> str:
    """``("::1", 443, 0, 0)`` → ``[::1]:443``."""
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def connect_udp(host: str, port: int) -> socket.socket:
    """A connected UDP socket to the first of the host's addresses that can be reached.  Raises HsframeworkError.

    Nothing is sent, so that nobody has to answer: whether the server is there, the handshake says.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else "not a host name"
        raise HsframeworkError(f"the address of {host!r} cannot be found: {reason}", errno=errno.EHOSTUNREACH) from None
    problem = OSError(errno.EHOSTUNREACH, "no address")
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            _never_fragment(sock)
            sock.connect(address)
            return sock
        except OSError as error:
            sock.close()
            problem = error
    raise HsframeworkError(
        f"cannot connect to {host} port {port}: {problem.strerror or problem}", errno=problem.errno or errno.EIO
    )


class Port:
    """A listening UDP socket, never waiting.  Raises HsframeworkError when it cannot be had."""

    def __init__(self, host: str, port: int) -> None:
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

    def _set_up(self, address: Any) -> None:
        sock = self._socket
        sock.setblocking(False)
        _never_fragment(sock)
        # A taken port is refused: with SO_REUSEPORT alone two listeners of one user would share their clients.
        with socket.socket(sock.family, socket.SOCK_DGRAM) as probe:
            probe.bind(address)
            address = probe.getsockname()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _always_choose_first(sock)
        sock.bind(address)
        self._usual_buffer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)

    def fileno(self) -> int:
        """Of the listening socket; for poll."""
        return self._socket.fileno()

    def close(self) -> None:
        """The sockets of clients stay open."""
        self._socket.close()

    def receive(self) -> Arrival | None:
        """The next datagram; None: none waits."""
        while True:
            try:
                data, ancillary, _, source = self._socket.recvmsg(MAX_DATAGRAM, 128, _DONTWAIT)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EBADF):
                    return None
                continue  # said of an answer that we sent before
            for level, kind, value in ancillary:
                place = _place(level, kind, value)
                if place is not None:
                    return Arrival(data, source, *place)

    def answer(self, arrival: Arrival, data: bytes) -> None:
        """Send from the address that was written to.

        An answer that cannot be sent is lost, as it might be on the way.
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
        """A socket of the same address and port, connected to a client.  Raises OSError.

        A source that is nobody's is refused: to Linux a socket that is connected to port 0 has no peer, and would be
        preferred to the listening one for every datagram of that address; one connected to ``0.0.0.0`` or ``::`` would
        have our own host for its peer.
        """
        host, number = arrival.source[:2]
        if not number or ipaddress.ip_address(host.partition("%")[0]).is_unspecified:
            raise OSError(errno.EADDRNOTAVAIL, "nobody sends from there")
        sock = self._connected(arrival, self.address[0])
        if sock.getsockname()[0] != arrival.local:
            # We listen on every address, and the route to the client begins at another than it wrote to.
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
    """What waits in a client's socket; those whose source is another's came before it was connected."""
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
    """RFC 9000 section 14: DF is set, and nothing is cut on this host either, whatever an ICMP message says."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _MTU_DISCOVER_6, _PMTUDISC_PROBE)
    # On a socket of IPv6 too, for clients that come by IPv4.
    sock.setsockopt(socket.IPPROTO_IP, _MTU_DISCOVER, _PMTUDISC_PROBE)


def _always_choose_first(sock: socket.socket) -> None:
    """The first socket of the group is the listening one.  A kernel that refuses leaves more to be sorted."""
    instruction = ctypes.create_string_buffer(struct.pack("=HBBI", _BPF_RETURN, 0, 0, 0))
    program = struct.pack("@HP", 1, ctypes.addressof(instruction))
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _ATTACH_REUSEPORT_CBPF, program)


def _place(level: int, kind: int, value: bytes) -> tuple[str, int] | None:
    """The local address and the interface; None: it says something else, or a group of hosts was written to."""
    if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
        packed, interface = _INFO_6.unpack_from(value)
        address = ipaddress.IPv6Address(packed)
        return None if address.is_multicast else (socket.inet_ntop(socket.AF_INET6, packed), interface)
    if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
        interface, ours, written_to = _INFO_4.unpack_from(value)
        return (socket.inet_ntop(socket.AF_INET, ours), interface) if ours == written_to else None
    return None


def _cannot_listen(host: str, port: int, error: OSError | UnicodeError) -> HsframeworkError:
    number = error.errno if isinstance(error, OSError) and 0 < (error.errno or 0) < 4096 else errno.EADDRNOTAVAIL
    reason = getattr(error, "strerror", None) or str(error)
    return HsframeworkError(
        f"cannot listen on {host} port {port}: {reason}; choose another address or port", errno=number
    )
