"""Record framing (RFC 8446 section 5): the five-byte header, and alert records before there are keys.  Sans-IO.

A record is ``type(1) version(2) length(2)`` and ``length`` bytes.  A header's fields are checked here, so that a
peer that speaks something else is told apart (``GARBAGE``) from one that breaks a limit (``RECORD_OVERFLOW``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hsframework.failures import Failure, HandshakeFailed

HEADER_SIZE = 5
MAX_PLAINTEXT = 2**14
MAX_CIPHERTEXT = 2**14 + 256
MAX_PROTECTED = MAX_PLAINTEXT + 1 + 16
"""Bytes of a protected record's body at most: content, type and the tag, which is as long in each suite that we speak.
More of padding is more than section 5.4 allows, and OpenSSL takes it."""

CHANGE_CIPHER_SPEC = 20
CHANGE_CIPHER_SPEC_SIZE = HEADER_SIZE + 1
ALERT = 21
HANDSHAKE = 22
APPLICATION_DATA = 23

CLOSE_NOTIFY = 0
USER_CANCELED = 90
ALERT_LEVEL_WARNING = 1
ALERT_LEVEL_FATAL = 2
ALERT_SIZE = 2

_OTHER_VERSION = re.compile(rb"\x14\x03[^\x03]\0", re.DOTALL)
_TYPES = frozenset((CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA))


def body_size(header: bytes) -> int:
    """Return the length that a record's header announces, 0 to 2^14 + 17.

    Raises HandshakeFailed: GARBAGE for what is no TLS record, RECORD_OVERFLOW for one that is too long.
    The minor version is not looked at (section 5.1: legacy_record_version is ignored).
    """
    if header[0] not in _TYPES or header[1] != 3:
        raise HandshakeFailed(Failure.GARBAGE, f"no TLS record starts with {header[:3].hex()}")
    length = int.from_bytes(header[3:5], "big")
    if length > (MAX_PROTECTED if header[0] == APPLICATION_DATA else MAX_PLAINTEXT):
        raise HandshakeFailed(Failure.RECORD_OVERFLOW, f"{length} bytes")
    return length


def whole_records(data: bytes) -> int:
    """Return the number of bytes at the start of ``data`` that are whole records; 0: not even one.

    Raises HandshakeFailed as :func:`body_size` for the first header; what follows a later bad one is left for later.
    """
    position, size = 0, len(data)
    try:
        while (body := position + HEADER_SIZE) <= size:
            length = data[body - 2] << 8 | data[body - 1]
            # An ordinary header takes no call: this is done for each record of each flight.
            if length > MAX_PLAINTEXT or data[position] not in _TYPES or data[position + 1] != 3:
                length = body_size(data[position:body])
            if body + length > size:
                break
            position = body + length
    except HandshakeFailed:
        if not position:
            raise
    return position


def split_records(data: bytes) -> Iterator[bytes]:
    """Yield the records of ``data``, which holds whole ones."""
    position = 0
    while position < len(data):
        end = position + HEADER_SIZE + int.from_bytes(data[position + 3 : position + 5], "big")
        yield data[position:end]
        position = end


def last_record(data: bytes) -> bytes:
    """Return the last of the whole records that ``data`` holds; b"" for no data."""
    last = b""
    for last in split_records(data):  # noqa: B007  the last one is wanted
        pass
    return last


def with_versions_ignored(data: bytes) -> bytes:
    """Return whole records with the version of TLS 1.2 in each change_cipher_spec.

    legacy_record_version is to be ignored (section 5.1), and OpenSSL refuses another one behind a ClientHello.
    """
    if not _OTHER_VERSION.search(data):
        return data
    return b"".join(
        record[:1] + b"\3\3" + record[3:] if record[0] == CHANGE_CIPHER_SPEC else record
        for record in split_records(data)
    )


def plaintext_alert(description: int) -> bytes:
    """Return a fatal alert as it goes out before there are keys."""
    return bytes((ALERT, 3, 3, 0, 2, ALERT_LEVEL_FATAL, description))
