"""Look-up of where a session in the kernel is protected: by the processor or by a network card.

Rules:

* Only a session in the kernel is looked up, before its consumer is told the outcome and may use the socket.
* The answer is the kernel's, for each direction.  A look-up that fails is ``unknown``, with its reason.
* The modules that the kernel needs for the answer are loaded at start, by a first look-up of a connection of our own.
  If that fails, nothing is looked up later: the kernel would look for its modules in a root filesystem that may hang.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.namespaces import SO_NETNS_COOKIE, netlink_beside
from hsframework.errors import HsframeworkError
from hsframework.netlink import tcp_diag
from hsframework.netlink.members import NETLINK_SOCK_DIAG
from hsframework.netlink.socket import NetlinkError, RequestSocket
from hsframework.netlink.tcp_diag import SO_BINDTOIFINDEX, SO_COOKIE, Connection, kernel_tls
from hsframework.tls.kernel import connected

SOFTWARE, DEVICE, NONE, UNKNOWN = "software", "device", "none", "unknown"
_COOKIE_SIZE = 8
_PLACES: Mapping[int, str] = {
    tcp_diag.BASE: NONE,
    tcp_diag.SOFTWARE: SOFTWARE,
    tcp_diag.DEVICE: DEVICE,
    tcp_diag.DEVICE_RECORDS: DEVICE,
}

_log = structlog.get_logger("hsframework.dispatcher")


@dataclass(frozen=True, slots=True)
class Offload:
    """Place in which a session's records or packets are protected.

    ``transmit``, ``receive``: ``software`` (by the processor, in the kernel), ``device`` (by a network card), ``none``
    (not in the kernel), or ``unknown``, and then ``reason`` says why.
    """

    transmit: str
    receive: str
    reason: str | None = None

    @property
    def summary(self) -> str:
        """One word for both directions: ``device`` if a device has one of them, else ``software`` if the kernel has."""
        return next(place for place in (DEVICE, SOFTWARE, UNKNOWN, NONE) if place in (self.transmit, self.receive))

    def fields(self) -> dict[str, str]:
        """Return the fields of the event ``handshake``."""
        found = {"offload": self.summary, "transmit": self.transmit, "receive": self.receive}
        return found if self.reason is None else {**found, "offload_reason": self.reason}


IN_USER_SPACE = Offload(NONE, NONE)
IN_A_DEVICE = Offload(DEVICE, DEVICE)


def unknown(reason: str) -> Offload:
    """Return the answer that there is no answer, for ``reason``."""
    return Offload(UNKNOWN, UNKNOWN, reason)


class OffloadLookup:
    """Look-ups of one dispatcher.  To be made before the process gives up its capabilities."""

    def __init__(self) -> None:
        self._diag: RequestSocket | None = None
        self._here = b""
        self._problem: str | None = "not looked up"
        try:
            self._diag = RequestSocket(NETLINK_SOCK_DIAG)
            self._try()
            self._problem = None
        except (HsframeworkError, OSError) as error:
            self._problem = f"the kernel could not be asked at start: {error}"
            _log.info("sessions in the kernel are not looked up", reason=self._problem)

    def of(self, group: str, custody: Custody, outcome: Mapping[str, object]) -> Offload:
        """Return where the session that an agent has just reported is protected.

        ``outcome``: of the attribute set ``outcome``, of a success that was found to be one.
        """
        if not outcome.get("in-kernel"):
            return IN_USER_SPACE
        if custody.protocol != socket.IPPROTO_TCP:
            return unknown(f"the kernel does not say it of a socket of protocol {custody.protocol}")
        if group == "psp":
            # The kernel has PSP on devices alone, and the session was found in the socket (dispatcher/planted.py).
            return IN_A_DEVICE
        if self._problem is not None:
            return unknown(self._problem)
        try:
            found = self._look_up(custody)
        except (HsframeworkError, OSError) as error:
            return unknown(str(error))
        if found is None:
            return unknown("the kernel names no TLS in the socket")
        if not {found.transmit, found.receive} <= _PLACES.keys():
            return unknown(f"the kernel names the states {found.transmit} and {found.receive}, not known here")
        return Offload(_PLACES[found.transmit], _PLACES[found.receive])

    def close(self) -> None:
        """Close the socket."""
        if self._diag is not None:
            self._diag.close()
            self._diag = None

    def _try(self) -> None:
        """Look up a connection over loopback, which loads the kernel's modules.  Raises HsframeworkError, OSError."""
        assert self._diag is not None
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            connected(server) as client,
        ):
            cookie = client.getsockopt(socket.SOL_SOCKET, SO_COOKIE, _COOKIE_SIZE)
            kernel_tls(self._diag, Connection(client.getsockname(), client.getpeername(), cookie))
            self._here = client.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, _COOKIE_SIZE)

    def _look_up(self, custody: Custody) -> tcp_diag.KernelTls | None:
        cookie = custody.option(socket.SOL_SOCKET, SO_COOKIE, _COOKIE_SIZE)
        connection = Connection(_split(custody.local_address), _split(custody.peer_address), cookie)
        if self._diag is not None and custody.option(socket.SOL_SOCKET, SO_NETNS_COOKIE, _COOKIE_SIZE) == self._here:
            return _found(self._diag, connection, custody)
        diag = RequestSocket.adopt(netlink_beside(custody.fileno(), NETLINK_SOCK_DIAG))
        try:
            return _found(diag, connection, custody)
        finally:
            diag.close()


def _found(diag: RequestSocket, connection: Connection, custody: Custody) -> tcp_diag.KernelTls | None:
    try:
        return kernel_tls(diag, connection)
    except NetlinkError as error:
        interface = _interface(custody) if error.errno == errno.ENOENT else 0
        if not interface:
            raise
        bound = Connection(connection.local, connection.peer, connection.cookie, interface)
        return kernel_tls(diag, bound)


def _interface(custody: Custody) -> int:
    return int.from_bytes(custody.option(socket.SOL_SOCKET, SO_BINDTOIFINDEX, 4), sys.byteorder)


def _split(address: str) -> tuple[str, int]:
    """Split ``127.0.0.1:443`` or ``[::1]:443``, as a custody has it."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
