"""Custody of the kernel's keys, with the kernel played: what is linked is unlinked, and what is looked for is found.

The real keyrings are asked in tests/kernel.
"""

from __future__ import annotations

import errno
import hashlib
import os
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from hsframework.dispatcher.keys import keyring as module
from hsframework.dispatcher.keys.keyring import KernelKeys
from hsframework.errors import ConfigurationError
from hsframework.failures import HandshakeFailed
from hsframework.process import keyctl
from hsframework.process.keyctl import KeyDescription

PROCESS, NVME, OWN = 1, 20, 30


class Kernel:
    """Keys and keyrings, by serial; ``names``: the keyrings in /proc/keys."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.keys: dict[int, tuple[str, str, bytes]] = {}
        self.rings: dict[int, list[int]] = {PROCESS: []}
        self.names: dict[str, int] = {}
        self.revoked: set[int] = set()
        self.private = False
        """True: keys are readable in keyrings of ours alone."""
        self.most = 32767
        self.types: set[str] = {"asymmetric", "user"}
        self.refusal = errno.EBADMSG
        self.room = 99
        self.added: list[str] = []
        self.described: list[int] = []
        self.tables = 0
        for function in ("process_keyring", "describe", "read", "members", "add", "link", "unlink"):
            monkeypatch.setattr(keyctl, function, getattr(self, function))
        monkeypatch.setattr(keyctl, "KeyTable", lambda: self)

    def find_keyrings(self, name: str) -> list[int]:
        self.tables += 1
        return [self.names[name]] if name in self.names else []

    def process_keyring(self) -> int:
        return PROCESS

    def describe(self, serial: int) -> KeyDescription:
        self.described.append(serial)
        kind, description, _ = self._key(serial)
        return KeyDescription(kind, 0, 0, 0, description)

    def read(self, serial: int) -> bytes:
        linked = [key for ring in self.rings[PROCESS] for key in self.rings.get(ring, ())]
        if self.private and serial in self.keys and serial not in linked:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return self._key(serial)[2]

    def members(self, ring: int) -> tuple[int, ...]:
        if ring not in self.rings:
            raise OSError(errno.ENOKEY, os.strerror(errno.ENOKEY))
        if ring in self.revoked:
            raise OSError(errno.EKEYREVOKED, os.strerror(errno.EKEYREVOKED))
        return tuple(self.rings[ring])

    def add(self, kind: str, description: str, payload: bytes, ring: int) -> int:
        self.added.append(kind)
        if self.room == len(self.keys):
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        if kind not in self.types or len(payload) > self.most:
            raise OSError(self.refusal, os.strerror(self.refusal))
        serial = 100 + len(self.keys)
        self.keys[serial] = (kind, description, payload)
        self.rings[ring].append(serial)
        return serial

    def link(self, key: int, ring: int) -> None:
        if key not in self.rings and key not in self.keys:
            raise OSError(errno.ENOKEY, os.strerror(errno.ENOKEY))
        self.rings[ring].append(key)

    def unlink(self, key: int, ring: int) -> None:
        self.rings[ring].remove(key)

    def _key(self, serial: int) -> tuple[str, str, bytes]:
        if serial not in self.keys:
            raise OSError(errno.ENOKEY, os.strerror(errno.ENOKEY))
        return self.keys[serial]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def found(keys: KernelKeys, identity: bytes, ring: int | None = None) -> int | None:
    """Return the serial of what is found."""
    answer = keys.find_psk(identity, ring)
    return None if answer is None else answer[1]


def test_a_key_is_found_by_its_whole_name_and_type(kernel: Kernel) -> None:
    """Neither by a beginning of it, nor where a key of another type has it; the bytes are the key's."""
    kernel.names, kernel.rings[NVME] = {".nvme": NVME}, [40, 41, 42, 43]
    kernel.keys = {
        40: ("user", "alice", b"no psk"),
        41: ("psk", "alice2", b"another"),
        42: ("psk", "alice", b"right"),
        43: ("psk", "bob", b"bob's"),
    }
    keys = KernelKeys([".nvme"])
    answer = keys.find_psk(b"alice")
    assert answer is not None
    assert (answer[0].identity, answer[0].key.reveal(), answer[0].hash, answer[1]) == (b"alice", b"right", "sha256", 42)
    assert found(keys, b"ali") is None
    assert found(keys, b"bob") == 43


def test_the_requests_own_keyring_comes_first(kernel: Kernel) -> None:
    """Then the configured ones; a ring or a key that cannot be read hides nothing behind it."""
    kernel.names, kernel.rings[NVME], kernel.rings[OWN] = {".nvme": NVME}, [40], [39, 41]
    kernel.keys = {40: ("psk", "alice", b"1"), 41: ("psk", "alice", b"2")}
    keys = KernelKeys([".nvme"])
    assert found(keys, b"alice", OWN) == 41
    assert found(keys, b"alice") == found(keys, b"alice", 77) == 40


