"""Rules for the kernel's requests: the tables ``[[rule]]``, and the choice of a profile by them.

The first rule counts whose conditions a request meets, all of them.  Where there are rules for a role, a request of
this role that meets none is refused, and so is one of which a fact is unknown that a rule asks for: the look-up of a
keyring's name may fail, and a rule that is passed over for that could be one that refuses.

:class:`Rules` decides for the service and for ``hsframework explain`` alike.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from hsframework.credentials.patterns import Patterns
from hsframework.errors import ConfigurationError
from hsframework.interface import AuthMode, Role
from hsframework.tls.host_names import ascii_name

OWN_NAMESPACE = "."
"""Name of the network namespace of the service itself, which no file has."""
ROLES = {"client": Role.CLIENT, "server": Role.SERVER}
AUTH_MODES = {"unauthenticated": AuthMode.UNAUTHENTICATED, "psk": AuthMode.PSK, "x509": AuthMode.X509}
CLIENT_PROFILE, SERVER_PROFILE = "kernel-client", "kernel-server"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Choice of a profile for requests of the kernel that meet every condition; the first rule that does counts.

    A role that has rules has them alone: a request that meets none is refused (EACCES).  A last rule without further
    conditions takes what is left.
    """

    name: str = ""
    """Name for logs and for `explain`; unset: its number, from 0 on."""
    role: str | None = None
    """client or server; unset: both."""
    networks: tuple[str, ...] | None = None
    """Networks of the peer, such as ``192.0.2.0/24``."""
    local_networks: tuple[str, ...] | None = None
    """Networks of our own address."""
    local_ports: tuple[int, ...] | None = None
    """Our own port: 2049 for exports of NFS."""
    peer_names: tuple[str, ...] | None = None
    """Names that a client asks its peer to prove.  ``*`` stands for one label, ``**`` for several."""
    namespaces: tuple[str, ...] | None = None
    """Network namespaces, as ``kernel.namespaces`` has them; ``.`` is that of the service."""
    keyrings: tuple[str, ...] | None = None
    """Names of the keyring that the request brings, such as ``.nfs``."""
    auth_modes: tuple[str, ...] | None = None
    """unauthenticated, psk or x509: the proof of our side that the request asks for."""
    profile: str | None = None
    """Profile of the request; unset: that of its role, as without rules."""
    refuse: bool = False
    """Refuse the request."""

    def __post_init__(self) -> None:
        if self.role is not None and self.role not in ROLES:
            raise ConfigurationError(f"role = {self.role!r} must be one of {', '.join(ROLES)}")
        for key in ("networks", "local_networks", "local_ports", "peer_names", "namespaces", "keyrings", "auth_modes"):
            if getattr(self, key) == ():
                raise ConfigurationError(f"{_dashed(key)}: an empty list matches nothing; leave it out for any")
        for key in ("networks", "local_networks"):
            _networks(_dashed(key), getattr(self, key) or ())
        for port in self.local_ports or ():
            if not 1 <= port <= 65535:
                raise ConfigurationError(f"local-ports: {port} is not from 1 to 65535")
        for mode in self.auth_modes or ():
            if mode not in AUTH_MODES:
                raise ConfigurationError(f"auth-modes: {mode!r} must be one of {', '.join(AUTH_MODES)}")
        try:
            Patterns(self.peer_names or (), ".")
        except ValueError as error:
            raise ConfigurationError(f"peer-names: {error}") from None
        if self.peer_names and self.role == "server":
            raise ConfigurationError("peer-names: a server's request names no peer; leave it out, or role = 'client'")
        if self.refuse and self.profile is not None:
            raise ConfigurationError("refuse and profile: a request that is refused has no profile; take one out")


@dataclass(frozen=True, slots=True)
class Unknown:
    """A fact whose look-up failed."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The facts of a request of the kernel.  None: it has none, which is known."""

    role: Role
    auth_mode: AuthMode
    peer: str | None = None
    """IP address of the peer, a zone or a prefix ``::ffff:`` included."""
    local: str | None = None
    local_port: int | None = None
    peer_name: str | None = None
    namespace: str = OWN_NAMESPACE
    keyring: str | Unknown | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """A profile, or the refusal of a request.

    ``rule``: the label of the rule that decided; empty: there is none for the role.  ``profile``: None: none is
    configured.  ``refusal``: the reason; empty: the request is not refused.  ``passed``: for each rule before, the
    condition that the request does not meet.  ``index``: number of the rule in the configuration.
    """

    rule: str
    profile: str | None
    refusal: str = ""
    passed: tuple[tuple[str, str], ...] = ()
    index: int | None = field(default=None, compare=False)


