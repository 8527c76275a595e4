"""A handshake without I/O.

    while not exchange.finished:
        send(exchange.message()) if exchange.our_turn else exchange.receive(message of at least exchange.least_size)

The rules:

* The peer's static key is compared with those that are wanted as soon as it is known to be its own, which is before we
  say anything more.  ``authorize`` is called at the same moment.
* Our payload goes with our last message; those before it in XX are not yet encrypted, or not to a peer that is known.
* In IK the initiator is proved by its first transport message alone: its handshake message can be replayed (section
  7.7), and so can its payload.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import PeerIdentity, Secret

from hsframework_noise.library import BadKey, DoesNotAuthenticate, Machine
from hsframework_noise.wanted import Wanted


@dataclass(frozen=True, slots=True)
class Established:
    """The outcome of a handshake.  ``payloads``: of the peer's messages, in order."""

    protocol_name: str
    peer: PeerIdentity
    send_key: Secret
    receive_key: Secret
    handshake_hash: bytes
    payloads: tuple[Secret, ...]
    rekey_interval: int | None


class Exchange:
    """A handshake in either role.  After an error, HandshakeError, it is of no use."""

    def __init__(
        self, wanted: Wanted, authorize: Callable[[PeerIdentity], None], *, ephemeral: Secret | None = None
    ) -> None:
        self._wanted = wanted
        self._authorize = authorize
        self._index = 0
        self._payloads: list[Secret] = []
        self._peer: PeerIdentity | None = None
        known = next(iter(wanted.peers)) if wanted.initiator and wanted.pattern.knows_responder else None
        try:
            self._machine = Machine(
                wanted.protocol_name,
                initiator=wanted.initiator,
                static=wanted.static,
                remote_static=known,
                prologue=wanted.prologue,
                psk=wanted.psk,
                ephemeral=ephemeral,
            )
        except ValueError as error:
            raise HandshakeFailed(Failure.NO_KEY, str(error)) from None

    @property
    def finished(self) -> bool:
        return self._index == len(self._wanted.pattern.sizes)

    @property
    def our_turn(self) -> bool:
        return (self._index % 2 == 0) is self._wanted.initiator

    @property
    def least_size(self) -> int:
        """Bytes of the shortest message that can be the next."""
        return self._wanted.pattern.size(self._index, self._wanted.psk is not None)

    def message(self) -> bytes:
        """Return our next message."""
        is_last = self._index + 2 >= len(self._wanted.pattern.sizes)
        try:
            message = self._machine.write(self._wanted.payload.reveal() if is_last else b"")
        except BadKey:
            raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, "the peer's static key is none") from None
        self._index += 1
        return message

    def receive(self, message: bytes) -> None:
        """Take the peer's next message."""
        try:
            payload = self._machine.read(message)
        except DoesNotAuthenticate:
            detail = "another key, pre-shared key, prologue or pattern than ours, or changed on the way"
            raise HandshakeFailed(Failure.BAD_RECORD_MAC, f"handshake message {self._index + 1}: {detail}") from None
        except BadKey:
            raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, "a public key that is none") from None
        self._index += 1
        self._payloads.append(Secret(payload))
        self._judge()

    def _judge(self) -> None:
        key = self._machine.remote_static
        if key is None or self._peer is not None:
            return
        if self._wanted.peers and key not in self._wanted.peers:
            raise HandshakeFailed(Failure.WRONG_KEY, f"it is {key.hex()}")
        peer = PeerIdentity(public_key=key)
        self._authorize(peer)
        self._peer = peer

    @property
    def established(self) -> Established:
        """The session, once finished."""
        assert self._peer is not None
        send_key, receive_key, handshake_hash = self._machine.split()
        return Established(
            self._wanted.protocol_name,
            self._peer,
            send_key,
            receive_key,
            handshake_hash,
            tuple(self._payloads),
            self._wanted.rekey_interval,
        )
