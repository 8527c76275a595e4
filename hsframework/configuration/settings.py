"""The configuration's dataclasses: one for the whole file, one for each table.

Creating one raises :class:`~hsframework.errors.ConfigurationError` for a value that is not allowed.
``docs/reference/configuration.md`` lists every key, with the texts below the fields.
:mod:`hsframework.configuration.toml` reads the file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hsframework.configuration.audit import AuditSettings
from hsframework.configuration.checks import check_admit, check_alpn, check_priorities, known_names, one_of
from hsframework.configuration.places import located
from hsframework.configuration.rules import Rule, Rules, role_profiles
from hsframework.credentials.tags import SessionTags
from hsframework.errors import ConfigurationError
from hsframework.local.places import default_runtime_dir


def published_protocols() -> Mapping[str, int]:
    """Return ``{tlshd = 1, quic = 2, psp = 3}``."""
    return {"tlshd": 1, "quic": 2, "psp": 3}


NO_KEY = {"key": False}
"""Metadata of a field that is not a key of the file."""

LEAST_MEMORY = 128
"""Lowest ``memory-limit`` in MiB, twice the memory of a worker without a plugin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """Logging."""

    level: str = "info"
    """debug, info, warning or error."""
    format: str = "console"
    """json or console."""

    def __post_init__(self) -> None:
        one_of("level", self.level, ("debug", "info", "warning", "error"))
        one_of("format", self.format, ("json", "console"))


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSettings:
    """Metrics for Prometheus."""

    listen: str = ""
    """``address:port`` of the endpoint; empty: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits; past those of pending requests (taken and not completed) a request is refused with EAGAIN.

    They hold within one group and for one source in it: the kernel in one network namespace and in one form of its
    service, or all programs in user space.  Groups and sources take nothing from each other.  A kernel request waits in
    the kernel's queue instead, but for ``per_address``.
    """

    groups: int = 8
    """Groups that are served at once: each has an equal share of the dispatcher's file descriptors, whatever others
    need.  An agent that would open one more is refused."""
    per_source: int = 4096
    """Pending requests of one source in one group, an eighth of them for root and the service's user alone; fewer where
    the limit of open files does not allow as many for each source in each group."""
    per_consumer: int = 1024
    """Pending requests of one user in one group, or of one kernel source in one group."""
    per_address: int = 1024
    """Pending requests of one user with one remote network, without its port, in one group and of one source."""
    ipv4_prefix: int = 32
    """Bits of an IPv4 address that make its network for ``per-address``."""
    ipv6_prefix: int = 64
    """Bits of an IPv6 address that make its network for ``per-address``: a host may have a whole /64 to itself."""
    connections: int = 1024
    """Open connections on each of the two local sockets.  An eighth is for root and the dispatcher's own user.  A user
    gets another one while fewer are his than are free; all whom no rule names count as one user."""
    connections_per_user: int = 512
    """Open connections of one user on each of the two local sockets, but for root and the dispatcher's own user."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if value is not None and value < 1:
                raise ConfigurationError(f"{item.name.replace('_', '-')} must be at least 1")
        if self.ipv4_prefix > 32 or self.ipv6_prefix > 128:
            raise ConfigurationError("ipv4-prefix is at most 32, and ipv6-prefix at most 128")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Times in seconds."""

    client: float = 9.0
    """For a client's handshake whose request has no timeout; shorter than the time that kernel consumers wait."""
    server: float = 4.0
    """For a server's handshake whose request has no timeout; shorter than the time that kernel consumers wait."""
    maximum: float = 120.0
    """Longest timeout that a request of a consumer in user space may have."""
    agent_restart: float = 24.0
    """Time for which a group without an agent stays joined while its agent restarts, long enough to start one on a
    machine that is busy: a kernel consumer is refused at once when it is over, and until then has its own time.  When
    the service starts, three times as long."""
    watchdog: float = 20.0
    """Time after which a dispatcher or an agent whose event loop does not turn is ended and replaced."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            if not 0 < getattr(self, item.name) <= 3600:
                raise ConfigurationError(f"{item.name.replace('_', '-')} must be more than 0 and at most 3600 seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySettings:
    """Memory of each process of the service, for machines with swap or the root filesystem on the network."""

    lock: bool = False
    """Keep all memory of the service out of swap; it does not start if that is not possible."""
    oom_score_adjust: int | None = None
    """OOM score adjustment from -1000 (never killed) to 1000; unset: unchanged.  Where ``run`` may lower it further,
    the supervisor has -1000, and the dispatcher 250 less than its agents."""
    cache: int = 256
    """Memory of each process, in MiB, for what it remembers between handshakes: half of it for trusts, a quarter for
    verdicts on peers, the rest for certificates, OpenSSL contexts and the like.  It is a bound, and nothing is taken
    beforehand.  The log and a metric say when it is too small."""

    def __post_init__(self) -> None:
        if self.oom_score_adjust is not None and not -1000 <= self.oom_score_adjust <= 1000:
            raise ConfigurationError("oom-score-adjust must be from -1000 to 1000")
        if not 1 <= self.cache <= 1 << 20:
            raise ConfigurationError("cache must be from 1 to 1048576 (MiB)")


@dataclass(frozen=True, slots=True, kw_only=True)
class RawSettings:
    """The raw-netlink form of the service, which a kernel module may offer beside the ``handshake`` family."""

    enabled: bool = False
    """Serve the raw-netlink form."""
    protocols: Mapping[str, int] = field(default_factory=published_protocols)
    """Groups to serve, with the module's number for each protocol and its multicast group."""

    def __post_init__(self) -> None:
        owners: dict[int, str] = {}
        for name, number in self.protocols.items():
            if not 1 <= number <= 0xFFFF:
                raise ConfigurationError(f"protocols.{name}: {number} is not from 1 to 65535")
            if number in owners:
                raise ConfigurationError(f"protocols.{name}: {number} is the number of {owners[number]!r} already")
            owners[number] = name


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSettings:
    """The kernel as a source of requests, if it has the ``handshake`` family.

    A kernel consumer's request names keys, or has no credentials at all; the rest (trust, a server's certificate) comes
    from a profile.
    """

    enabled: bool = True
    """Serve the kernel's consumers."""
    namespaces: tuple[str, ...] = ()
    """Further network namespaces to serve: names of ``ip netns``, or paths."""
    keyrings: tuple[str, ...] = (".nvme", ".nfs")
    """Keyrings with the pre-shared keys of servers (keys of the type ``psk``): names of root's keyrings, or serial
    numbers.  A keyring that does not exist yet is used as soon as it does."""
    client_profile: str | None = None
    """Profile for clients; unset: ``kernel-client``, if it is configured."""
    server_profile: str | None = None
    """Profile for servers; unset: ``kernel-server``, if it is configured."""
    plugins: tuple[str, ...] = ("tls13", "quic")
    """Plugins whose agents may join the kernel's own groups, if `hsframework run` starts them."""
    real_time: bool = True
    """Run the dispatcher at the lowest real-time priority, if allowed, because the kernel's queue of requests is short.
    The dispatcher gives it up after a second without sleeping, and takes it again after a quiet minute."""
    raw: RawSettings = field(default_factory=RawSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """The agent of the plugin NAME, under `hsframework run` as under `hsframework agent`; it serves all of the plugin's
    protocols."""

    processes: int = 1
    """Number of workers."""
    user: str | None = None
    """User of the agent, name or number; unset: the plugin's default user if root starts the service."""
    groups: tuple[str, ...] | None = None
    """Groups that it may join; unset: the kernel's, if ``kernel.plugins`` has the plugin, and those that bear
    its name (``NAME``, ``NAME-…``)."""
    memory_limit: int = 2048
    """Private memory of each process in MiB; a plugin that needs more fails, and its process is replaced."""
    start_timeout: float = 60.0
    """Seconds for the import and ``prepare`` of the plugin; then the process ends, with an error that says where it
    hangs."""

    def __post_init__(self) -> None:
        if not 1 <= self.processes <= 256:
            raise ConfigurationError("processes must be from 1 to 256")
        if self.memory_limit < LEAST_MEMORY:
            raise ConfigurationError(f"memory-limit must be at least {LEAST_MEMORY} (MiB)")
        if not 1 <= self.start_timeout <= 3600:
            raise ConfigurationError("start-timeout must be from 1 to 3600 seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSettings:
    """A multicast group."""

    users: tuple[str, ...] = ()
    """Users whose agents may join it, beside root and the dispatcher's own user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySettings:
    """A certificate chain and its private key."""

    certificate: Path
    """Chain, leaf first, PEM or DER."""
    private_key: Path
    """PEM or DER, readable by its owner only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PskSettings:
    """Pre-shared keys."""

    file: Path
    """One key a line, see *Pre-shared key files*."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustSettings:
    """Trust: authorities and revocation lists."""

    bundle: tuple[Path, ...] = ()
    """Authorities: PEM bundles, DER files or folders."""
    crl: tuple[Path, ...] = ()
    """Revocation lists: PEM bundles, DER files or folders."""
    system: bool = False
    """Trust the system's authorities too."""
    crl_check: str = "if-present"
    """A certificate without a revocation list of its authority is accepted (if-present), or refused (require)."""

    client_usage: str = "client-auth"
    """Extended key usage of a client's certificate that has one: clientAuth (client-auth), or serverAuth too (tls)."""

    def __post_init__(self) -> None:
        one_of("client-usage", self.client_usage, ("client-auth", "tls"))
        one_of("crl-check", self.crl_check, ("if-present", "require"))
        if not self.bundle and not self.system:
            raise ConfigurationError("name at least one bundle, or set system = true")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Credentials and choices for requests that name the profile; values in the request take precedence, but for
    ``tls-priorities``."""

    identities: tuple[str, ...] = ()
    """Names of identities."""
    psks: tuple[str, ...] = ()
    """Names of tables of pre-shared keys."""
    trust: str | None = None
    """Name of a trust."""
    client_certificate: str = "none"
    """A server's demand on its client: none, request or require."""
    alpn: tuple[str, ...] = ()
    """Application protocols, in order of preference."""
    tls_priorities: str | None = None
    """TLS policy: versions, ciphers, groups and signatures, as a priority string in GnuTLS's syntax.  A request's own
    policy holds beside it.  Unset: the plugin's settings."""
    admit: tuple[str, ...] | None = None
    """Peers that are admitted, of those that prove their identity: entries ``KIND:PATTERN``, of which one must be for
    the peer.  A server demands a certificate then.  It holds for trust that a request brings, too.  Unset: all that the
    trust accepts."""
    groups: tuple[str, ...] | None = None
    """Multicast groups whose requests may have the profile; that of another group is refused, or does without where it
    names no profile.  Unset: all."""

    def serves(self, group: str) -> bool:
        """Return True if requests of this group may have the profile."""
        return self.groups is None or group in self.groups

    def __post_init__(self) -> None:
        if self.groups is not None and not all(self.groups):
            raise ConfigurationError("groups: a group has a name of one character or more")
        if self.admit is not None:
            check_admit(self.admit)
        check_alpn(self.alpn)
        if self.tls_priorities is not None:
            check_priorities(self.tls_priorities)
        one_of("client-certificate", self.client_certificate, ("none", "request", "require"))


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowRule:
    """Consumers that may use the service, beside root and the dispatcher's own user.

    A consumer that a rule names may always bring credentials of its own.
    """

    users: tuple[str, ...] = ()
    """Users, names or numbers."""
    groups: tuple[str, ...] = ()
    """Groups of users, names or numbers."""
    profiles: tuple[str, ...] = ()
    """Profiles that they may name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The whole file."""

    runtime_dir: Path = field(default_factory=default_runtime_dir)
    """Folder of the dispatcher's sockets."""
    log: LogSettings = field(default_factory=LogSettings)
    audit: AuditSettings = field(default_factory=AuditSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    limits: Limits = field(default_factory=Limits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    memory: MemorySettings = field(default_factory=MemorySettings)
    kernel: KernelSettings = field(default_factory=KernelSettings)
    agents: Mapping[str, AgentSettings] = field(default_factory=dict)
    groups: Mapping[str, GroupSettings] = field(default_factory=dict)
    identities: Mapping[str, IdentitySettings] = field(default_factory=dict)
    psks: Mapping[str, PskSettings] = field(default_factory=dict)
    trust: Mapping[str, TrustSettings] = field(default_factory=dict)
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    allow: tuple[AllowRule, ...] = ()
    rule: tuple[Rule, ...] = ()
    plugins: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """One table for each plugin, by its ``settings_type``."""
    key_groups: tuple[str, ...] = ()
    """Groups of users that may read files of private and pre-shared keys beside their owner, names or numbers: such a
    file may have mode 0640 and one of these groups."""
    required_groups: tuple[str, ...] | None = None
    """Groups that an agent must have joined before the service reports that it is ready; unset: ``tlshd``, if the
    kernel is served and a plugin of ``kernel.plugins`` is installed."""
    required_plugins: tuple[str, ...] = ()
    """Plugins without which no agent serves, such as those that authorize peers."""
    blocked_plugins: tuple[str, ...] = ()
    """Installed plugins that are not used."""
    watch_files: bool = True
    """Read the files again by itself when one of them has changed, this one and those that it names."""
    end_sessions: str = "dry-run"
    """Sessions in the kernel whose peers are out by what was read again (revoked, on no admission list): ``on`` ends
    them; ``dry-run`` says which would be ended; ``off`` does not look."""
    folder: Path | None = field(default=None, metadata=NO_KEY)
    """Folder of the file, to which paths in ``plugins`` are relative."""
    file: Path | None = field(default=None, metadata=NO_KEY)
    """The file itself."""
    places: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False, metadata=NO_KEY)
    """``FILE:LINE`` of each key, by its path; empty for what was not read from a file."""

    def located(self, message: str, key: str = "") -> str:
        """Return a message that begins with a key, with its place before it; ``key``: a more exact one."""
        return located(self.places, message, key)

    session_tags: SessionTags | None = field(default=None, metadata=NO_KEY)
    """Session tags of tlshd's, for requests of the kernel."""
    further_files: tuple[Path, ...] = field(default=(), metadata=NO_KEY)
    """Other files that the configuration was made of."""

    def __post_init__(self) -> None:
        one_of("end-sessions", self.end_sessions, ("on", "dry-run", "off"))
        for name in self.required_plugins:
            if name in self.blocked_plugins:
                raise ConfigurationError(f"required-plugins: {name!r} is in blocked-plugins too; take it out of one")
        for name, profile in self.profiles.items():
            where = f"profiles.{name}"
            known_names(f"{where}.identities", profile.identities, self.identities)
            known_names(f"{where}.psks", profile.psks, self.psks)
            known_names(f"{where}.trust", (profile.trust,) if profile.trust else (), self.trust)
        for item in ("client_profile", "server_profile"):
            name = getattr(self.kernel, item)
            known_names(f"kernel.{item.replace('_', '-')}", (name,) if name else (), self.profiles)
        for index, rule in enumerate(self.allow):
            known_names(f"allow[{index}].profiles", rule.profiles, self.profiles)
        for index, chosen in enumerate(self.rule):
            known_names(f"rule[{index}].profile", (chosen.profile,) if chosen.profile else (), self.profiles)

    def rules(self) -> Rules:
        """Return the rules by which requests of the kernel get their profiles."""
        kernel = self.kernel
        return Rules(self.rule, role_profiles(kernel.client_profile, kernel.server_profile, self.profiles))
