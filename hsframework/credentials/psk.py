r"""Pre-shared key files.

One key a line; the *last* colons separate, since NVMe names contain blanks and colons themselves::

    identity:key-in-hex
    identity:key-in-hex:sha384

    # NVMe/TCP: the hash is in the name (NVMe0R01 and NVMe1R01 are SHA-256, ..02 SHA-384) and may be left out
    NVMe1R01 nqn.2014-08.org.nvmexpress:uuid:1234 nqn.2024-01.example:subsystem1:00112233...

Empty lines, lines that begin with ``#``, and blanks at both ends are ignored.  The identity is UTF-8.  Files of GnuTLS
(``username:hexkey``, from ``psktool``) can be used as they are.  The file must be private to its owner.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection

from hsframework.credentials.files import read_secret
from hsframework.errors import ConfigurationError
from hsframework.interface import PresharedKey, Secret

HASHES = ("sha256", "sha384")
"""Hashes of a pre-shared key (RFC 8446 section 4.2.11); the first is the default."""
MIN_KEY_BYTES, MAX_KEY_BYTES = 16, 512
MAX_IDENTITY_BYTES = 65535
"""Longest identity that fits into the pre_shared_key extension (RFC 8446 section 4.2.11)."""

_NVME_NAME = re.compile(rb"NVMe[0-9][RG]([0-9]{2}) ")
_NVME_HASHES = {b"01": "sha256", b"02": "sha384"}
_HEX = re.compile(rb"(?:[0-9A-Fa-f]{2})+")


def load_psk_file(path: str | os.PathLike[str], *, key_groups: Collection[int] = ()) -> tuple[PresharedKey, ...]:
    """Load the keys of a file, in order.  ``key_groups``: numbers of the groups that may read it, beside its owner.

    Raises ``ConfigurationError``, which names file and line and shows neither identity nor key.
    """
    return parse_psks(read_secret(path, key_groups), os.fspath(path))


def parse_psks(data: bytes, name: str) -> tuple[PresharedKey, ...]:
    """Parse the contents of a key file; ``name``: for messages.  Raises ``ConfigurationError``."""
    keys: dict[bytes, PresharedKey] = {}
    for number, raw in enumerate(data.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith(b"#"):
            continue
        where = f"{name}, line {number}"
        key = _parse_line(line, where)
        if key.identity in keys:
            raise ConfigurationError(f"{where}: the identity stands in an earlier line too: remove one of them")
        keys[key.identity] = key
    if not keys:
        raise ConfigurationError(f"{name} holds no key: write lines of the form identity:key-in-hex")
    return tuple(keys.values())


def hash_of_nvme_identity(identity: bytes) -> str | None:
    """Return the hash that an NVMe identity names: ``b"NVMe1R02 nqn… nqn…"`` → ``"sha384"``.

    None for an identity of another form or with an unknown hash (NVMe/TCP transport specification, "TLS PSK and PSK
    Identity Derivation").
    """
    match = _NVME_NAME.match(identity)
    return _NVME_HASHES.get(match.group(1)) if match else None


def _parse_line(line: bytes, where: str) -> PresharedKey:
    head, _, last = line.rpartition(b":")
    named_hash = last.decode("ascii").lower() if last.lower() in (b"sha256", b"sha384") else None
    if named_hash is not None:
        head, _, last = head.rpartition(b":")
    if not head:
        raise ConfigurationError(f"{where}: write identity:key-in-hex, with {' or '.join(HASHES)} behind it if need be")
    return PresharedKey(_check_identity(head, where), _key(last, line, where), _hash(head, named_hash, where))


def _check_identity(identity: bytes, where: str) -> bytes:
    try:
        text = identity.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{where}: the identity is not UTF-8") from None
    if len(identity) > MAX_IDENTITY_BYTES or not text.isprintable():
        raise ConfigurationError(
            f"{where}: an identity has at most {MAX_IDENTITY_BYTES} bytes and no control characters"
        )
    return identity


def _key(field: bytes, line: bytes, where: str) -> Secret:
    if not _HEX.fullmatch(field):
        if b"NVMeTLSkey-" in line:
            raise ConfigurationError(
                f"{where}: this is NVMe's interchange form, from which the key is still to be derived: "
                "write the derived key in hexadecimal digits, or insert it into the keyring with 'nvme gen-tls-key'"
            )
        raise ConfigurationError(f"{where}: what follows the last colon is not an even number of hexadecimal digits")
    if not 2 * MIN_KEY_BYTES <= len(field) <= 2 * MAX_KEY_BYTES:
        raise ConfigurationError(
            f"{where}: the key has {len(field) // 2} bytes: use {MIN_KEY_BYTES} to {MAX_KEY_BYTES}, "
            "for example from 'openssl rand -hex 32'"
        )
    return Secret(bytes.fromhex(field.decode("ascii")))


def _hash(identity: bytes, named: str | None, where: str) -> str:
    match = _NVME_NAME.match(identity)
    if match is None:
        return named or HASHES[0]
    of_name = _NVME_HASHES.get(match.group(1))
    if of_name is None:
        raise ConfigurationError(f"{where}: the NVMe name has an unknown hash: 01 is SHA-256, 02 is SHA-384")
    if named not in (None, of_name):
        raise ConfigurationError(f"{where}: the NVMe name says {of_name}, the line {named}: leave the latter out")
    return of_name
