"""Keys in the kernel's keyrings: by serial for kernel consumers, by identity for the look-ups of their servers.

Rules:

* The process keyring is made at start, in the main thread, before any other thread: one that ACCEPT made would not be
  seen by threads that run already.
* ACCEPT links the request's keyring into the process keyring and never unlinks it: :meth:`KernelKeys.forget` does,
  right after its keys were read.
* Configured keyrings (``.nvme``, ``.nfs``) are linked into the process keyring, not into the session's: agents are
  children and would see them there.  They come with a module and again when it is loaded anew, so they are looked for
  whenever a key is wanted by its name, and when a key cannot be read by its serial; one that has been revoked is
  unlinked.  A keyring must be root's, or our own: anybody can give one any name that begins with no dot.
* A pre-shared key's identity is its whole description.  The kernel's own search matches by prefix, so the keyring is
  listed and compared.  A peer says what is looked for, so keys of the type ``psk`` alone are found: ``.nfs`` holds
  certificates, whose contents are no secret.
* A peer says how often something is looked for, too: the descriptions of a keyring's keys are kept while it has the
  same keys (a key's description never changes), and /proc/keys is read for peers for a twentieth of each second at
  most.  The kernel's requests, which name serials, do not wait for that.
* A peer's certificate becomes a key in the process keyring, so that DONE can name it; it is taken out again when DONE
  is acknowledged, since key quotas are small.  One that the kernel does not parse, or that no key has room for, is
  named by a key with its digest: the kernel's server of NFS counts the keys, and reads none.  The kernel parses it, and
  loads the algorithms of its signature, from a root filesystem that may hang by then: so those of our own certificates
  and authorities are used once at start.

Agents never see a keyring: they get the bytes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import structlog

from hsframework.credentials.identities import identity_from_bytes
from hsframework.credentials.psk import hash_of_nvme_identity
from hsframework.errors import ConfigurationError, is_shortage
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Identity, PresharedKey, Secret
from hsframework.process import keyctl

_log = structlog.get_logger("hsframework.dispatcher")
NFS_KEYRING = ".nfs"
_CERTIFICATE_TYPES = ("asymmetric", "user")
_PSK_TYPE = "psk"
_MOST_SPENT = 0.05
"""Seconds in each second in which /proc/keys is read for peers; beyond them they find what is linked."""


class KernelKeys:
    """Keys of the kernel that the dispatcher can see.  Made in the main thread, before any other thread.

    Raises ConfigurationError where there are no keyrings for us.
    """

    def __init__(self, keyrings: Iterable[str] = ()) -> None:
        try:
            self._process = keyctl.process_keyring()
        except OSError as error:
            raise ConfigurationError(
                f"{error.strerror}: the kernel's requests name keys; allow the system calls keyctl and add_key in this "
                "sandbox, or set kernel.enabled = false"
            ) from None
        self._table = keyctl.KeyTable()
        self._names = tuple(keyrings)
        self._keyrings: list[int] = []
        self._refused: set[int] = set()
        """Serials that could not be linked, which has been logged."""
        self._indexes: dict[int, _Index] = {}
        self._second = self._spent = 0.0
        self._held: Counter[int] = Counter()
        missing = [name for name in self._names if not self._link(name)]
        if missing:
            _log.info("keyrings are not there yet", keyrings=missing)

    def link_keyrings(self) -> None:
        """Link the configured keyrings that have appeared since, and unlink those that have been revoked."""
        for ring in tuple(self._keyrings):
            if _is_gone(ring):
                self._keyrings.remove(ring)
                self._indexes.pop(ring, None)
                with contextlib.suppress(OSError):
                    keyctl.unlink(ring, self._process)
        for name in self._names:
            self._link(name)

    def _link_for_a_peer(self) -> None:
        """Do the same at a peer's wish, which may come again and again: for a part of each second alone."""
        begun = time.monotonic()
        if begun >= self._second + 1:
            self._second, self._spent = begun, 0.0
        if self._spent < _MOST_SPENT:
            self.link_keyrings()
            self._spent += time.monotonic() - begun

    def _link(self, name: str) -> bool:
        """Link the keyrings of a name.  Return True if there is one, whether it can be used or not."""
        serials = [int(name)] if name.isdecimal() else self._table.find_keyrings(name)
        for serial in serials:
            if serial in self._keyrings or serial in self._refused:
                continue
            try:
                keyctl.link(serial, self._process)
            except OSError as error:
                self._refused.add(serial)
                _log.warning("a keyring cannot be used", keyring=name, reason=error.strerror)
            else:
                self._keyrings.append(serial)
                with contextlib.suppress(OSError, HandshakeFailed):  # a look-up does it, and reports what is wrong
                    self._index(serial)
        return bool(serials)

    def _index(self, keyring: int) -> _Index:
        """Return the keyring's keys as they are now.  Raises OSError."""
        index = self._indexes.get(keyring) or _Index()
        index.update(keyctl.members(keyring))
        if keyring in self._keyrings or self._held[keyring]:
            self._indexes[keyring] = index
        return index

    def identity(self, certificate: int, private_key: int) -> Identity:
        """Return a certificate and its private key, by their serials.

        Raises HandshakeFailed with NO_KEY or SHORTAGE.
        """
        try:
            return identity_from_bytes(self._read(certificate), self._read(private_key))
        except OSError as error:
            raise _unreadable(f"keys {certificate} and {private_key}", error) from None
        except ConfigurationError as error:
            raise _no_key(f"keys {certificate} and {private_key}: {error}") from None

    def psk(self, serial: int) -> PresharedKey:
        """Return a pre-shared key by its serial.  Raises HandshakeFailed with NO_KEY or SHORTAGE."""
        return self._psk(serial, self._read)

    def _psk(self, serial: int, read: Callable[[int], bytes]) -> PresharedKey:
        try:
            payload = read(serial)
            description = keyctl.describe(serial).description
        except OSError as error:
            raise _unreadable(f"key {serial}", error) from None
        identity = description.encode("utf-8", "surrogateescape")
        return PresharedKey(identity, Secret(payload), hash_of_nvme_identity(identity) or "sha256")

    def _read(self, serial: int) -> bytes:
        """Return a key's payload; it may be in a keyring that has appeared since.  Raises OSError."""
        try:
            return keyctl.read(serial)
        except OSError as error:
            if is_shortage(error):
                raise
        self.link_keyrings()
        return keyctl.read(serial)

    def find_psk(self, identity: bytes, keyring: int | None = None) -> tuple[PresharedKey, int] | None:
        """Return the key whose identity is exactly this, and its serial, or None.

        ``keyring``: that of the request, which is searched before the configured ones.  A key that cannot be read is
        passed over; raises HandshakeFailed with SHORTAGE if that was for want of memory.
        """
        wanted = identity.decode("utf-8", "surrogateescape")
        self._link_for_a_peer()
        for ring in ([keyring] if keyring else []) + self._keyrings:
            with _passed_over():
                for serial in self._index(ring).serials(wanted):
                    with _passed_over():
                        return self._psk(serial, keyctl.read), serial
        return None

    def may_be_nfs(self, keyring: int | None) -> bool:
        """Return True for the keyring of a request that may be one of NFS: ``.nfs``, or none at all."""
        if not keyring:
            return True
        with contextlib.suppress(OSError):
            return keyctl.describe(keyring).description == NFS_KEYRING
        return False

    def hold(self, keyring: int | None) -> None:
        """Count a request's keyring, which ACCEPT has linked; several requests may have the same."""
        if keyring and keyring not in self._keyrings:
            self._held[keyring] += 1

    def forget(self, keyring: int | None) -> None:
        """Count a request less for this keyring; unlink it after the last one."""
        if not keyring or not self._held[keyring]:
            return
        self._held[keyring] -= 1
        if not self._held[keyring]:
            del self._held[keyring]
            if keyring in self._keyrings:  # it was found since
                return
            self._indexes.pop(keyring, None)
            with contextlib.suppress(OSError):
                keyctl.unlink(keyring, self._process)

    def add_certificate(self, der: bytes) -> int | None:
        """Make a key of a peer's certificate.  Return its serial, or None if the kernel refuses it.

        Raises OSError if memory is short.
        """
        digest = hashlib.sha256(der).digest()
        description = f"hsframework peer {digest.hex()[:32]}"
        # A key of the type "user" has 32,767 bytes at most.
        for kind, payload in (*((kind, der) for kind in _CERTIFICATE_TYPES), ("user", digest)):
            try:
                return keyctl.add(kind, description, payload, self._process)
            except OSError as error:
                if is_shortage(error):
                    raise
                if error.errno == errno.EDQUOT:
                    break
        _log.error("the kernel takes no key for a peer's certificate; a server's request fails for it")
        return None

    def practise(self, certificates: Iterable[bytes]) -> None:
        """Let the kernel parse these certificates, as it will parse those of peers."""
        for der in certificates:
            with contextlib.suppress(OSError):
                self.remove(keyctl.add(_CERTIFICATE_TYPES[0], "hsframework practice", der, self._process))

    def remove(self, serial: int) -> None:
        """Remove the key of a peer's certificate."""
        with contextlib.suppress(OSError):
            keyctl.unlink(serial, self._process)


