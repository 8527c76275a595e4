"""The only module that touches the library (noiseprotocol, which has no types).  It adds two things that it lacks:

* the peer's static key, which the library forgets when the handshake is over;
* errors of one kind, whichever of the library's or of cryptography's it was.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hsframework.interface import Secret
from noise.backends.default import noise_backend
from noise.connection import Keypair, NoiseConnection
from noise.exceptions import NoiseMaxNonceError, NoiseValueError
from noise.noise_protocol import NoiseProtocol
from noise.state import CipherState

KEY_SIZE = 32
TAG_SIZE = 16
MAX_MESSAGE = 65535
"""Bytes of any Noise message, handshake or transport (section 3)."""
LAST_NONCE = 2**64 - 2
"""2^64-1 is reserved for rekeying (section 5.1)."""


class DoesNotAuthenticate(Exception):
    """A message that does not authenticate: wrong key, PSK, prologue or order, or changed on the way."""


class BadKey(Exception):
    """A public key that gives the all-zero secret, or none at all."""


class NoncesUsedUp(Exception):
    """A key that is used up: no further message may be sent or received under it."""


def public_key(private: Secret) -> bytes:
    """Return the public half of a private X25519 key of 32 bytes."""
    key = X25519PrivateKey.from_private_bytes(private.reveal())
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


class Machine:
    """A HandshakeState.  The caller keeps to the order of messages."""

    def __init__(
        self,
        protocol_name: str,
        *,
        initiator: bool,
        static: Secret,
        remote_static: bytes | None,
        prologue: bytes,
        psk: Secret | None,
        ephemeral: Secret | None = None,
    ) -> None:
        """Begin a handshake.

        ``remote_static``: for a pattern in which it is known beforehand.  ``ephemeral``: for test vectors alone.
        """
        connection = NoiseConnection.from_name(protocol_name.encode())
        if initiator:
            connection.set_as_initiator()
        else:
            connection.set_as_responder()
        if prologue:
            connection.set_prologue(prologue)
        if psk is not None:
            connection.set_psks(psk.reveal())
        connection.set_keypair_from_private_bytes(Keypair.STATIC, static.reveal())
        if remote_static is not None:
            connection.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, remote_static)
        if ephemeral is not None:
            connection.set_keypair_from_private_bytes(Keypair.EPHEMERAL, ephemeral.reveal())
        connection.start_handshake()
        self._connection = connection
        self._state = connection.noise_protocol.handshake_state

    @property
    def finished(self) -> bool:
        return bool(self._connection.handshake_finished)

    @property
    def remote_static(self) -> bytes | None:
        """The peer's static key; None: not received yet."""
        key = getattr(self._state.rs, "public_bytes", None)
        return None if key is None else bytes(key)

    def write(self, payload: bytes) -> bytes:
        """Return our next message.  Raises BadKey."""
        try:
            return bytes(self._connection.write_message(payload))
        except ValueError as error:
            raise BadKey from error

    def read(self, message: bytes) -> bytes:
        """Return the payload of the peer's next message.  Raises DoesNotAuthenticate, BadKey, and is then of no use."""
        try:
            return bytes(self._connection.read_message(message))
        except InvalidTag:
            raise DoesNotAuthenticate from None
        except (NoiseValueError, ValueError) as error:
            raise BadKey from error

    def split(self) -> tuple[Secret, Secret, bytes]:
        """Return the keys for sending and for receiving, and the handshake hash, after the last message."""
        protocol = self._connection.noise_protocol
        sending, receiving = protocol.cipher_state_encrypt, protocol.cipher_state_decrypt
        return Secret(sending.k), Secret(receiving.k), bytes(self._connection.get_handshake_hash())


class Cipher:
    """A CipherState: one direction of a session."""

    def __init__(self, protocol_name: str, key: Secret, nonce: int = 0) -> None:
        self._state = CipherState(NoiseProtocol(protocol_name.encode(), noise_backend))
        self._state.initialize_key(key.reveal())
        self._state.set_nonce(nonce)

    @property
    def nonce(self) -> int:
        """The nonce of the next message."""
        return int(self._state.n)

    def encrypt(self, plaintext: bytes) -> bytes:
        """Return the encrypted message.  Raises NoncesUsedUp."""
        try:
            return bytes(self._state.encrypt_with_ad(b"", plaintext))
        except NoiseMaxNonceError:
            raise NoncesUsedUp from None

    def decrypt(self, message: bytes) -> bytes:
        """Return the plaintext of a message.  Raises DoesNotAuthenticate, NoncesUsedUp."""
        try:
            return bytes(self._state.decrypt_with_ad(b"", message))
        except InvalidTag:
            raise DoesNotAuthenticate from None
        except NoiseMaxNonceError:
            raise NoncesUsedUp from None

    def rekey(self) -> None:
        """Replace the key by one derived from it; the nonce goes on (section 11.3)."""
        self._state.rekey()
