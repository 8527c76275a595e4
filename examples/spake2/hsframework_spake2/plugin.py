"""The protocol ``spake2`` of the agent: the I/O around :mod:`.exchange`."""

from __future__ import annotations

import asyncio
import errno
import secrets

from hsframework.errors import HandshakeError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import (
    AuthMode,
    Demand,
    Endpoint,
    Handshaker,
    PeerIdentity,
    Protocol,
    Request,
    Result,
    Role,
    Secret,
)
from hsframework.netlink.spec import Specification

from hsframework_spake2.exchange import (
    CLIENT_CONFIRM,
    HEADER_SIZE,
    HELLO,
    MAX_IDENTITY,
    SERVER_CONFIRM,
    SHARE,
    Exchange,
    body_size,
    hello_of,
)
from hsframework_spake2.password import scalar_of
from hsframework_spake2.session import specification, to_parameters
from hsframework_spake2.settings import Settings


class Spake2Protocol(Protocol):
    """SPAKE2 on TCP sockets.  ``spake2`` is the group that consumers ask in."""

    name = "spake2"
    groups = ("spake2",)
    settings_type = Settings
    interface_version = 1
    # The password comes as a pre-shared key.  A request with a trust, a name or ALPN is refused.
    auth_modes = frozenset({AuthMode.PSK})
    understands = frozenset[Demand]()

    @property
    def specification(self) -> Specification:
        return specification()

    def prepare(self, settings: Settings) -> Spake2Handshaker:
        return Spake2Handshaker(settings)


class Spake2Handshaker(Handshaker):
    """The handshaker of both roles; the state of each handshake is in its coroutine."""

    def __init__(self, settings: Settings) -> None:
        self._cost = settings.cost
        specification()

    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        if request.kernel_consumer:
            raise HandshakeFailed(Failure.NO_KERNEL_SESSION, "no kernel takes a session of SPAKE2")
        serve = self._client if request.role is Role.CLIENT else self._server
        exchange, identity = await serve(request, endpoint, request.attributes.get("server", "").encode())
        return Result(peer=PeerIdentity(psk_identity=identity), session=to_parameters(exchange.keys()))

    async def _client(self, request: Request, endpoint: Endpoint, server: bytes) -> tuple[Exchange, bytes]:
        if not request.psks:
            raise HandshakeFailed(Failure.NO_KEY, "give a pre-shared key: an identity and its password")
        identity, password = request.psks[0].identity, request.psks[0].key
        if not 1 <= len(identity) <= MAX_IDENTITY:
            raise HandshakeError(
                f"the identity has {len(identity)} bytes; give 1 to {MAX_IDENTITY}", errno=errno.EINVAL
            )
        exchange = Exchange(Role.CLIENT, await self._scalar(password, identity), identity=identity, server=server)
        await endpoint.send(exchange.share())
        record = await endpoint.receive_record(HEADER_SIZE, body_size(SHARE))
        exchange.agree(record[HEADER_SIZE:])
        await endpoint.send(exchange.confirmation())
        exchange.confirm(await endpoint.receive_record(HEADER_SIZE, body_size(SERVER_CONFIRM)))
        return exchange, identity

    async def _server(self, request: Request, endpoint: Endpoint, server: bytes) -> tuple[Exchange, bytes]:
        identity, share = hello_of(await endpoint.receive_record(HEADER_SIZE, body_size(HELLO)))
        known = await request.psk_lookup(identity)
        password = Secret(secrets.token_bytes(32)) if known is None else known.key
        exchange = Exchange(Role.SERVER, await self._scalar(password, identity), identity=identity, server=server)
        exchange.agree(share)
        await endpoint.send(exchange.share())
        exchange.confirm(await endpoint.receive_record(HEADER_SIZE, body_size(CLIENT_CONFIRM)))
        request.authorize(PeerIdentity(psk_identity=identity))
        await endpoint.send(exchange.confirmation())
        return exchange, identity

    async def _scalar(self, password: Secret, identity: bytes) -> int:
        # A tenth of a second: in a thread, or all other handshakes would wait.
        return await asyncio.to_thread(scalar_of, password, identity, self._cost)
