"""Requests of the kernel, by whichever form of the service they come.

A request names keys by serial, or none: then it gets those of its role's profile.  Serials are resolved here; an agent
gets the bytes.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from hsframework.configuration.rules import OWN_NAMESPACE, Facts, Unknown
from hsframework.configuration.settings import Configuration
from hsframework.credentials.tags import SessionTags
from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.keys.keyring import KernelKeys
from hsframework.dispatcher.keys.vault import Credentials, Vault
from hsframework.dispatcher.messages import Parameters, parameters
from hsframework.dispatcher.requests.asked import Asked
from hsframework.dispatcher.requests.request import (
    HIGHEST_URGENCY,
    Outcome,
    PendingRequest,
    Source,
    Submission,
    no_key,
)
from hsframework.dispatcher.sources.kernel.terms import TLS_GROUP, KernelTerms
from hsframework.dispatcher.sources.kernel.wire import Accepted, Ending
from hsframework.errors import MessageError, RequestRefused
from hsframework.interface import AuthMode, Identity, PresharedKey, Role
from hsframework.process import keyctl

INITIAL = 0
"""The handshake type of a first handshake; the raw form names others."""


@dataclass(frozen=True, slots=True)
class KernelOrigin:
    """Keys of a request in the kernel's keyrings."""

    keyring: int | None
    """Held to the end of a request whose peer names the key; else until the dispatcher has taken the request."""
    serials: dict[bytes, int]
    """Serials of its pre-shared keys, by identity; one that is looked up is added."""
    dialect: str = ""
    """That of its DONE."""
    serves: bool = False
    """True if the consumer is a server, which takes a peer without a key for one that has shown no certificate."""


class KernelRequests:
    """Maker of submissions from replies to the kernel's ACCEPT."""

    def __init__(self, vault: Vault, keys: KernelKeys, configuration: Configuration) -> None:
        self.keys = keys
        self._practised: frozenset[bytes] = frozenset()
        self.renew(vault, configuration)

    def renew(self, vault: Vault, configuration: Configuration) -> None:
        """Make the submissions by these from now on."""
        self._timeouts, self._session_tags = configuration.timeouts, configuration.session_tags
        self._terms = KernelTerms(vault, configuration)
        certificates = list(dict.fromkeys(self._terms.certificates()))
        self.keys.practise(each for each in certificates if each not in self._practised)
        self._practised = frozenset(certificates)

    def take(self, source: Source, group: str, accepted: Accepted, custody: Custody) -> tuple[Submission, KernelOrigin]:
        """Return the submission for a reply to ACCEPT, and its origin.  Raises RequestRefused and HandshakeFailed."""
        values = accepted.values
        if not custody.peer_host:
            raise RequestRefused("the connection has ended", errno=errno.ENOTCONN)
        if values.get("handshake-type", INITIAL) != INITIAL:
            raise RequestRefused("no agent rekeys a session; only first handshakes are served", errno=errno.EOPNOTSUPP)
        try:
            role, auth_mode = Role(values.get("message-type", 0)), AuthMode(values.get("auth-mode", 0))
        except ValueError:
            raise RequestRefused("a request of an unknown kind", errno=errno.EOPNOTSUPP) from None
        if auth_mode is AuthMode.OWN:
            raise RequestRefused("a request without an auth mode", errno=errno.EOPNOTSUPP)
        facts = self._facts(source, custody, role, auth_mode, values)
        decision = self._terms.decide(facts)
        if decision.refusal:
            raise RequestRefused(decision.refusal, errno=errno.EACCES)
        profile = self._terms.profile(decision, group)
        psks = self._named_psks(values) if auth_mode is AuthMode.PSK else {}
        given = self._credentials(profile, role, auth_mode, values, group, tuple(psk for psk, _ in psks.values()))
        if profile != decision.profile:
            given = replace(given, trust=None)
        urgency = min(values.get("urgency", 0), HIGHEST_URGENCY)
        asked: dict[str, Any] = {
            "group": group,
            "profile": profile,
            "peername": (values.get("peername") or None) if role is Role.CLIENT else None,
            "urgency": urgency or None,
            "attributes": accepted.mechanism or None,
        }
        serials = {identity: serial for identity, (_, serial) in psks.items()}
        origin = KernelOrigin(values.get("keyring"), serials, accepted.dialect, serves=role is Role.SERVER)
        looks_up = auth_mode is AuthMode.PSK and role is Role.SERVER
        submission = Submission(
            source=source,
            consumer=source.name,
            group=group,
            timeout=self._timeout(values, role),
            parameters=_parameters(asked, given, role, auth_mode, source.name, accepted.dialect),
            trust=given.trust,
            psk_lookup=partial(self._look_up, origin) if looks_up else no_key,
            urgency=urgency,
            kernel_consumer=True,
            rule=decision.rule,
            asked=_asked(facts, profile, given, self._session_tags),
        )
        return submission, origin

    def taken(self, submission: Submission, origin: KernelOrigin) -> None:
        """Release the keyring of a request that the dispatcher has taken, unless keys will be looked up in it."""
        if submission.psk_lookup is no_key:
            self.keys.forget(origin.keyring)

    @contextlib.contextmanager
    def ending(self, request: PendingRequest, outcome: Outcome) -> Iterator[Ending]:
        """Yield the arguments of a request's DONE; the keys that name its peer are valid within the block."""
        origin = request.origin
        assert isinstance(origin, KernelOrigin)
        serial, added = self._peer(origin, outcome)
        try:
            # A success without the peer's name would be one of somebody who has shown nothing.
            unnamed = origin.serves and added and serial is None
            yield Ending(
                errno.EDQUOT if unnamed else outcome.status,
                () if serial is None else (serial,),
                mechanism=_session(outcome),
                dialect=origin.dialect,
            )
        finally:
            if added and serial is not None:
                self.keys.remove(serial)
            if request.submission.psk_lookup is not no_key:
                self.keys.forget(origin.keyring)

    @contextlib.contextmanager
    def restored(self, outcome: Outcome, dialect: str) -> Iterator[Ending]:
        """Yield the same for a request of an earlier dispatcher, whose keys are those of the configured keyrings."""
        identity = outcome.values.get("remote-psk-identity")
        found = None if identity is None else self.keys.find_psk(identity)
        origin = KernelOrigin(None, {} if found is None or identity is None else {identity: found[1]})
        serial, added = self._peer(origin, outcome)
        try:
            peers = () if serial is None else (serial,)
            yield Ending(outcome.status, peers, mechanism=_session(outcome), dialect=dialect)
        finally:
            if added and serial is not None:
                self.keys.remove(serial)

    def _peer(self, origin: KernelOrigin, outcome: Outcome) -> tuple[int | None, bool]:
        """Return the serial of the peer's key, or None; and True if the key was made for this."""
        if outcome.status:
            return None, False
        identity = outcome.values.get("remote-psk-identity")
        if identity is not None:
            return origin.serials.get(identity), False
        certificates = outcome.values.get("remote-certificate")
        if certificates:
            return self.keys.add_certificate(certificates[0]), True
        return None, False

    def _facts(
        self, source: Source, custody: Custody, role: Role, auth_mode: AuthMode, values: Mapping[str, Any]
    ) -> Facts:
        """Return the facts of a request, by which the rules decide."""
        local, port = split_address(custody.local_address)
        return Facts(
            role=role,
            auth_mode=auth_mode,
            peer=custody.peer_host,
            local=local,
            local_port=port,
            peer_name=(values.get("peername") or None) if role is Role.CLIENT else None,
            namespace=source.name.partition(":")[2] or OWN_NAMESPACE,
            keyring=_keyring_name(values.get("keyring")) if self._terms.ask_for_keyrings else None,
        )

    def _credentials(
        self,
        profile: str | None,
        role: Role,
        auth_mode: AuthMode,
        values: Mapping[str, Any],
        group: str,
        psks: tuple[PresharedKey, ...],
    ) -> Credentials:
        """Return the credentials that the request names by serial, and the profile's for those that it does not."""
        identities: tuple[Identity, ...] = ()
        if auth_mode is AuthMode.X509:
            identities = tuple(
                self.keys.identity(item["cert"], item["privkey"])
                for item in values.get("certificate", ())
                if item.get("cert") and item.get("privkey")
            )
        of_nfs = group == TLS_GROUP and auth_mode is not AuthMode.PSK and self.keys.may_be_nfs(values.get("keyring"))
        return self._terms.credentials(
            profile,
            role,
            auth_mode,
            of_nfs=of_nfs,
            identities=identities,
            psks=psks,
            tls_priorities=_own_policy(values),
        )

    def _named_psks(self, values: Mapping[str, Any]) -> dict[bytes, tuple[PresharedKey, int]]:
        """Return by identity the keys whose serials the request names, each with its serial; 0 stands for none."""
        found = {}
        for serial in values.get("peer-identity", ()):
            if serial:
                psk = self.keys.psk(serial)
                found[psk.identity] = psk, serial
        return found

    def _look_up(self, origin: KernelOrigin, identity: bytes) -> PresharedKey | None:
        found = self.keys.find_psk(identity, origin.keyring)
        if found is None:
            return None
        psk, origin.serials[identity] = found
        return psk

    def _timeout(self, values: Mapping[str, Any], role: Role) -> float:
        timeouts = self._timeouts
        asked = values.get("timeout", 0) / 1000
        return min(asked, timeouts.maximum) if asked else timeouts.client if role is Role.CLIENT else timeouts.server


