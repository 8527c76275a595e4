"""In-kernel QUIC sockets as their owners make them: the stand-in's, and the kernel's own where it has the module.

One client and one server socket at a time; ``handshaker`` goes with them.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import AsyncExitStack
from typing import Any

from hsframework.interface import AuthMode, Request, Result, Role, Trust
from hsframework_quic.kernel import structs as kernel
from hsframework_quic.kernel.plugin import KernelQuicHandshaker
from hsframework_quic.kernel.socket import KernelSocket, QuicSocket
from tests.unit.quic.kernel_stand_in import StandIn, config

SERVER_KEY = bytes(range(64))
"""The key of a server's tickets, as its owner sets it."""


class Endpoint:
    """Endpoint of a handshaker, of which only the socket is of use here."""

    def __init__(self, sock: Any) -> None:
        self.socket = sock


class StandInDoor:
    name = "stand-in"
    handshaker = KernelQuicHandshaker(lambda sock: sock)  # type: ignore[arg-type, return-value]

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    def view(self, sock: Any) -> QuicSocket:
        return sock  # type: ignore[no-any-return]

    async def client(self, address: tuple[str, int], *, options: dict[int, bytes], version: int = 1) -> Any:
        sock = StandIn(is_client=True, version=version)
        self._stack.callback(sock.close)
        self._set(sock, options)
        await sock.connect(address)
        return sock

    async def server(self, *, options: dict[int, bytes]) -> tuple[tuple[str, int], Any]:
        """Make a server, and return its address and the socket's future."""
        sock = StandIn(is_client=False)
        self._stack.callback(sock.close)
        self._set(sock, {kernel.SESSION_TICKET: SERVER_KEY, **options})
        address = await sock.listen()

        async def accept() -> StandIn:
            await sock.ready.wait()
            return sock

        return address, asyncio.ensure_future(accept())

    @staticmethod
    def _set(sock: StandIn, options: dict[int, bytes]) -> None:
        for option, value in options.items():
            sock.set_option(option, value)

    async def application_data(self, sock: StandIn, size: int) -> bytes:
        while len(sock.application_data) < size:
            await asyncio.sleep(0)
        return bytes(sock.application_data)

    def send_application_data(self, sock: StandIn, data: bytes) -> None:
        sock.send_application_data(data)


class KernelDoor:
    name = "kernel"
    handshaker = KernelQuicHandshaker()

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    def view(self, sock: Any) -> QuicSocket:
        return KernelSocket(sock)

    def _socket(self, options: dict[int, bytes]) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, kernel.IPPROTO_QUIC)
        self._stack.callback(sock.close)
        for option, value in options.items():
            sock.setsockopt(kernel.SOL_QUIC, option, value)
        return sock

    async def client(self, address: tuple[str, int], *, options: dict[int, bytes], version: int = 1) -> Any:
        wanted = dict(options)
        wanted.setdefault(kernel.CONFIG, config())
        wanted[kernel.CONFIG] = version.to_bytes(4, "little") + wanted[kernel.CONFIG][4:]
        sock = self._socket(wanted)
        sock.connect(address)
        sock.setblocking(False)
        return sock

    async def server(self, *, options: dict[int, bytes]) -> tuple[tuple[str, int], Any]:
        listener = self._socket({})
        listener.bind(("127.0.0.1", 0))
        for option, value in options.items():
            listener.setsockopt(kernel.SOL_QUIC, option, value)
        listener.listen(4)
        listener.setblocking(False)

        async def accept() -> socket.socket:
            sock, _ = await asyncio.get_running_loop().sock_accept(listener)
            self._stack.callback(sock.close)
            sock.setblocking(False)
            sock.setsockopt(kernel.SOL_QUIC, kernel.SESSION_TICKET, SERVER_KEY)  # not taken over from the listener
            return sock

        return listener.getsockname(), asyncio.ensure_future(accept())

    async def application_data(self, sock: socket.socket, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += await asyncio.get_running_loop().sock_recv(sock, 65536)
        return data

    def send_application_data(self, sock: socket.socket, data: bytes) -> None:
        sock.sendmsg([data], [], 0x400 | 0x200)  # a new stream (MSG_SYN), and its end (MSG_FIN)


Door = StandInDoor | KernelDoor


def request(role: Role, trust: Trust | None, **wanted: Any) -> Request:
    deadline = asyncio.get_running_loop().time() + 10
    fields = {"auth_mode": AuthMode.X509, "group": "tlshd", "kernel_consumer": True, **wanted}
    return Request(id=1, role=role, deadline=deadline, trust=trust, **fields)


async def shake(door: Door, sock: Any, wanted: Request) -> Result:
    return await asyncio.wait_for(door.handshaker.handshake(wanted, Endpoint(sock)), 10)  # type: ignore[arg-type]


def is_established(door: Door, sock: Any) -> bool:
    try:
        return bool(door.view(sock).get_option(4, 12))
    except OSError:
        return False


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))
