"""Explanation of a request of the kernel: the rule, the profile and the credentials that it would get, and the verdict
on a peer's certificate.

Every answer is that of the functions that the service itself calls: :class:`KernelTerms` of the dispatcher,
:func:`judge_for` and :func:`check_admitted` of the agents.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hsframework.configuration.rules import Decision, Facts
from hsframework.configuration.settings import Configuration
from hsframework.credentials.admission import admission_list, check_admitted
from hsframework.credentials.judgement import judge_for
from hsframework.dispatcher.keys.keyring import NFS_KEYRING
from hsframework.dispatcher.keys.vault import Credentials, Vault
from hsframework.dispatcher.sources.kernel.terms import TLS_GROUP, KernelTerms
from hsframework.errors import ConfigurationError, HandshakeError, HsframeworkError, RequestRefused
from hsframework.failures import HandshakeFailed
from hsframework.interface import AuthMode, PeerIdentity, Request


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on a peer.  ``refusal``: None if it is admitted; ``entry``: of the admission list, if it has one."""

    refusal: HandshakeError | None
    path: tuple[bytes, ...] = ()
    """The accepted certificates, the leaf first."""
    entry: str | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The terms of a request.  ``refusal``: the error with which it would be completed; None: it goes to an agent."""

    facts: Facts
    decision: Decision
    refusal: HsframeworkError | None = None
    credentials: Credentials | None = None

    def request(self) -> Request | None:
        """Return the request as a handshaker would get it; None of a refused one."""
        given, facts = self.credentials, self.facts
        if given is None:
            return None
        return Request(
            id=0,
            group=TLS_GROUP,
            role=facts.role,
            auth_mode=facts.auth_mode,
            deadline=0.0,
            peer_name=facts.peer_name,
            profile=self.decision.profile,
            identities=given.identities,
            trust=given.trust,
            client_certificate=given.client_certificate,
            alpn=given.alpn,
            tls_priorities=given.tls_priorities,
            kernel_consumer=True,
        )


def explain(settings: Configuration, facts: Facts, *, vault: Vault | None = None) -> Explanation:
    """Return the terms that a request with these facts would get.

    ``vault``: the credentials, if they are loaded; a file that cannot be used refuses the requests that need it.
    """
    terms = KernelTerms(vault or Vault(settings, {}), settings)
    decision = terms.decide(facts)
    if decision.refusal:
        return Explanation(facts, decision, RequestRefused(decision.refusal, errno=errno.EACCES))
    of_nfs = facts.auth_mode is not AuthMode.PSK and facts.keyring in (None, NFS_KEYRING)
    try:
        profile = terms.profile(decision, TLS_GROUP)
        given = terms.credentials(profile, facts.role, facts.auth_mode, of_nfs=of_nfs)
        if profile != decision.profile:
            decision, given = replace(decision, profile=None), replace(given, trust=None)
    except (RequestRefused, ConfigurationError) as error:
        return Explanation(facts, decision, error)
    return Explanation(facts, decision, None, given)


def verdict_on(explanation: Explanation, chain: Sequence[bytes], psk_identity: bytes | None = None) -> Verdict:
    """Return the verdict on a peer that shows a chain, or holds a pre-shared key, or neither.

    Hooks of plugins that may refuse a peer are not asked.
    """
    request = explanation.request()
    if request is None:
        refusal = explanation.refusal
        return Verdict(HandshakeError(str(refusal), errno=refusal.errno if refusal else None))
    if chain and request.auth_mode is AuthMode.PSK:
        return Verdict(HandshakeError("a pre-shared key is wanted, and no certificate asked for", errno=errno.EPROTO))
    admit = None if request.trust is None else request.trust.admit
    try:
        path = judge_for(request)(tuple(chain)) if chain else ()
        peer = PeerIdentity(certificates=path, psk_identity=psk_identity)
        check_admitted(admit, peer)
    except HandshakeFailed as failure:
        return Verdict(failure)
    return Verdict(None, path, None if admit is None else admission_list(admit).entry_for(peer))
