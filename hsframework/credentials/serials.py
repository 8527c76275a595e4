"""The serial numbers of one revocation list, with an index that grows with the look-ups.

``cryptography`` walks a list for each look-up: 60 ms for a million entries; and an index of as many takes half a second
and 8 MB.  So each look-up adds :data:`ENTRIES_AT_ONCE` entries to the index, which takes milliseconds, and searches the
rest for the number's bytes, until the index is complete: from then on a look-up does not depend on the list's length.

The index is a hash table with open addressing, whose slots hold the place of an entry's number in the list; the bytes
there are compared, so that the index says neither yes nor no by a hash alone.
"""

from __future__ import annotations

import re
import threading
from array import array

from cryptography import x509

ENTRIES_AT_ONCE = 4096
"""Entries that one look-up adds to the index."""

_INTEGER, _TIMES = 0x02, (0x17, 0x18)
_CERTIFICATE_ISSUER = bytes.fromhex("0603551d1d")
"""The object identifier 2.5.29.29, with tag and length."""
_CRITICAL = b"\x01\x01\xff\x04"
"""End of the head of a critical extension: BOOLEAN TRUE, and the tag of its value."""
_UNKNOWN_CRITICAL = re.compile(rb"(?<!\x06\x03\x55\x1d\x15)(?<!\x06\x03\x55\x1d\x18)\x01\x01\xff\x04")
"""The same, behind another object identifier than those of the reason (2.5.29.21) and the invalidity date."""
_SHORT = 0x7F
"""Largest length that has one byte in DER."""


class RevokedSerials:
    """The serial numbers in a list, and the critical extensions of its entries.

    ``der``: the list; ``start``, ``end``: its part with the entries.
    """

    def __init__(self, crl: x509.CertificateRevocationList, der: bytes, start: int, end: int) -> None:
        self._crl, self._der, self._start, self._end = crl, der, start, end
        self._indexed = start
        """End of the entries that are in the index."""
        self._number = 0
        self._table = array("I")
        self._lock = threading.Lock()
        self.names_other_issuers = der.find(_CERTIFICATE_ISSUER, start, end) >= 0
        """True if an entry names its certificate's issuer: the list is an indirect one."""

    @property
    def indexed(self) -> bool:
        """True if every entry is in the index: a look-up does not depend on the list's length."""
        return self._indexed >= self._end

    def __contains__(self, serial_number: int) -> bool:
        """Return True if the list names ``serial_number``."""
        contents = serial_number.to_bytes(serial_number.bit_length() // 8 + 1, "big", signed=True)
        if len(contents) > _SHORT:
            return self._names(serial_number)
        wanted = bytes((_INTEGER, len(contents))) + contents
        if self.indexed:
            return self._is_indexed(wanted)
        # Another thread would find an index that is being changed.
        with self._lock:
            self._extend()
            return self._is_indexed(wanted) or (not self.indexed and self._find(serial_number, wanted))

    def _is_indexed(self, wanted: bytes) -> bool:
        """Return True if an entry in the index has this number, encoded."""
        if not self._number:
            return False
        table, mask = self._table, len(self._table) - 1
        slot = hash(wanted) & mask
        while table[slot]:
            if self._der.startswith(wanted, self._start + table[slot] - 1):
                return True
            slot = (slot + 1) & mask
        return False

    def _extend(self) -> None:
        """Add the next entries to the index; a table that is too small is begun anew with twice the size."""
        if 3 * (self._number + ENTRIES_AT_ONCE) > 2 * len(self._table):
            self._table = array("I", bytes(4 * self._slots()))
            self._indexed, self._number = self._start, 0
        der, table, mask, start, end = self._der, self._table, len(self._table) - 1, self._start, self._end
        at, left, added = self._indexed, ENTRIES_AT_ONCE, 0
        while at < end and left:
            left -= 1
            number, behind = at + 2, at + 2 + der[at + 1]
            size = der[at + 3]
            if der[at + 1] <= _SHORT and size <= _SHORT:
                encoded = der[number : number + 2 + size]
            else:
                number, behind = _contents(der, at)
                encoded = der[number : _contents(der, number)[1]]
            slot = hash(encoded) & mask
            # Tag and length are compared too: a number may begin like another one.
            while (taken := table[slot]) and not der.startswith(encoded, start + taken - 1):
                slot = (slot + 1) & mask
            if not taken:
                table[slot] = number - start + 1
                added += 1
            at = behind
        self._number += added
        self._indexed = at  # last: from the end on, other threads look without the lock

    def _slots(self) -> int:
        """Return the size of a new table, a power of two: twice the entries that there may be, if all were like the
        first, or twice the last size.
        """
        if self._table:
            return 2 * len(self._table)
        _, end = _contents(self._der, self._start)
        entries = (self._end - self._start) // (end - self._start) + ENTRIES_AT_ONCE
        return 1 << (3 * entries // 2).bit_length()

    def _find(self, serial_number: int, wanted: bytes) -> bool:
        """Return True if an entry behind those in the index has this number, encoded as ``wanted``."""
        at = self._der.find(wanted, self._indexed, self._end)
        # The date of the revocation follows.
        while at >= 0 and self._der[at + len(wanted)] not in _TIMES:
            at = self._der.find(wanted, at + 1, self._end)
        # In an extension the same bytes may be something else.
        return at >= 0 and self._names(serial_number)

    def _names(self, serial_number: int) -> bool:
        """Return True if an entry has this number; a walk through the list, of 60 ms for a million entries."""
        if serial_number > 0:
            return self._crl.get_revoked_certificate_by_serial_number(serial_number) is not None
        return any(entry.serial_number == serial_number for entry in self._crl)

    def critical_extension(self) -> str:
        """Return a critical extension of an entry, other than the reason and the date, or an empty text.

        It is a dotted object identifier.  Raises the errors of ``hsframework.tls.parsing.PARSE_ERRORS`` for an entry
        that cannot be read.
        """
        if self._der.find(_CRITICAL, self._start, self._end) < 0:
            return ""
        if not any(map(self._ends_identifier, self._unknown_critical())):
            return ""
        # Reading the extensions of 100,000 entries takes seconds.
        for entry in self._crl:
            for extension in entry.extensions:
                if extension.critical and not isinstance(extension.value, x509.CRLReason | x509.InvalidityDate):
                    return str(extension.oid.dotted_string)
        return ""

    def _unknown_critical(self) -> list[int]:
        return [match.start() for match in _UNKNOWN_CRITICAL.finditer(self._der, self._start, self._end)]

    def _ends_identifier(self, offset: int) -> bool:
        """Return True if an object identifier may end at ``offset``: the bytes of a serial number seldom look so."""
        before = self._der[max(self._start, offset - _SHORT - 2) : offset]
        return any(before[-size - 2 : -size] == bytes((0x06, size)) for size in range(1, len(before) - 1))


def _contents(der: bytes, at: int) -> tuple[int, int]:
    """Return start and end of the contents of the element at ``at``, in a list that was parsed before."""
    length, start = der[at + 1], at + 2
    if length > _SHORT:
        size = length & _SHORT
        length, start = int.from_bytes(der[start : start + size], "big"), start + size
    return start, start + length
