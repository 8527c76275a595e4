"""Look-up of serial numbers in revocation lists, short and long: what is found, and how much is read for it."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import NoReturn

import pytest
from cryptography import x509

from hsframework.credentials import serials
from hsframework.credentials.chain import Purpose, verify_chain
from hsframework.credentials.revocation import LONG_LIST, RevocationList, read_list
from hsframework.credentials.serials import RevokedSerials
from hsframework.failures import Failure, HandshakeFailed
from hsframework.testing.certificates import Authority
from tests.support.der import element
from tests.support.long_lists import entry, list_of

ROOT = Authority("Root of long lists")
REASON = bytes.fromhex("0603551d15")
DATE = bytes.fromhex("0603551d18")
TRUE = bytes.fromhex("0101ff")


def read(*entries: bytes) -> RevocationList:
    return read_list(list_of(ROOT, entries), "the list")


def extension(identifier: bytes, value: bytes, *, critical: bool = False) -> bytes:
    return element(0x30, identifier + (TRUE if critical else b"") + element(0x04, value))


def observed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows with each number that is searched for."""
    searched: list[int] = []
    search = RevokedSerials._find

    def find(self: RevokedSerials, number: int, wanted: bytes) -> bool:
        searched.append(number)
        return search(self, number, wanted)

    monkeypatch.setattr(RevokedSerials, "_find", find)
    return searched


NUMBERS = [0, 1, 5, 127, 128, 255, 256, 0x7F00, 0x8000, 0x170D, 1 << 63, (1 << 64) + 9, (1 << 158) + 1, -1, -129]


def test_each_number_is_found_and_no_other() -> None:
    """Numbers of every length and sign are found in a list that names them, and not in one that names the others."""
    whole = read(*map(entry, NUMBERS)).serials
    for number in NUMBERS:
        assert number in whole
        assert number not in read(*(entry(other) for other in NUMBERS if other != number)).serials


def test_the_builders_lists_are_read_alike() -> None:
    """A thousand random numbers: exactly those of the list are found, as cryptography finds them."""
    choose = random.Random(15)
    numbers = [choose.getrandbits(choose.choice((7, 8, 16, 63, 64, 127, 159))) + 1 for _ in range(1000)]
    der = ROOT.crl(numbers[:500])
    found, crl = read_list(der, "the list").serials, x509.load_der_x509_crl(der)
    for number in numbers:
        assert (number in found) is (crl.get_revoked_certificate_by_serial_number(number) is not None)


def test_a_number_in_an_extension_revokes_nothing() -> None:
    """The bytes of another entry, within an extension of one, are no entry."""
    hidden = extension(bytes.fromhex("06032a0304"), entry(77))
    found = read(entry(5, hidden)).serials
    assert 77 not in found
    assert 5 in found


def test_many_false_traces_cost_one_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list in whose extensions a number stands a thousand times is walked through once, until it is indexed."""
    monkeypatch.setattr(serials, "ENTRIES_AT_ONCE", 1)
    hidden = extension(bytes.fromhex("06032a0304"), entry(77) * 1000)
    found = read(entry(1), entry(5, hidden)).serials
    walks: list[int] = []
    names = found._names

    def counted(number: int) -> bool:
        walks.append(number)
        return names(number)

    monkeypatch.setattr(found, "_names", counted)
    for _ in range(2):
        assert 77 not in found
    assert walks == [77]


def test_an_empty_list_names_nobody() -> None:
    """Neither an empty sequence of entries nor none at all has a number, a critical extension or an indirect entry."""
    for der in (list_of(ROOT, ()), ROOT.crl()):
        empty = read_list(der, "the list").serials
        assert 5 not in empty
        assert not empty.names_other_issuers
        assert not empty.critical_extension()


@pytest.mark.parametrize(
    ("extensions", "expected"),
    [
        (extension(REASON, b"\x0a\x01\x01"), ""),
        (extension(REASON, b"\x0a\x01\x01", critical=True), ""),
        (extension(DATE, element(0x18, b"20250101000000Z"), critical=True), ""),
        (extension(bytes.fromhex("06032a0304"), b"\x05\x00"), ""),
        (extension(bytes.fromhex("06032a0304"), b"\x05\x00", critical=True), "1.2.3.4"),
        (extension(bytes.fromhex("06082a03040506070809"), b"\x05\x00", critical=True), "1.2.3.4.5.6.7.8.9"),
        (
            extension(REASON, b"\x0a\x01\x01", critical=True)
            + extension(bytes.fromhex("06032a0304"), b"\x05\x00", critical=True),
            "1.2.3.4",
        ),
    ],
)
def test_critical_extensions_of_entries(extensions: bytes, expected: str) -> None:
    """The reason and the date may be critical; any other critical extension is named."""
    entries = (*map(entry, range(1, 40)), entry(40, extensions))
    assert read(*entries).serials.critical_extension() == expected


def test_a_number_like_a_critical_extension_costs_no_walk() -> None:
    """A serial number with the bytes of TRUE and a value's tag is not taken for an extension."""
    der = list_of(ROOT, [entry(0x200101FF04), entry(0x060101FF04)])

    class Unread:
        def __iter__(self) -> NoReturn:
            raise AssertionError("the list was walked")

    crl = Unread()
    assert RevokedSerials(crl, der, 0, len(der)).critical_extension() == ""  # type: ignore[arg-type]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows with each run of entries that is read for an index, by their number."""
    read_entries: list[int] = []
    extend = RevokedSerials._extend

    def reads(self: RevokedSerials) -> None:
        before = self._number
        extend(self)
        read_entries.append(self._number - before)

    monkeypatch.setattr(RevokedSerials, "_extend", reads)
    return read_entries


