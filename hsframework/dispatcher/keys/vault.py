"""Identities, pre-shared keys and trust: loaded at start and at each reload, and given to requests by profile.

A file that cannot be used ends a start that somebody waits for.  After a crash nobody does: the dispatcher that takes
the place of the dead one goes on with what that one had.  A reload makes a new vault of what another process has
loaded (:mod:`hsframework.dispatcher.terms`).

Only the dispatcher reads key files.  An agent gets the bytes that one request needs.
"""

from __future__ import annotations

import errno
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache, cached_property
from itertools import chain
from typing import Any

import structlog

from hsframework.configuration.files import Stamp, key_of_file, stamps
from hsframework.configuration.settings import Configuration, Profile, TrustSettings
from hsframework.credentials.findings import CredentialFinding, TrustExamination, identity_dates, identity_findings
from hsframework.credentials.identities import load_identity
from hsframework.credentials.psk import load_psk_file
from hsframework.credentials.trust import KnownFiles, load_trust, system_trust
from hsframework.dispatcher.keys.lists import Dates, dates_of
from hsframework.dispatcher.keys.modes import member
from hsframework.dispatcher.policy import group_id
from hsframework.errors import ConfigurationError, RequestRefused
from hsframework.interface import (
    AuthMode,
    CertificateDemand,
    ClientUsage,
    CrlCheck,
    Identity,
    PresharedKey,
    Role,
    Secret,
    Trust,
)
from hsframework.tls.priorities import MAX_LENGTH

DEFAULT_PROFILE = "default"
_CRL_CHECKS = tuple(CrlCheck)
"""By their numbers in the specification."""
_NO_PROFILE = Profile()
_OWN = frozenset(
    ("identity", "psk", "trust-anchor", "trust-id", "crl", "crl-check", "client-certificate", "alpn", "tls-priorities")
)
"""Attributes that a consumer may bring in place of its profile's; of TLS policies, beside it."""


_ROLES = {"kernel-client": (Role.CLIENT,), "kernel-server": (Role.SERVER,)}
"""Roles of the profiles that have one role alone."""

_log = structlog.get_logger("hsframework.dispatcher")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Credentials of a request."""

    identities: tuple[Identity, ...]
    psks: tuple[PresharedKey, ...]
    trust: Trust | None
    client_certificate: CertificateDemand
    alpn: tuple[str, ...]
    tls_priorities: tuple[str, ...] = ()
    """All of them hold: the request's own, then its profile's."""
    trust_by_default: bool = False
    """True if nobody has chosen the trust: an agent that does not understand trust does without."""
    encoded: dict[tuple[Role, AuthMode], bytes] = field(default_factory=dict, init=False, repr=False, compare=False)
    """The attributes that :mod:`hsframework.dispatcher.messages` makes of them, once for all requests of a profile."""
    by_identity: dict[bytes, PresharedKey] = field(default_factory=dict, repr=False, compare=False)
    """The pre-shared keys, of several with one identity the first: a peer chooses how often one is looked up.  A
    profile's is shared by all requests that have the profile's keys."""

    def __post_init__(self) -> None:
        if not self.by_identity:
            for psk in self.psks:
                self.by_identity.setdefault(psk.identity, psk)

    def find_psk(self, identity: bytes) -> PresharedKey | None:
        """Return the key whose identity is exactly this, or None."""
        return self.by_identity.get(identity)


Part = tuple[str, str]
"""A table of credentials by kind and name: ``("identities", "web")``."""
_SYSTEM: Part = "system", ""
"""The system's own trust, which no table names."""


