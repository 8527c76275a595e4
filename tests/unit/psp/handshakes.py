"""Requests of both roles, and handshakes of two handshakers on a pair of sockets."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from hsframework.agent.endpoint import StreamEndpoint
from hsframework.agent.readiness import Readiness
from hsframework.interface import AuthMode, EstablishedSession, Handshaker, Request, Result, Role
from hsframework.netlink.attributes import attribute_codec
from hsframework.testing.network import tcp_pair
from hsframework_psp import hooks
from hsframework_psp.protocol import PspProtocol
from hsframework_psp.settings import Settings
from hsframework_psp.streams import PspStream
from hsframework_tls13.protocol import Tls13Protocol
from hsframework_tls13.settings import Settings as TlsSettings
from tests.unit.tls13.support import CLIENT, ROOT, SERVER

T = TypeVar("T")
PSP = PspProtocol().prepare(Settings(device="software"))
TLS = Tls13Protocol().prepare(TlsSettings(kernel_offload=False))
AS_CLIENT = Request(
    id=1,
    group="psp",
    role=Role.CLIENT,
    auth_mode=AuthMode.X509,
    deadline=math.inf,
    peer_name="server.example",
    trust=ROOT.trust(),
    identities=(CLIENT,),
)
AS_SERVER = replace(AS_CLIENT, id=2, role=Role.SERVER, peer_name=None, identities=(SERVER,))
Outcome = Result | BaseException


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(coroutine, 20))


def exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += sock.recv(size - len(data))
    return data


async def shake(sock: socket.socket, request: Request, handshaker: Handshaker = PSP) -> Outcome:
    """Run one end; when it has failed its socket is closed, as the service does."""
    readiness = Readiness(asyncio.get_running_loop())
    endpoint = StreamEndpoint(sock, readiness)
    try:
        return await handshaker.handshake(request, endpoint)
    except Exception as error:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
        return error
    finally:
        endpoint.leave()
        readiness.close()


async def both(
    near: socket.socket,
    far: socket.socket,
    client: Request = AS_CLIENT,
    server: Request = AS_SERVER,
    handshakers: tuple[Handshaker, Handshaker] = (PSP, PSP),
) -> tuple[Outcome, Outcome]:
    first, second = handshakers
    return await asyncio.gather(shake(near, client, first), shake(far, server, second))


def outcomes(
    client: Request = AS_CLIENT, server: Request = AS_SERVER, *handshakers: Handshaker
) -> tuple[Outcome, Outcome]:
    near, far = tcp_pair()
    with near, far:
        return run(both(near, far, client, server, handshakers or (PSP, PSP)))  # type: ignore[arg-type]


def results(client: Request = AS_CLIENT, server: Request = AS_SERVER, *handshakers: Handshaker) -> list[Result]:
    found = []
    for outcome in outcomes(client, server, *handshakers):
        assert isinstance(outcome, Result), outcome
        found.append(outcome)
    return found


def established(result: Result, role: Role) -> EstablishedSession:
    """Return the session as the consumer gets it: through the specification."""
    codec = attribute_codec(PspProtocol().specification, "session")
    return EstablishedSession(
        protocol="psp",
        role=role,
        peer=result.peer,
        alpn=result.alpn,
        in_kernel=result.in_kernel,
        parameters=codec.decode(codec.encode(result.session)),
        tags=result.tags,
    )


def streams(near: socket.socket, far: socket.socket) -> tuple[PspStream, PspStream]:
    first, second = run(both(near, far))
    made = []
    for outcome, sock, role in ((first, near, Role.CLIENT), (second, far, Role.SERVER)):
        assert isinstance(outcome, Result), outcome
        sock.settimeout(10)
        stream = hooks.hsframework_attach_session(established(outcome, role), sock, False)
        assert isinstance(stream, PspStream)
        made.append(stream)
    return made[0], made[1]
