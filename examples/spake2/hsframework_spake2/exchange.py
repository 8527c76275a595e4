"""One handshake without I/O.

    client                                        server
    HELLO version, length, identity, share   ->
                                             <-   SHARE share
    CLIENT_CONFIRM confirmation              ->   compares it, authorizes
                                             <-   SERVER_CONFIRM confirmation

The rules:

* The client confirms first: a client that guesses learns from the server's silence that this one guess was wrong, and
  the server knows that there was one.
* An identity that is not known gets a share as any other, and its confirmation is refused as a wrong one.
* A side has its session after the other's confirmation, never before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Role, Secret

from hsframework_spake2.curve import SIZE, NotAPoint
from hsframework_spake2.spake2 import CONFIRMATION_SIZE, Agreed, Side

VERSION = 1
HEADER_SIZE = 3
MAX_IDENTITY = 255
"""Bytes."""
HELLO, SHARE, CLIENT_CONFIRM, SERVER_CONFIRM = 1, 2, 3, 4
KEY_SIZE = 32
_CONTEXT = b"hsframework-spake2 1"
_SIZES = {
    HELLO: range(2 + 1 + SIZE, 2 + MAX_IDENTITY + SIZE + 1),
    SHARE: range(SIZE, SIZE + 1),
    CLIENT_CONFIRM: range(CONFIRMATION_SIZE, CONFIRMATION_SIZE + 1),
    SERVER_CONFIRM: range(CONFIRMATION_SIZE, CONFIRMATION_SIZE + 1),
}


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one end's session, 32 bytes each."""

    send_key: Secret
    receive_key: Secret


def body_size(kind: int) -> Callable[[bytes], int]:
    """Return a function for ``Endpoint.receive_record`` that refuses any message but one of this kind, unread."""

    def size(header: bytes) -> int:
        length = int.from_bytes(header[1:], "big")
        if header[0] not in _SIZES:
            raise HandshakeFailed(Failure.GARBAGE, f"a message of type {header[0]}")
        if header[0] != kind:
            raise HandshakeFailed(Failure.UNEXPECTED_MESSAGE, f"type {header[0]} where {kind} is due")
        if length not in _SIZES[kind]:
            raise HandshakeFailed(Failure.GARBAGE, f"a message of type {kind} with {length} bytes")
        return length

    return size


def hello_of(record: bytes) -> tuple[bytes, bytes]:
    """Return the identity and the share in a client's first message, with its header.  Raises HandshakeFailed."""
    body = record[HEADER_SIZE:]
    if body[0] != VERSION:
        raise HandshakeFailed(Failure.VERSION, f"version {body[0]}")
    end = 2 + body[1]
    if end == 2 or len(body) != end + SIZE:
        raise HandshakeFailed(Failure.GARBAGE, "a first message whose identity has another length than it says")
    return body[2:end], body[end:]


class Exchange:
    """The state of one handshake, in either role.  After an error, HandshakeError, it is of no use."""

    def __init__(self, role: Role, password: int, *, identity: bytes, server: bytes) -> None:
        """Begin a handshake.

        ``password``: the scalar of the password.  ``identity``: the client's.  ``server``: the server's name.
        """
        self._role = role
        self._identity = identity
        self._side = Side(role, password, client=identity, server=server)
        self._agreed: Agreed | None = None
        self._confirmed = False

    def share(self) -> bytes:
        """Return our first message: HELLO or SHARE."""
        if self._role is Role.CLIENT:
            head = bytes((VERSION, len(self._identity)))
            return _framed(HELLO, head + self._identity + self._side.share)
        return _framed(SHARE, self._side.share)

    def agree(self, share: bytes) -> None:
        """Take the peer's share, without its header."""
        try:
            self._agreed = self._side.agree(share, _CONTEXT)
        except NotAPoint as error:
            raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, f"the peer's share: {error}") from None

    def confirmation(self) -> bytes:
        """Return our confirmation."""
        assert self._agreed is not None
        kind = CLIENT_CONFIRM if self._role is Role.CLIENT else SERVER_CONFIRM
        return _framed(kind, self._agreed.ours)

    def confirm(self, record: bytes) -> None:
        """Compare the peer's confirmation, with its header.  Raises HandshakeFailed unless it has our password."""
        assert self._agreed is not None
        if Secret(record[HEADER_SIZE:]) != self._agreed.theirs:
            raise HandshakeFailed(Failure.BAD_BINDER, "another password, or no password for this identity")
        self._confirmed = True

    def keys(self) -> Keys:
        """Return the keys of the session, after the peer's confirmation."""
        assert self._agreed is not None and self._confirmed
        both = HKDF(SHA256(), 2 * KEY_SIZE, None, _CONTEXT + b" session").derive(self._agreed.key.reveal())
        client, server = Secret(both[:KEY_SIZE]), Secret(both[KEY_SIZE:])
        return Keys(client, server) if self._role is Role.CLIENT else Keys(server, client)


def _framed(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + len(body).to_bytes(2, "big") + body
