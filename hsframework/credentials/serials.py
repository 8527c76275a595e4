"""The serial numbers of one revocation list, looked up in logarithmic time.

``cryptography`` walks a list for each look-up: 5 ms for 100,000 entries.  The index holds the low 64 bits of each
number, sorted, in 8 bytes; what it finds is confirmed in the list itself.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left

from cryptography import x509

_MASK = (1 << 64) - 1
_MAX_CONFIRMED = 1024
"""Numbers that were found in the index and confirmed."""
_CRITICAL = b"\x01\x01\xff"
"""BOOLEAN TRUE in DER: an extension that is marked as critical holds it."""
_CERTIFICATE_ISSUER = bytes.fromhex("0603551d1d")
"""The object identifier 2.5.29.29, with tag and length."""


class RevokedSerials:
    """The serial numbers in a list, and the critical extensions of its entries.

    Raises the errors of ``hsframework.tls.parsing.PARSE_ERRORS`` for an entry that cannot be read.
    """

    def __init__(self, crl: x509.CertificateRevocationList) -> None:
        self._crl = crl
        self._index = array("Q", sorted(entry.serial_number & _MASK for entry in crl))
        self._confirmed: dict[int, bool] = {}
        self.names_other_issuers = _CERTIFICATE_ISSUER in crl.tbs_certlist_bytes
        """True if an entry names its certificate's issuer: the list is an indirect one."""
        self.critical_extensions = _critical_extensions(crl)
        """Critical extensions of entries, as dotted object identifiers, other than the reason and the date."""

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._index)

    def __contains__(self, serial_number: int) -> bool:
        """Return True if the list names ``serial_number``."""
        low = serial_number & _MASK
        at = bisect_left(self._index, low)
        if at == len(self._index) or self._index[at] != low:
            return False
        found = self._confirmed.get(serial_number)
        if found is None:
            found = self._confirmed[serial_number] = any(entry.serial_number == serial_number for entry in self._crl)
            if len(self._confirmed) > _MAX_CONFIRMED:
                del self._confirmed[next(iter(self._confirmed))]
        return found


def _critical_extensions(crl: x509.CertificateRevocationList) -> frozenset[str]:
    if _CRITICAL not in crl.tbs_certlist_bytes:  # reading the extensions of 100,000 entries takes seconds
        return frozenset()
    return frozenset(
        extension.oid.dotted_string
        for entry in crl
        for extension in entry.extensions
        if extension.critical and not isinstance(extension.value, x509.CRLReason | x509.InvalidityDate)
    )
