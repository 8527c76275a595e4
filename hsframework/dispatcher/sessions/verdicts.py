"""Verdicts on sessions by terms that came into force after they were made.

A peer is out if the terms, as they are now, would refuse it for what it is:

* its certificate, or one above it, is revoked;
* no authority that it has shown is trusted any longer;
* the profile's admission list has no entry for it, or its pre-shared key is no longer in the profile;
* the rules refuse the request.

A certificate or a list that has only expired since puts nobody out: time alone ends no session, whatever the clock
says.  So a path is judged as of the moment of the handshake and as of now: one verdict in its favour is enough, but for
a serial number in a list, whenever that is of.  What cannot be judged stays.

It reads no file and runs off the loop.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable
from dataclasses import replace
from datetime import UTC, datetime

from hsframework.configuration.settings import Configuration
from hsframework.credentials.admission import check_admitted
from hsframework.credentials.chain import verifier_for
from hsframework.credentials.rules import purpose_for
from hsframework.dispatcher.keys.vault import Credentials, Vault
from hsframework.dispatcher.sessions.book import Session
from hsframework.dispatcher.sources.kernel.terms import KernelTerms
from hsframework.errors import ConfigurationError, HsframeworkError, RequestRefused
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import AuthMode, CrlCheck, PeerIdentity, Trust

BREATH = 0.0001
"""Seconds for which the thread sleeps after each verdict: else the loop, whose handshakes wait, gets Python's lock no
sooner than after several."""
_SUNRPC = "sunrpc"


class Verdicts:
    """Verdicts by one vault and one configuration.  Sessions with the same peer and the same terms share one."""

    def __init__(self, vault: Vault, configuration: Configuration) -> None:
        self._vault = vault
        self._terms = KernelTerms(vault, configuration)
        self._known: dict[Hashable, str] = {}

    def out(self, sessions: Iterable[Session]) -> list[tuple[Session, str]]:
        """Return the sessions whose peers are out, each with the reason."""
        return [(session, reason) for session in sessions if (reason := self.reason(session))]

    def reason(self, session: Session) -> str:
        """Return the reason why the peer of a session is out; empty: it is not."""
        key = (
            session.facts,
            session.profile,
            session.role,
            session.own_trust,
            session.certificates,
            session.psk_identity,
            session.peer_name,
            session.alpn,
        )
        if key not in self._known:
            self._known[key] = self._reason(session)
            time.sleep(BREATH)
        return self._known[key]

    def _reason(self, session: Session) -> str:
        try:
            given = self._given(session)
        except RequestRefused as refusal:
            return str(refusal) if session.facts is not None else ""
        except ConfigurationError:
            return ""
        if given is None:
            return ""
        if _has_lost_its_key(session, given):
            return "its pre-shared key is no longer in the profile"
        return "" if given.trust is None else _by_trust(session, given.trust)

    def _given(self, session: Session) -> Credentials | None:
        """Return the credentials that the same request has now; None: its own.  Raises RequestRefused for a refusal."""
        if session.facts is None:
            if session.own_trust:
                return None
            return self._vault.resolve(session.profile, {})
        decision = self._terms.decide(session.facts)
        if decision.refusal:
            raise RequestRefused(decision.refusal)
        try:
            return self._terms.credentials(decision.profile, session.role, session.auth_mode, of_nfs=False)
        except RequestRefused:
            return None  # a part of the profile is unusable: nothing is known against the peer


def _has_lost_its_key(session: Session, given: Credentials) -> bool:
    """Return True if a program's session had a pre-shared key of the profile, which has others now."""
    if session.facts is not None or session.auth_mode is not AuthMode.PSK or session.psk_identity is None:
        return False
    return bool(given.psks) and given.find_psk(session.psk_identity) is None


def _by_trust(session: Session, trust: Trust) -> str:
    peer = PeerIdentity(certificates=session.certificates, psk_identity=session.psk_identity)
    try:
        check_admitted(trust.admit, peer)
    except HandshakeFailed as error:
        return str(error) if error.failure is Failure.NOT_AUTHORIZED else ""
    if not session.certificates:
        return ""
    moments = datetime.fromtimestamp(session.made_at, UTC), datetime.now(UTC)
    for moment in moments:
        found = _judged(session, trust.of_anybody, moment)
        if found is None or found.failure is Failure.REVOKED:
            return "" if found is None else str(found)
    without_lists = replace(trust.of_anybody, crls=(), crl_check=CrlCheck.IF_PRESENT)
    failures = [_judged(session, without_lists, moment) for moment in moments]
    untrusted = [each for each in failures if each is not None and each.failure is Failure.UNTRUSTED]
    return str(untrusted[0]) if len(untrusted) == len(moments) else ""


def _judged(session: Session, trust: Trust, moment: datetime) -> HandshakeFailed | None:
    """Return the failure of the peer's path as of a moment, or None."""
    of_nfs = session.facts is not None and _SUNRPC in session.alpn
    try:
        verifier_for(trust).verify(
            session.certificates,
            purpose=purpose_for(session.role, trust.client_usage, of_nfs=of_nfs),
            peer_name=session.peer_name,
            now=moment,
        )
    except HandshakeFailed as error:
        return error
    except HsframeworkError:
        return None
    return None