def _asked(facts: Facts, profile: str | None, given: Credentials, session_tags: SessionTags | None) -> Asked:
    return Asked(
        role=facts.role,
        auth_mode=facts.auth_mode,
        profile=profile,
        peer_name=facts.peer_name,
        alpn=given.alpn,
        identities=given.identities,
        namespace=facts.namespace,
        facts=facts,
        session_tags=session_tags,
    )


def split_address(text: str) -> tuple[str | None, int | None]:
    """Return host and port of an address as :func:`~hsframework.dispatcher.custody.format_address` writes it."""
    host, _, port = text.rpartition(":")
    return (host.strip("[]"), int(port)) if host and port.isdecimal() else (None, None)


def _keyring_name(serial: int | None) -> str | Unknown | None:
    """Return the name of a request's keyring, None if it brings none."""
    if not serial:
        return None
    try:
        return keyctl.describe(serial).description
    except OSError as error:
        return Unknown(f"its keyring cannot be seen: {error.strerror}")


def _session(outcome: Outcome) -> bytes:
    """Return the attributes of a session, encoded; none of a failure."""
    session = None if outcome.status else outcome.values.get("session")
    return b"" if session is None else session.reveal()


def _own_policy(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the TLS policy that the consumer asks for; the raw form alone has a place for it."""
    text = values.get("tls-priorities")
    return (text,) if text else ()


def _parameters(
    asked: Mapping[str, Any], given: Credentials, role: Role, auth_mode: AuthMode, source: str, dialect: str
) -> Parameters:
    """Encode the parameters.  Raises RequestRefused: EIO, as for any request that cannot be handed over."""
    try:
        return parameters(asked, given, role, auth_mode, source=source, kernel_consumer=True, dialect=dialect)
    except MessageError as error:
        raise RequestRefused(f"the request cannot be handed over: {error}", errno=errno.EIO) from None
