"""The serial numbers of one revocation list, found in the list itself, without an index.

``cryptography`` walks a list for each look-up: 60 ms for a million entries; and an index of them takes a second and
8 MB in each process.  The encoded number is searched for as bytes instead: 7 ms for a million entries, and nothing the
second time, since results are remembered.  What is found is confirmed in the list.
"""

from __future__ import annotations

import re
from collections import OrderedDict

from cryptography import x509

MAX_REMEMBERED = 4096
"""Serial numbers of a list whose results are remembered."""

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
        self._remembered: OrderedDict[int, bool] = OrderedDict()
        self.names_other_issuers = der.find(_CERTIFICATE_ISSUER, start, end) >= 0
        """True if an entry names its certificate's issuer: the list is an indirect one."""

    def __contains__(self, serial_number: int) -> bool:
        """Return True if the list names ``serial_number``."""
        found = self._remembered.get(serial_number)
        if found is None:
            found = self._remembered[serial_number] = self._find(serial_number)
            if len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)
        return found

    def _find(self, serial_number: int) -> bool:
        contents = serial_number.to_bytes(serial_number.bit_length() // 8 + 1, "big", signed=True)
        if len(contents) > _SHORT:
            return self._names(serial_number)
        wanted = bytes((_INTEGER, len(contents))) + contents
        at = self._der.find(wanted, self._start, self._end)
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
