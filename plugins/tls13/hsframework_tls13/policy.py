"""Ciphers, groups and signatures of a handshake: the settings, narrowed by the request's TLS policy.  Sans-IO.

A policy is never wider than the settings.  Its order of preference counts, and where it leaves none of the groups for
which a client sends key shares, the first that it leaves gets one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Request
from hsframework.tls.priorities import TlsPolicy, policy_of
from hsframework.tls.signatures import SCHEMES
from hsframework_tls13.ciphers import CipherSuite
from hsframework_tls13.settings import KNOWN_GROUPS, Settings

_SIGNATURES = {code: scheme.name for code, scheme in SCHEMES.items()} | {
    0x0401: "rsa_pkcs1_sha256",
    0x0501: "rsa_pkcs1_sha384",
    0x0601: "rsa_pkcs1_sha512",
}
"""OpenSSL's names of signature schemes."""


@dataclass(frozen=True)
class Choices:
    """Groups and signatures of a handshake, each in order of preference."""

    groups: tuple[str, ...]
    """As OpenSSL names them; at least one."""
    key_shares: tuple[str, ...]
    """Those of ``groups`` for which a client sends a key share at once."""
    signatures: tuple[int, ...] = ()
    """Signature schemes as on the wire; empty: OpenSSL's own."""
    server_precedence: bool = False
    """True if a server goes by its own preference."""

    @classmethod
    def of_settings(cls, settings: Settings) -> Choices:
        """Return the choices of a request without a policy."""
        return cls(settings.groups, settings.key_shares)

    @cached_property
    def best_group(self) -> str | None:
        """The first of ``groups``, where a client sends a key share for it among others; see :mod:`.prediction`."""
        return self.groups[0] if len(self.key_shares) > 1 and self.groups[0] in self.key_shares else None

    @cached_property
    def key(self) -> tuple[object, ...]:
        """Plain values that are equal for equal choices."""
        return self.groups, self.key_shares, self.signatures, self.server_precedence

    def group_list(self, *, best_alone: bool = False) -> str:
        """Return the groups as OpenSSL takes them: those with a key share have an asterisk."""
        shares = self.groups[:1] if best_alone else self.key_shares
        return ":".join(f"*{group}" if group in shares else group for group in self.groups)

    @property
    def signature_list(self) -> str:
        """The signatures as OpenSSL takes them; empty: its own."""
        return ":".join(_SIGNATURES[code] for code in self.signatures)


class Offer(NamedTuple):
    """The cipher suites of a handshake, and its other choices."""

    suites: tuple[CipherSuite, ...]
    choices: Choices


def offer_for(request: Request, settings: Settings, widest: Offer) -> Offer:
    """Return what a request's handshake offers or accepts; ``widest``: without a policy.

    Raises HandshakeFailed (NOT_OFFERED_HERE) for a policy that cannot be kept.
    """
    policy = policy_of(request)
    if policy is None:
        return widest
    suites = widest.suites
    by_code = {suite.code: suite for suite in suites}
    left = tuple(by_code[code] for code in policy.ciphers if code in by_code)
    if not left:
        what = "the ciphers of kTLS here" if request.kernel_consumer else "the ciphers in the settings"
        detail = f"the TLS policy allows none of {what}: {', '.join(suite.name for suite in suites)}"
        raise HandshakeFailed(Failure.NOT_OFFERED_HERE, detail)
    return Offer(left, _choices(policy, settings))


def _choices(policy: TlsPolicy, settings: Settings) -> Choices:
    by_code = {KNOWN_GROUPS[name]: name for name in settings.groups}
    groups = tuple(by_code[code] for code in policy.groups if code in by_code)
    if not groups:
        detail = f"the TLS policy allows none of the groups in the settings: {', '.join(settings.groups)}"
        raise HandshakeFailed(Failure.NOT_OFFERED_HERE, detail)
    return Choices(
        groups=groups,
        key_shares=tuple(group for group in groups if group in settings.key_shares) or groups[:1],
        signatures=policy.signatures,
        server_precedence=policy.server_precedence,
    )