def _is_gone(keyring: int) -> bool:
    try:
        keyctl.members(keyring)
    except OSError as error:
        return error.errno in (errno.EKEYREVOKED, errno.ENOKEY, errno.EKEYEXPIRED)
    return False


class _Index:
    """The pre-shared keys of one keyring by their descriptions."""

    def __init__(self) -> None:
        self._members: tuple[int, ...] = ()
        self._names: dict[int, str | None] = {}
        """By serial; None: no pre-shared key.  A key that could not be described is not there, and is asked again."""
        self._serials: dict[str, list[int]] = {}

    def serials(self, description: str) -> Iterable[int]:
        """Return the keys with this description, in the keyring's order."""
        return self._serials.get(description, ())

    def update(self, members: tuple[int, ...]) -> None:
        """Take over the keys that the keyring has now.  Raises HandshakeFailed with SHORTAGE."""
        if members == self._members and len(self._names) == len(members):
            return
        self._members = ()
        names = {serial: self._names[serial] for serial in members if serial in self._names}
        for serial in members:
            if serial not in names:
                with _passed_over():
                    found = keyctl.describe(serial)
                    names[serial] = found.description if found.type == _PSK_TYPE else None
        serials: dict[str, list[int]] = {}
        for serial, name in names.items():
            if name is not None:
                serials.setdefault(name, []).append(serial)
        self._members, self._names, self._serials = members, names, serials


def _no_key(detail: str) -> HandshakeFailed:
    return HandshakeFailed(Failure.NO_KEY, detail)


def _unreadable(what: str, error: OSError) -> HandshakeFailed:
    """Return the failure of a key that cannot be read.  NO_KEY is final for nvme-tcp, which gives its controller up."""
    return HandshakeFailed(Failure.SHORTAGE if is_shortage(error) else Failure.NO_KEY, f"{what}: {error.strerror}")


@contextlib.contextmanager
def _passed_over() -> Iterator[None]:
    """Pass over a key or a keyring that cannot be read.  Raises HandshakeFailed with SHORTAGE."""
    try:
        yield
    except OSError as error:
        if is_shortage(error):
            raise _unreadable("a keyring", error) from None
    except HandshakeFailed as error:
        if error.failure is Failure.SHORTAGE:
            raise
