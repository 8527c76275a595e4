"""The TLS handshake of an in-kernel QUIC socket, without I/O: CRYPTO messages by level go in, actions come out.

::

    handshake = KernelHandshake(options, parameters)
    perform(handshake.start())                     # a client's ClientHello; nothing for a server
    while not handshake.finished:
        perform(handshake.feed(*receive()))

The rules:

* Actions are performed in their order.  The last :class:`Install` is what makes the kernel call the connection
  established; what is sent after it (a client's Finished, a server's ticket) is accepted all the same.
* ``finished`` once nothing more may be read: what follows is the consumer's.
* The peer's transport parameters are told to the kernel in the middle of ``feed``, before ours are asked for and before
  any secret that rests on them; ``parameters`` does both, and raises HandshakeError.
* ``feed`` raises HandshakeError.  There is nobody to tell: only closing the socket ends the connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from aioquic.buffer import Buffer
from aioquic.tls import CipherSuite, Direction, Epoch

from hsframework.errors import HandshakeError
from hsframework.interface import Role, Secret
from hsframework.tls.messages import QUIC_TRANSPORT_PARAMETERS
from hsframework_quic.aioquic_adapter.tls import Agreed, VerifiedContext
from hsframework_quic.aioquic_adapter.tls_options import TlsOptions
from hsframework_quic.kernel.structs import APPLICATION, HANDSHAKE, INITIAL, CryptoSecret

_EPOCHS = {INITIAL: Epoch.INITIAL, HANDSHAKE: Epoch.HANDSHAKE, APPLICATION: Epoch.ONE_RTT}
_LEVELS = {epoch: level for level, epoch in _EPOCHS.items()}
_FLIGHT_SIZE = 128 * 1024


@dataclass(frozen=True, slots=True)
class Send:
    """TLS messages for the peer.  ``more``: others follow at once, so that the kernel may wait with its packet."""

    level: int
    data: bytes
    more: bool


@dataclass(frozen=True, slots=True)
class Install:
    """A secret for the kernel."""

    secret: CryptoSecret


@dataclass(frozen=True, slots=True)
class Select:
    """A server's choice of application protocol, for its consumer to read."""

    alpn: str


Action = Send | Install | Select


class Parameters(Protocol):
    """The kernel's and the peer's transport parameters.  Both raise HandshakeError."""

    def ours(self) -> bytes:
        """Return the body of our extension."""
        ...

    def theirs(self, body: bytes) -> None:
        """Give the kernel the peer's."""
        ...


class KernelHandshake:
    """A handshake in either role."""

    def __init__(self, options: TlsOptions, parameters: Parameters) -> None:
        self._role = options.role
        self._parameters = parameters
        self._actions: list[Action] = []
        self._buffers = {epoch: Buffer(capacity=_FLIGHT_SIZE) for epoch in _LEVELS}
        self._context = VerifiedContext(options)
        self._context.alpn_cb = self._on_parameters
        self._context.update_traffic_key_cb = self._on_secret

    @property
    def finished(self) -> bool:
        """True if nothing more may be read."""
        return self._context.finished

    @property
    def agreed(self) -> Agreed:
        """The outcome, once ``finished``."""
        return self._context.agreed

    def start(self) -> list[Action]:
        """Return the actions with a client's ClientHello; a server waits for one."""
        if self._role is Role.SERVER:
            return []
        self._context.handshake_extensions = [(QUIC_TRANSPORT_PARAMETERS, self._parameters.ours())]
        return self._handle(b"")

    def feed(self, level: int, data: bytes) -> list[Action]:
        """Take the data of one read and return actions; ``level`` as the kernel has it, an unknown level is refused."""
        if self.finished:
            raise RuntimeError("the handshake has finished: this is not ours")
        self._context.level = _EPOCHS.get(level)
        return self._handle(data)

    def take_ticket(self, message: bytes) -> None:
        """Take a client's NewSessionTicket messages, which the kernel kept, and call ``TlsOptions.keep``."""
        self._context.level = Epoch.ONE_RTT
        self._handle(message)

    def _handle(self, data: bytes) -> list[Action]:
        try:
            self._context.handle_message(data, self._buffers)
        except Exception:
            if self._context.failure is None:
                raise
            raise self._told() from None
        actions, self._actions = self._actions, []
        return [*actions, *self._output()]

    def _told(self) -> HandshakeError:
        failure = self._context.failure
        assert failure is not None
        return failure

    def _output(self) -> Iterator[Send]:
        flight = [(level, self._buffers[epoch].data) for epoch, level in _LEVELS.items()]
        flight = [(level, data) for level, data in flight if data]
        for buffer in self._buffers.values():
            buffer.seek(0)
        for index, (level, data) in enumerate(flight, start=1):
            yield Send(level, data, more=index < len(flight))

    def _on_parameters(self, alpn: str | None) -> None:
        """Exchange parameters with the kernel: aioquic has read the peer's extensions, and not written a server's."""
        received = dict(self._context.received_extensions or ())
        self._parameters.theirs(received[QUIC_TRANSPORT_PARAMETERS])
        if self._role is Role.SERVER:
            self._context.handshake_extensions = [(QUIC_TRANSPORT_PARAMETERS, self._parameters.ours())]
            if alpn is not None:
                self._actions.append(Select(alpn))

    def _on_secret(self, direction: Direction, epoch: Epoch, suite: CipherSuite, secret: bytes) -> None:
        ours = direction is Direction.ENCRYPT
        self._actions.append(Install(CryptoSecret(ours, _LEVELS[epoch], int(suite), Secret(secret))))
