"""The protection of records, one direction each (RFC 8446 sections 5.2 to 5.5).  Sans-IO.

A :class:`Sealer` and an :class:`Opener` own a traffic secret, its keys and the sequence number under them.  Neither
knows what the records mean.  They share nothing, so one thread may send while another receives.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag

from hsframework.failures import Failure
from hsframework.interface import Secret
from hsframework_tls13.ciphers import MAX_SEQUENCE, NONCE_SIZE, TAG_SIZE, Aead, CipherSuite
from hsframework_tls13.events import SessionBroken
from hsframework_tls13.keyschedule import next_traffic_secret, traffic_keys
from hsframework_tls13.records import APPLICATION_DATA, HEADER_SIZE, MAX_CIPHERTEXT, MAX_PLAINTEXT

_VERSION = b"\x03\x03"
_TYPE_AND_VERSION = bytes((APPLICATION_DATA,)) + _VERSION


class _Direction:
    """A traffic secret and the keys that follow from it.  ``sequence``: of the next record."""

    def __init__(self, suite: CipherSuite, secret: Secret, sequence: int = 0) -> None:
        if not 0 <= sequence <= MAX_SEQUENCE:
            raise ValueError(f"a sequence number is from 0 to 2^64 - 1, not {sequence}")
        self.suite = suite
        self.sequence = sequence
        self._install(secret)

    def _install(self, secret: Secret) -> None:
        keys = traffic_keys(self.suite, secret.reveal())
        self.secret = secret
        self._iv = int.from_bytes(keys.iv, "big")
        self._aead: Aead = self.suite.aead(keys.key)

    def next_generation(self) -> None:
        """Replace secret and keys by the next ones, as after a KeyUpdate (section 7.2)."""
        self._install(Secret(next_traffic_secret(self.suite, self.secret.reveal())))
        self.sequence = 0

    def _nonce(self) -> bytes:
        if self.sequence > MAX_SEQUENCE:
            raise SessionBroken(Failure.INTERNAL, "the sequence numbers of this key are used up")
        return (self._iv ^ self.sequence).to_bytes(NONCE_SIZE, "big")


class Sealer(_Direction):
    """The protection of our records."""

    @property
    def exhausted(self) -> bool:
        """True if the key has protected as much as it should; the next record has to be a KeyUpdate."""
        return self.sequence >= self.suite.record_limit

    def seal(self, content_type: int, content: bytes) -> bytes:
        """Return one protected record; ``content`` is at most 2^14 bytes."""
        if len(content) > MAX_PLAINTEXT:
            raise ValueError(f"a record holds {MAX_PLAINTEXT} bytes, not {len(content)}")
        header = _TYPE_AND_VERSION + (len(content) + 1 + TAG_SIZE).to_bytes(2, "big")
        protected = self._aead.encrypt(self._nonce(), content + bytes((content_type,)), header)
        self.sequence += 1
        return header + protected


class Opener(_Direction):
    """The reading of the peer's protected records.  ``max_payload``: bytes of a record's content at most."""

    def __init__(self, suite: CipherSuite, secret: Secret, sequence: int = 0, max_payload: int = MAX_PLAINTEXT) -> None:
        super().__init__(suite, secret, sequence)
        self._max_payload = max_payload

    def open(self, header: bytes, protected: bytes) -> tuple[int, bytes]:
        """Return ``(content type, content)`` of one record.  Raises SessionBroken."""
        if len(protected) <= TAG_SIZE:
            raise SessionBroken(Failure.BAD_RECORD_MAC, "a record too short to be protected")
        try:
            inner = self._aead.decrypt(self._nonce(), protected, header)
        except InvalidTag:
            raise SessionBroken(Failure.BAD_RECORD_MAC, f"record {self.sequence}") from None
        self.sequence += 1
        if len(inner) > MAX_PLAINTEXT + 1:
            raise SessionBroken(Failure.RECORD_OVERFLOW, f"{len(inner) - 1} bytes inside a record")
        content = inner.rstrip(b"\0")
        if not content:
            raise SessionBroken(Failure.UNEXPECTED_MESSAGE, "a record of padding alone")
        if len(content) > self._max_payload + 1:
            raise SessionBroken(Failure.RECORD_OVERFLOW, f"{len(content) - 1} bytes, agreed were {self._max_payload}")
        return content[-1], content[:-1]


def protected_size(header: bytes) -> int:
    """Return the body size of a protected record, from its header.  Raises SessionBroken."""
    if header[0] != APPLICATION_DATA:
        raise SessionBroken(Failure.UNEXPECTED_MESSAGE, f"an unprotected record of type {header[0]}")
    if header[1:3] != _VERSION:
        raise SessionBroken(Failure.GARBAGE, f"record version {header[1:3].hex()}")
    size = int.from_bytes(header[3:HEADER_SIZE], "big")
    if size > MAX_CIPHERTEXT:
        raise SessionBroken(Failure.RECORD_OVERFLOW, f"{size} bytes")
    return size
