"""The protocol ``noise`` of the agent: the I/O around :mod:`.exchange`."""

from __future__ import annotations

from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import AuthMode, Demand, Endpoint, Handshaker, Protocol, Request, Result
from hsframework.netlink.spec import Specification

from hsframework_noise.exchange import Exchange
from hsframework_noise.framing import HEADER_SIZE, body_size, frame
from hsframework_noise.session import specification, to_parameters
from hsframework_noise.settings import Settings, load_keys
from hsframework_noise.wanted import read_request


class NoiseProtocol(Protocol):
    """Noise on TCP sockets.  ``noise`` is the group that consumers ask in."""

    name = "noise"
    groups = ("noise",)
    settings_type = Settings
    interface_version = 1
    # Its keys are those of its settings and its own attributes.
    auth_modes = frozenset({AuthMode.OWN, AuthMode.UNAUTHENTICATED})
    understands = frozenset[Demand]()

    @property
    def specification(self) -> Specification:
        return specification()

    def prepare(self, settings: Settings) -> NoiseHandshaker:
        return NoiseHandshaker(settings)


class NoiseHandshaker(Handshaker):
    """The handshaker of both roles.  Raises ConfigurationError for keys that cannot be loaded."""

    def __init__(self, settings: Settings) -> None:
        self._pattern = settings.pattern
        self._keys = load_keys(settings)
        specification()

    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        if request.kernel_consumer:
            raise HandshakeFailed(Failure.NO_KERNEL_SESSION, "no kernel takes a Noise session")
        wanted = read_request(request, default_pattern=self._pattern, keys=self._keys)
        exchange = Exchange(wanted, request.authorize)
        while not exchange.finished:
            if exchange.our_turn:
                await endpoint.send(frame(exchange.message()))
            else:
                record = await endpoint.receive_record(HEADER_SIZE, body_size(exchange.least_size))
                exchange.receive(record[HEADER_SIZE:])
        session = exchange.established
        return Result(peer=session.peer, session=to_parameters(session), tags={"noise": session.protocol_name})
