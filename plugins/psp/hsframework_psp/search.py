"""The search for the kernel's PSP device of a connection: by its route, in its network namespace.

The rules:

* A socket's namespace is told by its cookie (SO_NETNS_COOKIE).  In our own namespace the netlink sockets are opened
  once a process.  For another, and where we may open none (RestrictAddressFamilies=), the dispatcher is asked for
  them, and they are closed with the request: an open netlink socket would keep a namespace alive.
* A device that the kernel does not have, or does not show, is a refusal with the reason in it, never a guess.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Sequence

from hsframework.errors import HsframeworkError
from hsframework.interface import Request
from hsframework.netlink.route import NETLINK_ROUTE, route_interface
from hsframework.netlink.socket import NETLINK_GENERIC, NetlinkError, RequestSocket
from hsframework.netlink.spec import builtin_specification
from hsframework_psp.devices import DeviceRefused
from hsframework_psp.family import NoPsp, PspFamily
from hsframework_psp.kernel_device import KernelDevice
from hsframework_psp.per_process import PerProcess
from hsframework_psp.versions import Version

SO_NETNS_COOKIE = 71


class _Namespace:
    """The two netlink sockets of one namespace."""

    def __init__(self, generic: RequestSocket, route: RequestSocket) -> None:
        self.route = route
        try:
            self.family = PspFamily(generic)
        except BaseException:
            route.close()
            raise

    def close(self) -> None:
        self.family.close()
        self.route.close()


class DeviceSearch:
    """The search for devices.  Make it before the agent's workers are forked: what it loads is in memory then.

    On a kernel without PSP at that time, no socket is opened later, since each question for the family would have the
    kernel look for a module.
    """

    def __init__(self) -> None:
        self._cookie = _own_cookie()
        self._own: PerProcess[_Namespace] | None = PerProcess(_own_namespace)
        self._problem = ""
        for name in ("nlctrl", "psp"):
            builtin_specification(name)
        try:
            _own_namespace().close()
        except NoPsp as error:
            self._problem = str(error)
        except NetlinkError:
            self._own = None

    def close(self) -> None:
        """Close our own namespace's sockets."""
        own = self._own.existing if self._own is not None else None
        if own is not None:
            own.close()

    async def find(
        self, request: Request, sock: socket.socket, versions: Sequence[Version], stack: contextlib.ExitStack
    ) -> KernelDevice:
        """Return the device, good until ``stack`` is closed.  Raises DeviceRefused: none, or none with a version."""
        if self._problem:
            raise DeviceRefused(self._problem)
        try:
            namespace = await self._namespace(request, sock, stack)
            interface = _interface(namespace.route, sock)
            facts = next((item for item in namespace.family.devices() if interface in item.interfaces), None)
        except HsframeworkError as error:
            raise DeviceRefused(f"the PSP device is not found: {error}") from None
        if facts is None:
            raise DeviceRefused("the interface of the connection's route has no PSP device")
        if not facts.enabled.intersection(versions):
            raise DeviceRefused(
                f"of PSP device {facts.id} no version is enabled that may be used: enable one (dev-set), or change "
                "plugins.psp.versions"
            )
        return KernelDevice(namespace.family, facts, sock)

    async def _namespace(self, request: Request, sock: socket.socket, stack: contextlib.ExitStack) -> _Namespace:
        if self._own is not None and _cookie(sock) == self._cookie:
            return self._own.get()
        generic = RequestSocket.adopt(await request.open_netlink(NETLINK_GENERIC))
        try:
            route = RequestSocket.adopt(await request.open_netlink(NETLINK_ROUTE))
        except BaseException:
            generic.close()
            raise
        namespace = _Namespace(generic, route)
        stack.callback(namespace.close)
        return namespace


def _own_namespace() -> _Namespace:
    generic = RequestSocket(NETLINK_GENERIC)
    try:
        route = RequestSocket(NETLINK_ROUTE)
    except BaseException:
        generic.close()
        raise
    return _Namespace(generic, route)


def _interface(route: RequestSocket, sock: socket.socket) -> int:
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        raise NetlinkError("PSP is for TCP over IP", errno=errno.EOPNOTSUPP)
    try:
        return route_interface(route, sock)
    except OSError as error:
        raise NetlinkError(f"the socket has no peer ({error.strerror})", errno=error.errno or errno.EIO) from None


def _cookie(sock: socket.socket) -> bytes:
    """Return the cookie of the socket's namespace (Linux 5.14), or empty: then all sockets count as ours."""
    try:
        return sock.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8)
    except OSError:
        return b""


def _own_cookie() -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        return _cookie(sock)