class Rules:
    """The rules of a configuration, parsed.  ``defaults``: the profile of each role, for rules that name none."""

    def __init__(self, rules: Iterable[Rule], defaults: Mapping[Role, str | None]) -> None:
        self.defaults = dict(defaults)
        self._rules = [_Parsed(index, rule) for index, rule in enumerate(rules)]

    def profiles(self, role: Role) -> tuple[str | None, ...]:
        """Return the profiles that requests of a role may get, each once."""
        own = [rule for rule in self._rules if rule.role in (None, role)]
        named = [rule.profile or self.defaults[role] for rule in own if not rule.refuse]
        return tuple(dict.fromkeys(named if own else [self.defaults[role]]))

    @property
    def ask_for_keyrings(self) -> bool:
        """True if a rule asks for the name of the request's keyring."""
        return any(rule.keyrings is not None for rule in self._rules)

    def decide(self, facts: Facts) -> Decision:
        """Return the decision about a request with these facts."""
        own = [rule for rule in self._rules if rule.role in (None, facts.role)]
        if not own:
            return Decision("", self.defaults[facts.role])
        passed: list[tuple[str, str]] = []
        for rule in own:
            unmet = rule.unmet(facts)
            if isinstance(unmet, Unknown):
                refusal = f"rule {rule.label} cannot be decided: {unmet.reason}"
                return Decision(rule.label, None, refusal, tuple(passed), rule.index)
            if unmet is None:
                refusal = f"rule {rule.label} refuses it" if rule.refuse else ""
                profile = None if rule.refuse else rule.profile or self.defaults[facts.role]
                return Decision(rule.label, profile, refusal, tuple(passed), rule.index)
            passed.append((rule.label, unmet))
        return Decision("", None, f"no rule for the role {facts.role.name.lower()} is met", tuple(passed))


class _Parsed:
    """A rule whose conditions are parsed."""

    def __init__(self, index: int, rule: Rule) -> None:
        self.index = index
        self.label = rule.name or str(index)
        self.role = None if rule.role is None else ROLES[rule.role]
        self.profile = rule.profile
        self.refuse = rule.refuse
        self.keyrings = rule.keyrings
        self._networks = None if rule.networks is None else _networks("networks", rule.networks)
        self._local = None if rule.local_networks is None else _networks("local-networks", rule.local_networks)
        self._ports = rule.local_ports
        self._names = None if rule.peer_names is None else Patterns(map(_host_name, rule.peer_names), ".")
        self._namespaces = rule.namespaces
        self._modes = None if rule.auth_modes is None else {AUTH_MODES[mode] for mode in rule.auth_modes}

    def unmet(self, facts: Facts) -> str | Unknown | None:
        """Return the first condition that is not met, as a text, or None if all are."""
        if self._networks is not None and not _within(facts.peer, self._networks):
            return f"the peer {facts.peer or 'without an address'} is in none of its networks"
        if self._local is not None and not _within(facts.local, self._local):
            return f"our address {facts.local or '(none)'} is in none of its local-networks"
        if self._ports is not None and facts.local_port not in self._ports:
            return f"our port {facts.local_port or '(none)'} is not in its local-ports"
        if self._names is not None and not _named(facts.peer_name, self._names):
            return f"the peer's name {facts.peer_name or '(none)'} matches none of its peer-names"
        if self._namespaces is not None and facts.namespace not in self._namespaces:
            return f"the namespace {facts.namespace} is not in its namespaces"
        if self._modes is not None and facts.auth_mode not in self._modes:
            return f"the auth mode {facts.auth_mode.name.lower()} is not in its auth-modes"
        return self._unmet_keyring(facts.keyring)

    def _unmet_keyring(self, keyring: str | Unknown | None) -> str | Unknown | None:
        """Return the condition about the keyring if it is not met; the last one, since its look-up alone may fail."""
        if self.keyrings is None:
            return None
        if isinstance(keyring, Unknown):
            return keyring
        return None if keyring in self.keyrings else f"the keyring {keyring or '(none)'} is not in its keyrings"


def role_profiles(client: str | None, server: str | None, profiles: Collection[str]) -> dict[Role, str | None]:
    """Return the profile of each role: ``kernel.client-profile`` and ``kernel.server-profile``, or those by name."""
    return {
        Role.CLIENT: client or (CLIENT_PROFILE if CLIENT_PROFILE in profiles else None),
        Role.SERVER: server or (SERVER_PROFILE if SERVER_PROFILE in profiles else None),
    }


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _networks(key: str, texts: Iterable[str]) -> tuple[Network, ...]:
    found = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError as error:
            raise ConfigurationError(f"{key}: {error}") from None
    return tuple(found)


def _within(host: str | None, networks: Collection[Network]) -> bool:
    if host is None:
        return False
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:  # of AF_UNIX or AF_VSOCK
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    seen = mapped or address
    return any(seen.version == network.version and seen in network for network in networks)


def _host_name(name: str) -> str:
    return ascii_name(name).lower().removesuffix(".")


def _named(name: str | None, patterns: Patterns) -> bool:
    return name is not None and patterns.match(_host_name(name)) is not None