def test_a_keyring_that_appears_later_is_linked_then(kernel: Kernel) -> None:
    """A module makes its own when it is loaded; what stays away is asked for again, and what is there only once."""
    keys = KernelKeys([".nvme", "25", ".nfs"])
    assert kernel.rings[PROCESS] == []
    kernel.rings[NVME], kernel.names[".nvme"], kernel.keys[40] = [40], NVME, ("psk", "alice", b"1")
    assert found(keys, b"alice") == 40
    assert found(keys, b"alice") == 40
    assert kernel.rings[PROCESS] == [NVME]


def test_a_look_up_costs_the_same_among_many_keys(kernel: Kernel) -> None:
    """Descriptions are asked once for each key, however often identities are looked for; new and lost keys count."""
    kernel.names, kernel.rings[NVME] = {".nvme": NVME}, [*range(1000, 3000)]
    kernel.keys = {serial: ("psk", f"host {serial}", b"key") for serial in kernel.rings[NVME]}
    keys = KernelKeys([".nvme"])
    assert len(kernel.described) == 2000
    assert found(keys, b"host 2999") == 2999
    kernel.described.clear()
    assert all(found(keys, b"unknown %d" % number) is None for number in range(100))
    assert kernel.described == []
    kernel.rings[NVME] = [40, *kernel.rings[NVME][1:]]
    kernel.keys[40] = ("psk", "new", b"key")
    assert found(keys, b"new") == 40
    assert found(keys, b"host 1000") is None
    assert kernel.described == [40, 40]


def test_a_key_that_could_not_be_described_is_asked_again(kernel: Kernel) -> None:
    """It was revoked, or memory was short; another keyring's keys are found meanwhile."""
    kernel.names, kernel.rings[NVME] = {".nvme": NVME}, [40, 41]
    kernel.keys = {41: ("psk", "bob", b"2")}
    keys = KernelKeys([".nvme"])
    assert found(keys, b"alice") is None
    kernel.keys[40] = ("psk", "alice", b"1")
    assert (found(keys, b"alice"), found(keys, b"bob")) == (40, 41)


