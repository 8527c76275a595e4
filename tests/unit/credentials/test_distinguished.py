"""The form in which distinguished names are compared."""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import NameOID

from hsframework.credentials import distinguished
from hsframework.credentials.distinguished import MAX_REMEMBERED_SIZE, comparable


def encoded(*names: str) -> bytes:
    """Return a name of organizational units."""
    attributes = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, name) for name in names]
    return x509.Name(attributes).public_bytes()


def test_a_name_begins_with_another_by_whole_relative_names() -> None:
    """The form of a name begins with that of another if, and only if, its first relative names are the other's."""
    assert comparable(encoded("Corp", "Sales")).startswith(comparable(encoded("corp")))
    assert not comparable(encoded("Corporation", "Sales")).startswith(comparable(encoded("Corp")))
    assert not comparable(encoded("Corp")).startswith(comparable(encoded("Corp", "Sales")))


def test_large_names_are_not_remembered() -> None:
    """Peers choose the names that are compared: what is remembered has a bound in bytes, too."""
    large = encoded("x" * 64, *"abcdefghijklmnopqrstuvwxyz" * 2)
    assert len(large) > MAX_REMEMBERED_SIZE
    before = distinguished._remembered.cache_info().currsize
    assert comparable(large) == comparable(bytes(bytearray(large)))
    assert distinguished._remembered.cache_info().currsize == before
