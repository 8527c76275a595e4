"""The configuration's dataclasses: one for the whole file, one for each table.

A value that no field may have is a :class:`~hsframework.errors.ConfigurationError`, raised when the dataclass is made.
``docs/reference/configuration.md`` lists every key.  :mod:`hsframework.configuration.toml` reads the file.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hsframework.errors import ConfigurationError
from hsframework.local.places import default_runtime_dir


def published_protocols() -> Mapping[str, int]:
    """``{tlshd = 1, quic = 2, psp = 3}``."""
    return {"tlshd": 1, "quic": 2, "psp": 3}


NO_KEY = {"key": False}
"""Metadata of a field that is not for the file."""

LEAST_MEMORY = 128
"""MiB: what an agent needs before it has a plugin, and as much again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """``level``: debug, info, warning or error.  ``format``: json or console."""

    level: str = "info"
    format: str = "console"

    def __post_init__(self) -> None:
        _one_of("level", self.level, ("debug", "info", "warning", "error"))
        _one_of("format", self.format, ("json", "console"))


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSettings:
    """``listen``: ``address:port`` of a Prometheus endpoint; empty: none."""

    listen: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many requests may be pending (taken and not completed); past them a request is refused with EAGAIN."""

    total: int = 4096
    per_consumer: int = 1024
    """By user id of a local consumer, by source of a kernel consumer."""
    per_address: int = 1024
    """By the remote address of the socket, without its port."""
    connections: int = 1024
    """Open connections on each of the two local sockets; half of them at most of users whom no rule names."""
    connections_per_user: int = 512

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            if getattr(self, item.name) < 1:
                raise ConfigurationError(f"{item.name.replace('_', '-')} must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds.  ``client`` and ``server`` are for requests that name none: below what kernel consumers wait."""

    client: float = 9.0
    server: float = 4.0
    maximum: float = 120.0
    agent_restart: float = 2.0
    """How long a group without an agent stays joined while an expected agent restarts."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            if not 0 < getattr(self, item.name) <= 3600:
                raise ConfigurationError(f"{item.name.replace('_', '-')} must be more than 0 and at most 3600 seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySettings:
    """For each process of the service, so that it goes on when memory is short (swap and root over the network)."""

    lock: bool = False
    """Keep everything in memory, never in swap; what cannot be locked is an error at start."""
    oom_score_adjust: int | None = None
    """From -1000 (never killed) to 1000; None: it stays as it is."""

    def __post_init__(self) -> None:
        if self.oom_score_adjust is not None and not -1000 <= self.oom_score_adjust <= 1000:
            raise ConfigurationError("oom-score-adjust must be from -1000 to 1000")


@dataclass(frozen=True, slots=True, kw_only=True)
class RawSettings:
    """The raw-netlink form of the service, which a kernel module may offer beside the ``handshake`` family."""

    enabled: bool = False
    protocols: Mapping[str, int] = field(default_factory=published_protocols)
    """The groups to serve, and the module's number for each: of the protocol and of its multicast group."""

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
    """The kernel as a source of requests, where it has the ``handshake`` family.

    A kernel's request names keys or nothing; what it leaves open (trust, a server's certificate) comes from a profile.
    """

    enabled: bool = True
    namespaces: tuple[str, ...] = ()
    """Network namespaces beside our own: names of ``ip netns``, or paths."""
    keyrings: tuple[str, ...] = (".nvme", ".nfs")
    """Whose keys (of the type ``psk``) a server may look up: names of root's keyrings, or serial numbers; what is not
    there yet is used once it is."""
    client_profile: str | None = None
    server_profile: str | None = None
    """None: the profiles ``kernel-client`` and ``kernel-server``, where they are configured."""
    plugins: tuple[str, ...] = ("tls13", "quic")
    """The plugins whose agents may join the kernel's own groups when `hsframework run` starts them."""
    real_time: bool = True
    """Run the dispatcher at the lowest real-time priority, where allowed: the kernel has room for few that wait.  It
    gives it up when it does not sleep for a second, and takes it again after a quiet minute."""
    raw: RawSettings = field(default_factory=RawSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """How `hsframework run` starts the agent of one protocol."""

    processes: int = 1
    user: str | None = None
    """Name or number; None: the protocol's default agent user when started by root."""
    groups: tuple[str, ...] | None = None
    """The groups that it may join; None: any but the kernel's (``kernel.plugins``) and those named as other plugins."""
    memory_limit: int = 2048
    """MiB of private memory for each process; a plugin that wants more fails, and its process is replaced."""
    start_timeout: float = 60.0
    """Seconds for the plugin's import and its prepare; past them the process ends, with an error that says where."""

    def __post_init__(self) -> None:
        if not 1 <= self.processes <= 256:
            raise ConfigurationError("processes must be from 1 to 256")
        if self.memory_limit < LEAST_MEMORY:
            raise ConfigurationError(f"memory-limit must be at least {LEAST_MEMORY} (MiB)")
        if not 1 <= self.start_timeout <= 3600:
            raise ConfigurationError("start-timeout must be from 1 to 3600 seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSettings:
    """``users``: who may join the group with an agent, beside root and the dispatcher's own user."""

    users: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySettings:
    """``certificate``: chain, leaf first, PEM or DER.  ``private-key``: PEM or DER, for its owner alone to read."""

    certificate: Path
    private_key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PskSettings:
    """``file``: one key a line, see docs/reference/configuration.md."""

    file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustSettings:
    """Authorities and revocation lists: PEM bundles, DER files or folders."""

    bundle: tuple[Path, ...] = ()
    crl: tuple[Path, ...] = ()
    system: bool = False

    def __post_init__(self) -> None:
        if not self.bundle and not self.system:
            raise ConfigurationError("name at least one bundle, or set system = true")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a request that names the profile is given."""

    identities: tuple[str, ...] = ()
    psks: tuple[str, ...] = ()
    trust: str | None = None
    client_certificate: str = "none"
    alpn: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _one_of("client-certificate", self.client_certificate, ("none", "request", "require"))


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowRule:
    """Local consumers beside root and the dispatcher's own user, and the profiles that they may name.

    A consumer that a rule names may bring credentials of its own in any case.
    """

    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The whole file."""

    runtime_dir: Path = field(default_factory=default_runtime_dir)
    log: LogSettings = field(default_factory=LogSettings)
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
    plugins: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """One table for each plugin; a plugin's ``settings_type`` says what it may hold."""
    required_plugins: tuple[str, ...] = ()
    """No agent serves unless all of these are loaded: a plugin that is to authorize and is not there has no say."""
    blocked_plugins: tuple[str, ...] = ()
    """Installed, and not to be used."""
    folder: Path | None = field(default=None, metadata=NO_KEY)
    """Where the file is: of the relative paths in ``plugins``."""

    def __post_init__(self) -> None:
        for name in self.required_plugins:
            if name in self.blocked_plugins:
                raise ConfigurationError(f"{name!r} is in required-plugins and in blocked-plugins; take it out of one")
        for name, profile in self.profiles.items():
            where = f"profiles.{name}"
            _known(f"{where}.identities", profile.identities, self.identities)
            _known(f"{where}.psks", profile.psks, self.psks)
            _known(f"{where}.trust", (profile.trust,) if profile.trust else (), self.trust)
        for item in ("client_profile", "server_profile"):
            name = getattr(self.kernel, item)
            _known(f"kernel.{item.replace('_', '-')}", (name,) if name else (), self.profiles)
        for index, rule in enumerate(self.allow):
            _known(f"allow[{index}].profiles", rule.profiles, self.profiles)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigurationError(f"{name} = {value!r} must be one of {', '.join(allowed)}")


def _known(where: str, names: tuple[str, ...], known: Mapping[str, Any]) -> None:
    for name in names:
        if name not in known:
            raise ConfigurationError(f"{where}: {name!r} is not configured{suggestion(name, known)}")


def suggestion(key: str, known: Mapping[str, Any]) -> str:
    """Say which known name a wrong one may stand for, as the end of an error message."""
    close = difflib.get_close_matches(key, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {', '.join(sorted(known))}" if known else ""