def test_an_entry_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look-up adds a bounded number of entries to the index; a complete one is neither extended nor searched."""
    monkeypatch.setattr(serials, "ENTRIES_AT_ONCE", 4)
    found = read(*map(entry, range(10))).serials
    searched, added = observed(monkeypatch), counted(monkeypatch)
    assert 100 not in found
    assert (searched, added, found.indexed) == ([100], [4], False)
    assert 2 in found
    assert (searched, added) == ([100], [4, 4])  # it was in the index
    assert 100 not in found
    assert (added, found.indexed) == ([4, 4, 2], True)
    for number in range(10):
        assert number in found
        assert number + 100 not in found
    assert searched == [100]
    assert added == [4, 4, 2]


@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_the_index_agrees_with_cryptography(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """In each stage of the index exactly the numbers of the list are found, also those that begin like others."""
    monkeypatch.setattr(serials, "ENTRIES_AT_ONCE", at_once)
    choose = random.Random(at_once)
    numbers = [choose.getrandbits(choose.choice((3, 8, 16, 100, 1100))) + 1 for _ in range(200)]
    numbers += [number << 8 | 1 for number in numbers[:50]] + numbers[:20]
    long_one = extension(bytes.fromhex("06032a0304"), bytes(choose.getrandbits(8) for _ in range(300)))
    listed, others = numbers[::2], numbers[1::2]
    der = list_of(ROOT, (entry(number, long_one if number % 3 else b"") for number in listed))
    found = read_list(der, "the list").serials
    for _ in range(2):
        for number in choose.sample(numbers, len(numbers)):
            assert (number in found) is (number in set(listed)), number
    assert set(others) - set(listed)
    assert found.indexed


def test_a_table_grows_with_its_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list whose later entries are shorter than the first outgrows the first table, and loses none of them."""
    monkeypatch.setattr(serials, "ENTRIES_AT_ONCE", 8)
    bulk = extension(bytes.fromhex("06032a0304"), bytes(2000))
    found = read(entry(1, bulk), *map(entry, range(2, 400))).serials
    sizes = set()
    while not found.indexed:
        assert 1000 not in found
        sizes.add(len(found._table))
    assert len(sizes) > 1
    assert all(number in found for number in range(1, 400))


def test_a_stranger_has_no_number_looked_up_in_a_long_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain that the authority has not signed ends before its serial numbers are looked for."""
    revoked, good = ROOT.issue(["a.example"]), ROOT.issue(["a.example"])
    spoiled = ROOT.issue(["a.example"], spoil_signature=True)
    bulk = (entry((1 << 120) + number) for number in range(LONG_LIST // 30))
    trust = ROOT.trust(list_of(ROOT, [*bulk, entry(revoked.serial_number)]))
    looked_up = observed(monkeypatch)

    def outcome(chain: tuple[bytes, ...]) -> Failure | None:
        try:
            verify_chain(chain, trust, purpose=Purpose.SERVER_AUTH, peer_name="a.example", now=datetime.now(UTC))
        except HandshakeFailed as failed:
            return failed.failure
        return None

    assert outcome(spoiled.chain) is Failure.BAD_CERTIFICATE
    assert not looked_up
    assert outcome(good.chain) is None
    assert outcome(revoked.chain) is Failure.REVOKED
    assert looked_up == [good.serial_number, revoked.serial_number]
