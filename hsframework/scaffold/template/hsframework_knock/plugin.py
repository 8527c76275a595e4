"""The protocol knock for the agent: settings, and the I/O around :mod:`.exchange`."""

from __future__ import annotations

from dataclasses import dataclass

from hsframework.errors import ConfigurationError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import AuthMode, Demand, Endpoint, Handshaker, PeerIdentity, Protocol, Request, Result
from hsframework.netlink.spec import Specification, package_specification

from hsframework_knock.exchange import HEADER_SIZE, MAX_WORD, Exchange, body_size
from hsframework_knock.session import VERSION

SPECIFICATION = package_specification("hsframework_knock", "knock")


@dataclass(frozen=True)
class Settings:
    """The table ``[plugins.knock]``.  ``word``: for requests that have none."""

    word: str = "hello"

    def __post_init__(self) -> None:
        if not 1 <= len(self.word.encode()) <= MAX_WORD:
            raise ConfigurationError(f"word must have 1 to {MAX_WORD} bytes")


class KnockProtocol(Protocol):
    """The protocol; consumers submit requests in the group ``knock``."""

    name = "knock"
    groups = ("knock",)
    settings_type = Settings
    interface_version = 1
    # Proofs of identity and demands (Demand.ALPN …) that the handshaker keeps to; requests with others are refused.
    auth_modes = frozenset({AuthMode.OWN, AuthMode.UNAUTHENTICATED})
    understands = frozenset[Demand]()

    @property
    def specification(self) -> Specification:
        return SPECIFICATION

    def prepare(self, settings: Settings) -> KnockHandshaker:
        # A real protocol loads its keys here, because no handshake may open a file.
        return KnockHandshaker(settings)


class KnockHandshaker(Handshaker):
    """The handshaker, one object for all handshakes; the state of each is in its coroutine."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        if request.kernel_consumer:
            raise HandshakeFailed(Failure.NO_KERNEL_SESSION, "no kernel takes a session of knock")
        word = request.attributes.get("word", self._settings.word)
        exchange = Exchange(request.role, word.encode())
        while not exchange.finished:
            if exchange.our_turn:
                await endpoint.send(exchange.message())
            else:
                exchange.receive(await endpoint.receive_record(HEADER_SIZE, body_size))
        # The peer has proved nothing, so it is anonymous; the session is not encrypted, so it has no keys.
        return Result(peer=PeerIdentity(), session={"version": VERSION}, tags={"word": word})