class Vault:
    """Credentials that the configuration names, loaded.

    ``before``: those of a predecessor that died, by part.  With them a file that cannot be used is no error: the part
    goes on with what it was, and one that had nothing refuses its requests; ``faults`` has the reasons.  Without them
    raises ConfigurationError that says what to change.  ``contents``: those of a vault with the same configuration, of
    files as they were by ``files``: no file is read.
    """

    def __init__(
        self,
        configuration: Configuration,
        before: Mapping[Part, Any] | None = None,
        *,
        contents: Mapping[Part, Any] | None = None,
        files: Mapping[str, Stamp] | None = None,
    ) -> None:
        # Before they are read: what changes meanwhile is newer than what is in use.
        self.files = stamps(configuration) if files is None else files
        self._profiles = configuration.profiles
        self._configuration = configuration
        self._resolved: dict[str | None, Credentials] = {}
        self._psks: dict[str | None, tuple[tuple[PresharedKey, ...], dict[bytes, PresharedKey]]] = {}
        self._before = before
        self._found: tuple[tuple[int, int], list[CredentialFinding]] | None = None
        """The findings, and the numbers of dates before and until the moment for which they were computed."""
        self.faults: dict[Part, str] = {}
        self._loaded: dict[Part, Any] = {} if contents is None else dict(contents)
        if contents is None:
            self._load_all(configuration)

    def _load_all(self, configuration: Configuration) -> None:
        groups = frozenset(group_id(group, "key-groups") for group in configuration.key_groups)
        for name, identity in configuration.identities.items():
            self._load(
                "identities",
                name,
                lambda item=identity: load_identity(item.certificate, item.private_key, key_groups=groups),
            )
        for name, psk in configuration.psks.items():
            self._load("psks", name, lambda item=psk: load_psk_file(item.file, key_groups=groups))
        known: KnownFiles = {}
        systems = cache(system_trust)
        for name, trust in configuration.trust.items():
            self._load("trust", name, lambda item=trust: _load_trust(item, known, systems))

    def contents(self) -> Mapping[Part, Any]:
        """Return all that is loaded, for a successor."""
        return dict(self._loaded)

    def has_same_contents(self, other: Vault) -> bool:
        """True if both have loaded the same; the system's trust counts if both have it."""
        parts = {*self._loaded, *other._loaded} - {_SYSTEM}
        if _SYSTEM in self._loaded and _SYSTEM in other._loaded:
            parts.add(_SYSTEM)
        return all(self._loaded.get(part) == other._loaded.get(part) for part in parts)

    def _load(self, kind: str, name: str, load: Any) -> None:
        try:
            self._loaded[kind, name] = load()
        except ConfigurationError as error:
            table = f"{kind}.{name}"
            key = key_of_file(self._configuration, table, str(error))
            reason = self._configuration.located(f"{table}: {error}", key)
            if self._before is None:
                raise ConfigurationError(reason) from None
            self.faults[kind, name] = reason
            if (kind, name) in self._before:
                self._loaded[kind, name] = self._before[kind, name]
                _log.error("a file has become unusable; the service goes on with what it had", reason=reason)
            else:
                _log.error("a file is unusable; requests that need it are refused", reason=reason)

    def _part(self, kind: str, name: str) -> Any:
        """Return a part.  Raises RequestRefused (ENOKEY) for one that could not be loaded."""
        if (kind, name) not in self._loaded:
            reason = self.faults.get((kind, name), f"{kind}.{name}: it could not be loaded; the log says why")
            raise RequestRefused(reason, errno=errno.ENOKEY)
        return self._loaded[kind, name]

    def identities(self) -> dict[str, Identity]:
        """Return the identities that could be loaded, by name."""
        return self._named("identities")

    def lists(self) -> dict[str, Dates]:
        """Return the revocation lists of each trust."""
        return {name: dates_of(trust) for name, trust in self._named("trust").items()}

    def trusts(self) -> Iterable[Trust]:
        """Return all trusts that are loaded."""
        return [part for part in self._loaded.values() if isinstance(part, Trust)]

    def _named(self, kind: str) -> dict[str, Any]:
        return {name: part for (of, name), part in self._loaded.items() if of == kind}

    def resolve(self, profile_name: str | None, values: Mapping[str, Any]) -> Credentials:
        """Return the credentials of a profile, or in their place those that the consumer brought itself.

        ``values``: attribute set ``request`` of a submit.  Without a profile's name the profile ``default`` serves
        where there is one, and only to a consumer that policy allows it.  Raises RequestRefused.
        """
        if brings_nothing(values):
            found = self._resolved.get(profile_name)
            if found is None:
                found = self._resolved[profile_name] = self._resolve(profile_name, {})
            return found
        return self._resolve(profile_name, values)

    def _resolve(self, profile_name: str | None, values: Mapping[str, Any]) -> Credentials:
        profile = self._profile(profile_name)
        trust: Trust | None = self._part("trust", profile.trust) if profile.trust else None
        if values.get("trust-anchor"):
            check = _crl_check(values.get("crl-check", 0))
            trust = Trust(tuple(values["trust-anchor"]), tuple(values.get("crl", ())), check)
        elif values.get("crl") or "crl-check" in values:
            raise RequestRefused("revocation lists come with the trust anchors that issued them", errno=errno.EINVAL)
        demand = values.get("client-certificate")
        if profile.admit is not None:
            trust, demand = _admitting(profile.admit, trust, values), CertificateDemand.REQUIRE
        brought = brought_psks(values)
        psks, by_identity = (brought, {}) if brought else self._psks_of(profile_name, profile)
        return Credentials(
            identities=brought_identities(values)
            or tuple(self._part("identities", name) for name in profile.identities),
            psks=psks,
            by_identity=by_identity,
            trust=trust,
            client_certificate=CertificateDemand[profile.client_certificate.upper()]
            if demand is None
            else member(CertificateDemand, demand, "client-certificate"),
            alpn=tuple(values.get("alpn", ())) or profile.alpn,
            tls_priorities=_brought_policy(values) + _profile_policy(profile),
        )

    def _psks_of(
        self, name: str | None, profile: Profile
    ) -> tuple[tuple[PresharedKey, ...], dict[bytes, PresharedKey]]:
        """Return the pre-shared keys of a profile, in order and by identity, gathered once."""
        found = self._psks.get(name)
        if found is None:
            keys = tuple(psk for table in profile.psks for psk in self._part("psks", table))
            found = self._psks[name] = keys, Credentials((), keys, None, CertificateDemand.NONE, ()).by_identity
        return found

    def findings(self, now: datetime) -> list[CredentialFinding]:
        """Return what does not serve ``now``: certificates and revocation lists, by the tables that name them.

        They are computed again when a date of a certificate or of a list has passed since: metrics ask often.
        """
        passed = bisect_left(self._dates, now), bisect_right(self._dates, now)
        if self._found is None or self._found[0] != passed:
            self._found = passed, self._findings(now)
        return self._found[1]

    def _findings(self, now: datetime) -> list[CredentialFinding]:
        found = [finding for examination in self.examinations.values() for finding in examination.findings(now)]
        roles: dict[str, set[Role]] = {}
        identities = self.identities()
        for name, profile in self._profiles.items():
            for own in profile.identities:
                roles.setdefault(own, set()).update(_ROLES.get(name, ()))
                examination = self.examinations.get(profile.trust) if profile.trust else None
                if own in identities and examination is not None and not examination.certifies(identities[own]):
                    detail = f"profiles.{name} trusts {profile.trust!r}, which does not certify this identity"
                    detail += ": peers with the same trust refuse it"
                    found.append(CredentialFinding(f"identities.{own}", detail))
        for own, identity in identities.items():
            found += identity_findings(f"identities.{own}", identity, tuple(roles.get(own, ())), now)
        return found

    @cached_property
    def _dates(self) -> list[datetime]:
        """The dates at which findings change, in order."""
        dates = chain(
            *(examination.dates() for examination in self.examinations.values()),
            *map(identity_dates, self.identities().values()),
        )
        return sorted(dates)

    @cached_property
    def examinations(self) -> dict[str, TrustExamination]:
        """Trusts by name, each read once."""
        return {name: TrustExamination(f"trust.{name}", trust) for name, trust in self._named("trust").items()}

    @property
    def system_trust(self) -> Trust:
        """Return the system's own bundle, read at the first use.  Raises ConfigurationError."""
        if _SYSTEM not in self._loaded:
            self._loaded[_SYSTEM] = system_trust()
        found: Trust = self._loaded[_SYSTEM]
        return found

    def profile_name(self, asked: str | None, group: str) -> str | None:
        """Return the profile of a request in this group: the one it names, else ``default``, else None.

        ``default`` serves where it is configured, and for this group.
        """
        if asked:
            return asked
        default = self._profiles.get(DEFAULT_PROFILE)
        return DEFAULT_PROFILE if default is not None and default.serves(group) else None

    def serves(self, name: str | None, group: str) -> bool:
        """Return True unless the profile is tied to other groups than this one."""
        return name is None or self._profiles.get(name, _NO_PROFILE).serves(group)

    def restricts(self, name: str | None) -> bool:
        """Return True for a profile that says whom it admits, or that demands a certificate of clients."""
        profile = self._profiles.get(name or "", _NO_PROFILE)
        return profile.admit is not None or profile.client_certificate != _NO_PROFILE.client_certificate

    def check_group(self, name: str | None, group: str) -> None:
        """Raise RequestRefused (EACCES) for a profile that is tied to other groups than this one."""
        if not self.serves(name, group):
            raise RequestRefused(
                f"the profile {name!r} is not for the group {group!r:.80}: name another, or add the group to "
                f"profiles.{name}.groups",
                errno=errno.EACCES,
            )

    def _profile(self, name: str | None) -> Profile:
        if name is None:
            return _NO_PROFILE
        profile = self._profiles.get(name)
        if profile is None:
            raise RequestRefused(f"there is no profile {name!r}; configure [profiles.{name}]", errno=errno.ENOENT)
        return profile