def test_peers_look_for_keyrings_a_part_of_the_time(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer's look-ups do not make the dispatcher read /proc/keys all the time, nor keep the kernel's from it."""
    now = [100.0]

    def find_keyrings(name: str) -> list[int]:
        kernel.tables += 1
        now[0] += 0.02
        return []

    keys = KernelKeys([".nvme"])
    kernel.tables = 0
    monkeypatch.setattr(kernel, "find_keyrings", find_keyrings)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    for _ in range(900):
        now[0] += 0.001
        assert found(keys, b"anybody") is None
    assert kernel.tables == 3
    with pytest.raises(HandshakeFailed):
        keys.psk(40)
    assert kernel.tables == 4
    now[0] += 1
    assert found(keys, b"anybody") is None
    assert kernel.tables == 5


def test_a_keyring_is_named_by_its_number_too(kernel: Kernel) -> None:
    """A number needs no look-up by name."""
    kernel.rings[25] = []
    KernelKeys(["25"])
    assert kernel.rings[PROCESS] == [25]


def test_a_lent_keyring_is_unlinked_after_its_last_request(kernel: Kernel) -> None:
    """ACCEPT linked it; several requests have it, and one that was never counted changes nothing."""
    keys = KernelKeys()
    kernel.rings[OWN] = []
    kernel.link(OWN, PROCESS)
    keys.hold(OWN)
    keys.hold(OWN)
    keys.hold(None)
    keys.forget(None)
    keys.forget(99)
    keys.forget(OWN)
    assert kernel.rings[PROCESS] == [OWN]
    keys.forget(OWN)
    assert kernel.rings[PROCESS] == []
    keys.forget(OWN)


@pytest.mark.parametrize("configured_first", [True, False])
def test_a_configured_keyring_stays_linked(kernel: Kernel, configured_first: bool) -> None:
    """Also where a request brings it, before or after it was found by its name."""
    kernel.rings[NVME] = []
    if configured_first:
        kernel.names[".nvme"] = NVME
    keys = KernelKeys([".nvme"])
    keys.hold(NVME)
    if not configured_first:
        kernel.names[".nvme"] = NVME
        kernel.link(NVME, PROCESS)
        keys.link_keyrings()
    linked = list(kernel.rings[PROCESS])
    keys.forget(NVME)
    assert kernel.rings[PROCESS] == linked
    assert NVME in linked


def test_a_peers_certificate_becomes_a_key_and_goes_again(kernel: Kernel) -> None:
    """As the kernel's own type of it, else as one that it does not parse."""
    keys = KernelKeys()
    serial = keys.add_certificate(b"a certificate")
    assert serial is not None
    assert kernel.keys[serial][0] == "asymmetric"
    assert kernel.rings[PROCESS] == [serial]
    keys.remove(serial)
    assert kernel.rings[PROCESS] == []
    kernel.types = {"user"}
    other = keys.add_certificate(b"a certificate that it cannot parse")
    assert other is not None
    assert kernel.keys[other] == ("user", kernel.keys[other][1], b"a certificate that it cannot parse")


def test_a_certificate_that_no_key_has_room_for_is_named_by_its_digest(kernel: Kernel) -> None:
    """The kernel's server of NFS counts the keys of a peer: without one the peer would be nobody."""
    keys, der = KernelKeys(), bytes(40_000)
    serial = keys.add_certificate(der)
    assert serial is not None
    assert kernel.keys[serial][::2] == ("user", hashlib.sha256(der).digest())


def test_a_keyring_that_comes_late_is_linked_for_a_serial(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """``.nfs`` appears with the first mount, whose request names its keys by their serials."""
    monkeypatch.setattr(module, "identity_from_bytes", lambda certificate, key: (certificate, key))
    keys = KernelKeys([".nfs"])
    kernel.private = True
    kernel.keys = {50: ("user", "certificate", b"c"), 51: ("user", "key", b"k"), 52: ("psk", "alice", b"p")}
    kernel.rings[OWN], kernel.names[".nfs"] = [50, 51, 52], OWN
    identity: object = keys.identity(50, 51)
    assert identity == (b"c", b"k")
    assert keys.psk(52).key.reveal() == b"p"
    assert kernel.rings[PROCESS] == [OWN]


@pytest.mark.parametrize("by_name", [True, False])
def test_a_keyring_that_comes_anew_takes_the_place_of_the_revoked_one(kernel: Kernel, by_name: bool) -> None:
    """A module that is loaded again makes another ``.nvme``: found by identity and by serial, the old one unlinked."""
    kernel.names[".nvme"], kernel.rings[NVME], kernel.keys[40] = NVME, [40], ("psk", "alice", b"old")
    keys = KernelKeys([".nvme"])
    assert found(keys, b"alice") == 40
    kernel.private = True
    kernel.revoked.add(NVME)
    kernel.names[".nvme"], kernel.rings[OWN], kernel.keys[41] = OWN, [41], ("psk", "alice", b"new")
    assert (found(keys, b"alice") == 41) if by_name else (keys.psk(41).key.reveal() == b"new")
    assert kernel.rings[PROCESS] == [OWN]


def test_keyrings_of_nfs(kernel: Kernel) -> None:
    """NFS brings none, or ``.nfs``; another one, and one that cannot be seen, is somebody else's."""
    keys = KernelKeys()
    kernel.keys = {60: ("keyring", ".nfs", b""), 61: ("keyring", "drbd", b"")}
    assert [keys.may_be_nfs(ring) for ring in (None, 0, 60, 61, 62)] == [True, True, True, False, False]


def test_a_keyring_that_cannot_be_linked_is_logged_once(kernel: Kernel) -> None:
    """It is not tried for each key that is wanted."""
    kernel.names[".nvme"] = NVME  # which is not there
    with capture_logs() as logged:
        keys = KernelKeys([".nvme"])
        for _ in range(3):
            keys.link_keyrings()
    assert [entry["event"] for entry in logged] == ["a keyring cannot be used"]


def test_without_room_for_a_key_no_other_type_is_tried(kernel: Kernel) -> None:
    """The quota is one for all; a kernel that knows neither type is asked for both."""
    keys = KernelKeys()
    kernel.room = 0
    assert keys.add_certificate(b"der") is None
    assert kernel.added == ["asymmetric"]
    kernel.room, kernel.types = 99, set()
    assert keys.add_certificate(b"der") is None
    assert kernel.added == ["asymmetric", "asymmetric", "user", "user"]


def test_practice_leaves_no_key(kernel: Kernel) -> None:
    """Each certificate is parsed, also behind one that the kernel refuses."""
    keys = KernelKeys()
    keys.practise([b"one", b"two"])
    assert kernel.added == ["asymmetric"] * 2
    assert kernel.rings[PROCESS] == []
    kernel.types = set()
    keys.practise([b"one", b"two"])
    assert kernel.added == ["asymmetric"] * 4


@pytest.mark.parametrize("reason", [None, "bad"])
def test_keys_that_cannot_be_had_are_no_identity(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, reason: str | None
) -> None:
    """One of them is gone, or makes no sense: NO_KEY, with the serials."""
    kernel.keys = {50: ("user", "certificate", b"c"), 51: ("user", "key", b"k")}

    def parsed(certificate: bytes, key: bytes) -> Any:
        if reason:
            raise ConfigurationError(reason)
        return certificate, key

    monkeypatch.setattr(module, "identity_from_bytes", parsed)
    keys = KernelKeys()
    if reason is None:
        identity: object = keys.identity(50, 51)
        assert identity == (b"c", b"k")
    with pytest.raises(HandshakeFailed, match=r"50 and 5[12]") as failed:
        keys.identity(50, 51 if reason else 52)
    assert failed.value.failure.name == "NO_KEY"
    with pytest.raises(HandshakeFailed, match="key 77") as failed:
        keys.psk(77)
    assert failed.value.failure.name == "NO_KEY"
