"""Terms of the kernel's requests: the profile by the rules, and the credentials by profile, role and auth mode.

``hsframework explain`` gets its answers here too, so that it says what the service does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import structlog

from hsframework.configuration.rules import Decision, Facts
from hsframework.configuration.settings import Configuration
from hsframework.dispatcher.keys.vault import Credentials, Vault
from hsframework.errors import ConfigurationError, RequestRefused
from hsframework.interface import AuthMode, CertificateDemand, Identity, PresharedKey, Role, Trust

TLS_GROUP = "tlshd"
SUNRPC_ALPN = ("sunrpc",)
"""RFC 9289 section 4.1, for NFS.  Its requests bring no keyring, or ``.nfs``; DRBD's bring one of their own, and NVMe's
have pre-shared keys."""

_log = structlog.get_logger("hsframework.dispatcher")


class KernelTerms:
    """The rules of a configuration, and the credentials that they lead to."""

    def __init__(self, vault: Vault, configuration: Configuration) -> None:
        self._vault = vault
        self._rules = configuration.rules()
        self.ask_for_keyrings = self._rules.ask_for_keyrings
        """True if a decision depends on the name of the request's keyring."""

    def decide(self, facts: Facts) -> Decision:
        """Return the profile of a request with these facts, or its refusal."""
        return self._rules.decide(facts)

    def profile(self, decision: Decision, group: str) -> str | None:
        """Return the profile of a decision for a request of this group; None without one.

        A role's own profile that is tied to other groups is left out, and nothing takes the place of its trust.  Raises
        RequestRefused (EACCES) for one that a rule has chosen, and for one that says whom it admits, or that demands
        a certificate: without it everybody would be let in.
        """
        if decision.rule or self._vault.serves(decision.profile, group) or self._vault.restricts(decision.profile):
            self._vault.check_group(decision.profile, group)
            return decision.profile
        return None

    def credentials(
        self,
        profile: str | None,
        role: Role,
        auth_mode: AuthMode,
        *,
        of_nfs: bool,
        identities: tuple[Identity, ...] = (),
        psks: tuple[PresharedKey, ...] = (),
        tls_priorities: tuple[str, ...] = (),
    ) -> Credentials:
        """Return the credentials of a request: those that it names itself, and the profile's for the rest.

        ``of_nfs``: True if the request may be one of NFS.  ``identities``, ``psks``, ``tls_priorities``: the request's
        own.  Raises RequestRefused and ConfigurationError.
        """
        given = self._vault.resolve(profile, {})
        if profile is None and role is Role.CLIENT and auth_mode is not AuthMode.PSK:
            given = replace(given, trust=self._vault.system_trust, trust_by_default=True)
        demand = given.client_certificate
        if role is Role.SERVER and profile is not None and given.trust is not None and demand is CertificateDemand.NONE:
            demand = CertificateDemand.REQUEST
        default_alpn = SUNRPC_ALPN if of_nfs else ()
        return replace(
            given,
            identities=(identities or given.identities) if auth_mode is AuthMode.X509 else (),
            psks=psks,
            client_certificate=demand,
            alpn=() if auth_mode is AuthMode.PSK else given.alpn or default_alpn,
            tls_priorities=tls_priorities + given.tls_priorities,
        )

    def certificates(self) -> Iterator[bytes]:
        """Yield the certificates of the identities and authorities of all profiles that requests may get."""
        for role, name in [(each, name) for each in Role for name in self._rules.profiles(each)]:
            try:
                given = self._vault.resolve(name, {})
            except RequestRefused:
                # A part of the profile is unusable, which the vault has logged.
                continue
            yield from (identity.chain[0] for identity in given.identities)
            trust = self._load_system_trust() if name is None and role is Role.CLIENT else given.trust
            yield from () if trust is None else trust.anchors

    def _load_system_trust(self) -> Trust | None:
        """Load the system's trust at start, since no request may open a file.

        Return None on a host that has none: it may serve pre-shared keys alone.
        """
        try:
            return self._vault.system_trust
        except ConfigurationError as error:
            _log.info("the kernel's requests with certificates will be refused", reason=str(error))
            return None
