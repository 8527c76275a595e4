"""The versions of PSP that a request's TLS policy permits.  Sans-IO.

The policy is about the data of the connection, and those are protected by PSP and not by the TLS session that agrees on
its keys.  So a version stands for the cipher suite with the same cipher; versions that do not encrypt stand for none.
"""

from __future__ import annotations

from collections.abc import Sequence

from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Request
from hsframework.tls.priorities import policy_of
from hsframework_psp.versions import Version

_SUITES = {Version.AES_GCM_128: 0x1301, Version.AES_GCM_256: 0x1302}
"""Cipher suites of TLS 1.3 (RFC 8446 appendix B.4)."""


def permitted(preference: Sequence[Version], request: Request) -> Sequence[Version]:
    """Return the versions that the request may use, in its policy's order; all of ``preference`` without a policy.

    Raises HandshakeFailed (NOT_OFFERED_HERE) if the policy permits none.
    """
    policy = policy_of(request)
    if policy is None:
        return preference
    found = [version for version in preference if _SUITES.get(version) in policy.ciphers]
    if not found:
        shown = ", ".join(version.label for version in preference)
        detail = f"the TLS policy has the cipher of none of the versions of PSP in the settings: {shown}"
        raise HandshakeFailed(Failure.NOT_OFFERED_HERE, detail)
    return sorted(found, key=lambda version: policy.ciphers.index(_SUITES[version]))
