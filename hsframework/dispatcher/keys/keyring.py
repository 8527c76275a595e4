"""Keys in the kernel's keyrings: by serial for kernel consumers, by identity for the look-ups of their servers.

Rules:

* The process keyring is made at start, in the main thread, before any other thread: one that ACCEPT made would not be
  seen by threads that run already.
* ACCEPT links the request's keyring into the process keyring and never unlinks it: :meth:`KernelKeys.forget` does,
  right after its keys were read.
* Configured keyrings (``.nvme``, ``.nfs``) are linked into the process keyring, not into the session's: agents are
  children and would see them there.  One that is not there at start is looked for when a key is wanted.  It must be
  root's, or our own: anybody can give a keyring any name that begins with no dot.
* A pre-shared key's identity is its whole description.  The kernel's own search matches by prefix, so the keyring is
  listed and compared.  A peer says what is looked for, so keys of the type ``psk`` alone are found: ``.nfs`` holds
  certificates, whose contents are no secret.
* A peer says how often something is looked for, too: the descriptions of a keyring's keys are kept while it has the
  same keys (a key's description never changes), and /proc/keys is read for a keyring that is missing for a twentieth of
  each second at most.
* A peer's certificate becomes a key in the process keyring, so that DONE can name it; it is taken out again when DONE
  is acknowledged, since key quotas are small.  The kernel parses it, and loads the algorithms of its signature, from a
  root filesystem that may hang by then: so those of our own certificates and authorities are used once at start.

Agents never see a keyring: they get the bytes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator

import structlog

from hsframework.credentials.identities import identity_from_bytes
from hsframework.credentials.psk import hash_of_nvme_identity
from hsframework.errors import ConfigurationError, is_shortage
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Identity, PresharedKey, Secret
from hsframework.process import keyctl

_log = structlog.get_logger("hsframework.dispatcher")
_CERTIFICATE_TYPES = ("asymmetric", "user")
_PSK_TYPE = "psk"
_MOST_SPENT = 0.05
"""Seconds in each second in which /proc/keys is read; beyond them a keyring that is missing is not looked for."""


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
        self._keyrings: list[int] = []
        self._indexes: dict[int, _Index] = {}
        self._second = self._spent = 0.0
        self._missing = list(keyrings)
        self._held: Counter[int] = Counter()
        self.link_keyrings()
        if self._missing:
            _log.info("keyrings are not there yet", keyrings=self._missing)

    def link_keyrings(self) -> None:
        """Link the configured keyrings that have appeared since: a module makes its own when it is loaded."""
        begun = time.monotonic()
        if begun >= self._second + 1:
            self._second, self._spent = begun, 0.0
        if not self._missing or self._spent >= _MOST_SPENT:
            return
        for name in tuple(self._missing):
            serial = int(name) if name.isdecimal() else self._table.find_keyring(name)
            if serial is None:
                continue
            self._missing.remove(name)
            try:
                keyctl.link(serial, self._process)
            except OSError as error:
                _log.warning("a keyring cannot be used", keyring=name, reason=error.strerror)
            else:
                self._keyrings.append(serial)
                with _passed_over():
                    self._index(serial)
        self._spent += time.monotonic() - begun

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
            return identity_from_bytes(keyctl.read(certificate), keyctl.read(private_key))
        except OSError as error:
            raise _unreadable(f"keys {certificate} and {private_key}", error) from None
        except ConfigurationError as error:
            raise _no_key(f"keys {certificate} and {private_key}: {error}") from None

    def psk(self, serial: int) -> PresharedKey:
        """Return a pre-shared key by its serial.  Raises HandshakeFailed with NO_KEY or SHORTAGE."""
        try:
            description = keyctl.describe(serial).description
            payload = keyctl.read(serial)
        except OSError as error:
            raise _unreadable(f"key {serial}", error) from None
        identity = description.encode("utf-8", "surrogateescape")
        return PresharedKey(identity, Secret(payload), hash_of_nvme_identity(identity) or "sha256")

    def find_psk(self, identity: bytes, keyring: int | None = None) -> tuple[PresharedKey, int] | None:
        """Return the key whose identity is exactly this, and its serial, or None.

        ``keyring``: that of the request, which is searched before the configured ones.  A key that cannot be read is
        passed over; raises HandshakeFailed with SHORTAGE if that was for want of memory.
        """
        wanted = identity.decode("utf-8", "surrogateescape")
        self.link_keyrings()
        for ring in ([keyring] if keyring else []) + self._keyrings:
            with _passed_over():
                for serial in self._index(ring).serials(wanted):
                    with _passed_over():
                        return self.psk(serial), serial
        return None

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
            self._indexes.pop(keyring, None)
            if keyring in self._keyrings:  # it was found since
                return
            with contextlib.suppress(OSError):
                keyctl.unlink(keyring, self._process)

    def add_certificate(self, der: bytes) -> int | None:
        """Make a key of a peer's certificate.  Return its serial, or None if the kernel refuses it.

        Raises OSError if memory is short.
        """
        description = f"hsframework peer {hashlib.sha256(der).hexdigest()[:32]}"
        for kind in _CERTIFICATE_TYPES:
            try:
                return keyctl.add(kind, description, der, self._process)
            except OSError as error:
                if is_shortage(error):
                    raise
                if error.errno == errno.EDQUOT:
                    break
        _log.error("the kernel takes no key for a peer's certificate; it will not be seen as authenticated")
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