def brings_nothing(values: Mapping[str, Any]) -> bool:
    """True if all credentials of a submit are its profile's."""
    return _OWN.isdisjoint(values)


def brought_identities(values: Mapping[str, Any]) -> tuple[Identity, ...]:
    """Return the identities that a consumer brought in its submit.  Raises RequestRefused."""
    found = []
    for item in values.get("identity", ()):
        if not item.get("certificate") or not isinstance(item.get("private-key"), Secret):
            raise RequestRefused("an identity needs a certificate and a private key", errno=errno.EINVAL)
        found.append(Identity(tuple(item["certificate"]), item["private-key"]))
    return tuple(found)


def brought_psks(values: Mapping[str, Any]) -> tuple[PresharedKey, ...]:
    """Return the pre-shared keys that a consumer brought in its submit.  Raises RequestRefused."""
    found = []
    for item in values.get("psk", ()):
        psk = PresharedKey(item.get("identity", b""), item.get("key", Secret(b"")), item.get("hash", "sha256"))
        if not psk.identity or not len(psk.key) or psk.hash not in ("sha256", "sha384"):
            raise RequestRefused("a psk needs an identity, a key, and the hash sha256 or sha384", errno=errno.EINVAL)
        found.append(psk)
    return tuple(found)


def _brought_policy(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the TLS policy that a consumer brought in its submit.  Raises RequestRefused."""
    found = tuple(values.get("tls-priorities", ()))
    if len(found) > 1 or any(len(text) > MAX_LENGTH for text in found):
        raise RequestRefused(
            f"a request has one tls-priorities, of {MAX_LENGTH} characters at most", errno=errno.EINVAL
        )
    return found


def _admitting(admit: tuple[str, ...], trust: Trust | None, values: Mapping[str, Any]) -> Trust:
    """Return a trust with the profile's admission list.  Raises RequestRefused for one in a file, which is not read."""
    if "trust-id" in values:
        raise RequestRefused(
            "the profile has an admission list, beside which no trust in a file is taken", errno=errno.EINVAL
        )
    return Trust((), admit=admit) if trust is None else replace(trust, admit=admit)


def _profile_policy(profile: Profile) -> tuple[str, ...]:
    """Return the TLS policy of a profile; empty without one."""
    return () if profile.tls_priorities is None else (profile.tls_priorities,)


def _crl_check(number: int) -> CrlCheck:
    """Return the member of this number in the specification.  Raises RequestRefused."""
    if number >= len(_CRL_CHECKS):
        known = ", ".join(map(str, range(len(_CRL_CHECKS))))
        raise RequestRefused(f"crl-check {number} is not one of {known}", errno=errno.EINVAL)
    return _CRL_CHECKS[number]


def _load_trust(settings: TrustSettings, known: KnownFiles, systems: Callable[[], Trust]) -> Trust:
    """Load a trust.  ``known``: files that others have read; ``systems``: returns the system's trust, read once."""
    check, usage = CrlCheck(settings.crl_check), ClientUsage(settings.client_usage)
    own = load_trust(settings.bundle, settings.crl, crl_check=check, client_usage=usage, known=known)
    if not settings.system:
        return own
    return replace(own, anchors=own.anchors + systems().anchors)
