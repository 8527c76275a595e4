"""The trust file: a sealed memfd with trust anchors and revocation lists, from the dispatcher to an agent.

They are large (a system's bundle has 200 KiB, a revocation list may have megabytes) and many requests share them, so
they are sent once to each worker.  A consumer that brings a large trust of its own sends such a file to the dispatcher,
which hands it on as it is.  The content is a sequence of records::

    u32 kind (1 anchor, 2 revocation list), u32 length, then so many bytes of DER       (host byte order, no padding)
    u32 kind (3 a list is required of every authority), u32 length 0
    u32 kind (4 a client's certificate may be one for servers), u32 length 0
    u32 kind (5 the admission list), u32 length, then its entries in UTF-8, a line feed after each
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct

from hsframework.errors import MessageError
from hsframework.interface import ClientUsage, CrlCheck, Trust

ANCHOR = 1
REVOCATION_LIST = 2
LISTS_REQUIRED = 3
CLIENTS_AS_SERVERS = 4
ADMISSION = 5
MAX_SIZE = 256 * 1024 * 1024
"""Bytes of a trust file at most."""

MAX_GIVEN_SIZE = 64 * 1024 * 1024
"""Bytes of a consumer's trust file at most: some 1,800,000 entries of a revocation list."""
MAX_GIVEN_ANCHORS = 1024 * 1024
"""Bytes of the anchors and the admission list in a consumer's trust file at most; the system's own has
200 KiB."""
MAX_GIVEN_RECORDS = 1024
"""Records of a consumer's trust file at most."""

_RECORD = struct.Struct("=II")
_KINDS = (ANCHOR, REVOCATION_LIST, LISTS_REQUIRED, CLIENTS_AS_SERVERS, ADMISSION)
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def create_trust_file(trust: Trust) -> tuple[int, int]:
    """Write a trust to a sealed memfd; return its fd, which the caller owns, and its size in bytes.  Raises OSError."""
    content = encode_trust(trust)
    fd = os.memfd_create("hsframework-trust", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd, len(content)


def read_trust_file(fd: int, size: int) -> Trust:
    """Read the trust in a sealed memfd of ``size`` bytes.  The fd stays the caller's.

    Raises MessageError for any other file, another size, or wrong contents; OSError or MemoryError for want of memory.
    """
    _check_sealed(fd, size, MAX_SIZE)
    if not size:
        return Trust(())
    with mmap.mmap(fd, size, mmap.MAP_PRIVATE, mmap.PROT_READ) as content:
        return decode_trust(content)


def check_given(fd: int, size: int) -> None:
    """Check a consumer's trust file by its size, its seals and the heads of its records; no certificate is read.

    Raises MessageError.
    """
    _check_sealed(fd, size, MAX_GIVEN_SIZE)
    offset, anchors = 0, 0
    for _ in range(MAX_GIVEN_RECORDS):
        if offset == size:
            return
        head = os.pread(fd, _RECORD.size, offset)
        kind, length = _RECORD.unpack(head) if len(head) == _RECORD.size else (0, 0)
        offset += _RECORD.size + length
        anchors += length if kind in (ANCHOR, ADMISSION) else 0
        if kind not in _KINDS or offset > size or anchors > MAX_GIVEN_ANCHORS:
            raise MessageError("a trust file is cut off, has a record of unknown kind, or more than 1 MiB of anchors")
    raise MessageError(f"a trust file has more than {MAX_GIVEN_RECORDS} records")


def _check_sealed(fd: int, size: int, most: int) -> None:
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:  # EINVAL; this call allocates nothing
        raise MessageError("trust comes in a memfd") from None
    if seals & _SEALS != _SEALS or os.fstat(fd).st_size != size or size > most:
        raise MessageError(f"a trust file is not sealed, not of the size that its message says, or above {most} bytes")


def encode_trust(trust: Trust) -> bytes:
    """Encode a trust as records."""
    parts: list[bytes] = []
    for kind, items in ((ANCHOR, trust.anchors), (REVOCATION_LIST, trust.crls)):
        for item in items:
            parts += (_RECORD.pack(kind, len(item)), item)
    if trust.crl_check is CrlCheck.REQUIRE:
        parts.append(_RECORD.pack(LISTS_REQUIRED, 0))
    if trust.client_usage is ClientUsage.TLS:
        parts.append(_RECORD.pack(CLIENTS_AS_SERVERS, 0))
    if trust.admit is not None:
        listed = "".join(f"{entry}\n" for entry in trust.admit).encode()
        parts += (_RECORD.pack(ADMISSION, len(listed)), listed)
    return b"".join(parts)


def decode_trust(content: bytes | mmap.mmap) -> Trust:
    """Decode the records of a trust.  Raises MessageError."""
    found: dict[int, list[bytes]] = {kind: [] for kind in _KINDS}
    offset = 0
    while offset < len(content):
        if len(content) - offset < _RECORD.size:
            raise MessageError("a trust file is cut off")
        kind, length = _RECORD.unpack_from(content, offset)
        offset += _RECORD.size
        if kind not in found or length > len(content) - offset:
            raise MessageError("a trust file is cut off, or has a record of unknown kind")
        found[kind].append(content[offset : offset + length])
        offset += length
    check = CrlCheck.REQUIRE if found[LISTS_REQUIRED] else CrlCheck.IF_PRESENT
    usage = ClientUsage.TLS if found[CLIENTS_AS_SERVERS] else ClientUsage.CLIENT_AUTH
    return Trust(tuple(found[ANCHOR]), tuple(found[REVOCATION_LIST]), check, usage, _admission(found[ADMISSION]))


def _admission(records: list[bytes]) -> tuple[str, ...] | None:
    """Return the entries of the admission list, None if there is no list.  Raises MessageError."""
    if not records:
        return None
    (record,) = records if len(records) == 1 else (b"",)
    if len(records) > 1 or (record and not record.endswith(b"\n")):
        raise MessageError("a trust file has more than one admission list, or one that is cut off")
    try:
        return tuple(record.decode().split("\n")[:-1])
    except UnicodeDecodeError:
        raise MessageError("a trust file has an admission list that is not UTF-8") from None
