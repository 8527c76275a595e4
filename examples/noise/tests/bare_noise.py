"""The other end of a connection: noiseprotocol as its README uses it, on a blocking socket, with none of our code."""

from __future__ import annotations

import socket
from collections.abc import Callable

from noise.connection import Keypair, NoiseConnection

PATIENCE = 30.0


class BarePeer:
    """A peer that sends Noise messages with a length of two bytes before each."""

    def __init__(
        self,
        sock: socket.socket,
        name: str,
        *,
        initiator: bool,
        static: bytes,
        remote_static: bytes | None = None,
        prologue: bytes = b"",
        psk: bytes | None = None,
        rekey_interval: int | None = None,
    ) -> None:
        sock.settimeout(PATIENCE)
        self.socket = sock
        self.noise = NoiseConnection.from_name(name.encode())
        if initiator:
            self.noise.set_as_initiator()
        else:
            self.noise.set_as_responder()
        if prologue:
            self.noise.set_prologue(prologue)
        if psk is not None:
            self.noise.set_psks(psk)
        self.noise.set_keypair_from_private_bytes(Keypair.STATIC, static)
        if remote_static is not None:
            self.noise.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, remote_static)
        self.noise.start_handshake()
        self._our_turn = initiator
        self._counts = {"sent": 0, "received": 0}
        self._rekey_interval = rekey_interval

    def handshake(self, payload: bytes = b"", *, and_then: bytes | None = None) -> list[bytes]:
        """Run the handshake; ``payload`` goes with each of our messages.  Return the peer's payloads.

        ``and_then``: a transport message in the same segment as the last handshake message, where that is ours.
        """
        heard = []
        while not self.noise.handshake_finished:
            if self._our_turn:
                message = _framed(bytes(self.noise.write_message(payload)))
                if self.noise.handshake_finished and and_then is not None:
                    message += self._sealed(and_then)
                self.socket.sendall(message)
            else:
                heard.append(bytes(self.noise.read_message(self._next())))
            self._our_turn = not self._our_turn
        return heard

    @property
    def handshake_hash(self) -> bytes:
        return bytes(self.noise.get_handshake_hash())

    def send(self, data: bytes) -> None:
        """Send one transport message; an empty one is the goodbye."""
        self.socket.sendall(self._sealed(data))

    def receive(self) -> bytes:
        """Return the next transport message."""
        data = bytes(self.noise.decrypt(self._next()))
        self._count("received", self.noise.rekey_inbound_cipher)
        return data

    def _sealed(self, data: bytes) -> bytes:
        message = _framed(bytes(self.noise.encrypt(data)))
        self._count("sent", self.noise.rekey_outbound_cipher)
        return message

    def _count(self, which: str, rekey: Callable[[], None]) -> None:
        self._counts[which] += 1
        if self._rekey_interval is not None and self._counts[which] % self._rekey_interval == 0:
            rekey()

    def _next(self) -> bytes:
        return self._exactly(int.from_bytes(self._exactly(2), "big"))

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise ConnectionError("the connection has ended")
            data += part
        return data


def _framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message
