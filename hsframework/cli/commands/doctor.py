"""Say what is missing on this machine for handshakes to be served, and how to mend it.

The running service is asked: its agents, since when, with which kernel TLS, and the files that it has read; systemd is
asked for its units; and a handshake is tried.

Exit status 0: nothing that is needed is missing.  What only some uses need is marked as such.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import resource
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from hsframework.cli.checks.consumers import check_profiles
from hsframework.cli.checks.credentials import check_credentials
from hsframework.cli.checks.finding import Finding, report
from hsframework.cli.checks.rehearsal import GROUP, check_handshake
from hsframework.cli.checks.semantics import check_groups
from hsframework.cli.checks.service import check_service
from hsframework.cli.checks.units import check_units, loaded_units
from hsframework.cli.options.installed import try_plugins
from hsframework.cli.options.kernel import has_raw_form, probe_family
from hsframework.cli.options.members import Other, told_apart
from hsframework.cli.options.quiet import silence_logs
from hsframework.cli.options.service import add_configuration_file, add_runtime_dir, configuration
from hsframework.client.groups import service_status
from hsframework.configuration.agent_users import plugin_users
from hsframework.configuration.plugin_tables import unread_tables
from hsframework.configuration.settings import Configuration
from hsframework.configuration.toml import settings_from_table
from hsframework.dispatcher.requests.limits import places, reserve, within_fds
from hsframework.dispatcher.sources.kernel.groups import form_groups
from hsframework.errors import ConfigurationError, HsframeworkError, RequestRefused
from hsframework.local.places import consumer_socket, default_runtime_dir
from hsframework.netlink.holders import Unnamed
from hsframework.probes import No, NotSeen, Yes
from hsframework.process.confinement import why_not_confined
from hsframework.process.lock import why_not_locked, why_not_scored
from hsframework.registry.installed import installed, plugin_names
from hsframework.tls.kernel import supported_ciphers

if TYPE_CHECKING:
    from hsframework.registry.plugins import PluginRegistry

LEAST_SHARE = 64
"""Requests of one source in one group that any service should have room for: more than the kernel's queue holds."""


NEEDED = "mend {}; the service does not start without"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as a JSON list")
    add_configuration_file(parser)
    add_runtime_dir(parser)


def run(arguments: argparse.Namespace) -> int:
    silence_logs()
    wrong: list[Finding] = []
    try:
        settings = configuration(arguments)
    except ConfigurationError as error:
        folder = arguments.runtime_dir or default_runtime_dir()
        if not answers(folder):
            raise
        # It goes on with the configuration that it had.
        wrong = [Finding("configuration", "missing", str(error), NEEDED.format("it"))]
        settings = Configuration(runtime_dir=folder)
    findings = [*wrong, *examine(settings)]
    print(json.dumps([asdict(finding) for finding in findings], indent=2) if arguments.json else report(findings))
    return 1 if any(finding.verdict == "missing" for finding in findings) else 0


def answers(folder: Path) -> bool:
    """True if a dispatcher serves, whatever it tells this user."""
    try:
        service_status(folder)
    except RequestRefused:
        return True
    except HsframeworkError:
        return False
    return True


def examine(settings: Configuration) -> list[Finding]:
    """Run every check; the findings are in the order in which to act on them."""
    units = loaded_units()
    service = list(check_service(settings, managed=bool(units)))
    return [
        *check_plugins(settings),
        *check_credentials(settings),
        *check_units(settings, units),
        *service,
        *(check_handshake(settings) if rehearsed(service) else ()),
        *check_profiles(settings),
        check_file_descriptors(settings),
        *check_users(settings),
        # What the units may do counts, not what this shell may.
        *(() if units else check_memory(settings)),
        check_openssl(),
        *check_confinement(),
        check_handshake_family(),
        *check_raw_form(settings),
        *check_members(settings),
        check_ktls(),
    ]


def rehearsed(findings: Iterable[Finding]) -> bool:
    """True if a handshake can be tried: agents serve TLS, and none of them is known to hang."""
    about = [finding for finding in findings if finding.subject == f"group {GROUP}"]
    return bool(about) and all(finding.verdict == "ok" for finding in about)


def check_plugins(settings: Configuration) -> Iterable[Finding]:
    """Check that a plugin is in use, that none is broken, and that every required one is in use."""
    registry = try_plugins(settings.blocked_plugins)
    missing = registry.missing(settings.required_plugins)
    if registry.protocols:
        yield Finding("plugins", "ok", ", ".join(sorted(registry.protocols)))
    else:
        yield Finding("plugins", "missing", "none is in use", "install one, for example: pip install hsframework-tls13")
    for name, reason in missing.items():
        yield Finding(
            f"plugin {name}",
            "missing",
            f"it is required, so that nothing is served without it: {reason}",
            f"install it or mend it, or take {name!r} out of required-plugins",
        )
    for broken in registry.errors:
        if broken.name in missing:
            continue
        if broken.name in settings.blocked_plugins:
            yield Finding(f"plugin {broken.name}", "note", broken.message, "take it out of blocked-plugins to use it")
            continue
        yield Finding(
            f"plugin {broken.name}",
            "missing",
            broken.message,
            f"reinstall or uninstall {broken.distribution or broken.name}",
        )
    for unread in installed().broken:
        yield Finding("packages", "note", f"{unread.where}: {unread.reason}", "reinstall it, or remove the folder")
    yield from check_tables(settings, registry)
    yield from check_groups(settings, {g for entry in registry.protocols.values() for g in entry.protocol.groups})


def check_tables(settings: Configuration, registry: PluginRegistry) -> Iterable[Finding]:
    """Check that each table of a plugin has its plugin, and that its settings are valid."""
    protocols = {name: entry.record.name for name, entry in registry.protocols.items()}
    for table in unread_tables(settings, [record.name for record in registry.records], protocols):
        yield Finding(table.name, "missing", table.reason, table.mend)
    for name, values in sorted(settings.plugins.items()):
        entry = registry.protocols.get(name)
        if entry is not None and entry.protocol.settings_type is not None:
            try:
                settings_from_table(entry.protocol.settings_type, values, f"plugins.{name}", base=settings.folder)
            except ConfigurationError as error:
                yield Finding("settings", "missing", str(error), "see the plugin's documentation")


def check_rules(settings: Configuration) -> Iterable[Finding]:
    """Check that the rules of the configuration can be resolved: users, groups of users, the address of the metrics."""
    from hsframework.dispatcher.policy import Policy
    from hsframework.telemetry.metrics import check_address

    for check in (lambda: Policy(settings), lambda: check_address(settings.metrics.listen)):
        try:
            check()
        except ConfigurationError as error:
            yield Finding("rules", "missing", str(error), NEEDED.format("the entry"))


def check_file_descriptors(settings: Configuration) -> Finding:
    """Check that the limit of open files covers ``limits.per-source`` requests of each source in each group."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return Finding("open files", "ok", "unlimited")
    allowed, wanted = within_fds(settings, hard).limits.per_source, settings.limits.per_source
    if allowed == wanted:
        return Finding("open files", "ok", f"{hard} are allowed")
    enough = wanted * places(settings) + reserve(settings)
    return Finding(
        "open files",
        "note" if allowed >= LEAST_SHARE else "missing",
        f"{hard} are allowed: each source has room for {allowed} requests in each group, not for limits.per-source = "
        f"{wanted}",
        f"LimitNOFILE={enough} in the unit (or 'ulimit -Hn {enough}'), or lower limits.groups or limits.per-source",
    )


def check_users(settings: Configuration) -> Iterable[Finding]:
    """Check that the users exist that the configuration names, and that this user is root."""
    named = {(f"agents.{name}.user", agent.user) for name, agent in settings.agents.items() if agent.user}
    named |= {(f"groups.{name}.users", user) for name, group in settings.groups.items() for user in group.users}
    named |= {(f"allow[{index}].users", user) for index, rule in enumerate(settings.allow) for user in rule.users}
    for where, user in sorted(named):
        if not _user_exists(user):
            yield Finding(
                "users",
                "missing",
                f"{where}: there is no user {user!r}",
                f"create it ('useradd --system {user}'), or name another in {where}",
            )
    try:
        plugin_users(settings, plugin_names())
    except ConfigurationError as error:
        yield Finding("users", "missing", *str(error).rsplit("; ", 1))
    if os.geteuid() != 0:
        yield Finding(
            "users",
            "note",
            "not root: agents run as this user, and kernel consumers cannot be served",
            "start the service as root to serve the kernel",
        )


def check_memory(settings: Configuration) -> Iterable[Finding]:
    """Check that a service started by this user may lock its memory and set its OOM score as ``[memory]`` asks."""
    memory = settings.memory
    if memory.lock:
        reason = why_not_locked()
        yield (
            Finding("locked memory", "ok", "allowed")
            if reason is None
            else Finding(
                "locked memory",
                "missing",
                f"memory.lock is set, and {reason}",
                "LimitMEMLOCK=infinity in the unit, or start the service as root",
            )
        )
    score = memory.oom_score_adjust
    if score is not None:
        reason = why_not_scored(score)
        yield (
            Finding("OOM score", "ok", f"{score} can be set")
            if reason is None
            else Finding(
                "OOM score",
                "missing",
                f"memory.oom-score-adjust = {score}: {reason}",
                f"OOMScoreAdjust={score} in the unit, or start the service as root",
            )
        )


def check_openssl() -> Finding:
    """Check that the program ``openssl`` is installed; only the demonstration needs it."""
    path = shutil.which("openssl")
    if path is not None:
        return Finding("openssl", "ok", path)
    return Finding(
        "openssl", "note", "the program is not installed; 'hsframework demo' needs it", "install the package openssl"
    )


def check_confinement() -> Iterable[Finding]:
    """Check that workers of agents can confine themselves here."""
    for problem in why_not_confined():
        yield Finding(
            "confinement",
            "note",
            f"agents are not confined as they could be: {problem}",
            "install libseccomp2, or use a kernel with Landlock (CONFIG_SECURITY_LANDLOCK, lsm=landlock,...)",
        )


def check_handshake_family() -> Finding:
    """Check that the kernel has the ``handshake`` family (Linux 6.4 and later, with CONFIG_NET_HANDSHAKE)."""
    unserved = "NFS and NVMe/TCP on this machine cannot be served"
    match probe_family("handshake"):
        case Yes():
            return Finding("kernel consumers", "ok", "the kernel has the netlink family 'handshake'")
        case No(reason):
            mend = "use Linux 6.4 or later with CONFIG_NET_HANDSHAKE"
            return Finding("kernel consumers", "note", f"{reason}; {unserved}", mend)
        case NotSeen(reason):
            return Finding(
                "kernel consumers", "note", f"the kernel cannot be asked: {reason}", "run doctor outside of the sandbox"
            )


def check_raw_form(settings: Configuration) -> Iterable[Finding]:
    """Check that a kernel module offers the raw-netlink form, if the configuration enables it."""
    if not settings.kernel.raw.enabled:
        return
    if has_raw_form():
        yield Finding("raw-netlink form", "ok", "a kernel module offers it")
    else:
        yield Finding(
            "raw-netlink form",
            "note",
            "kernel.raw.enabled is true, and no kernel module offers it; it is served once one does",
            "load the module, or remove [kernel.raw]",
        )


def check_members(settings: Configuration) -> Iterable[Finding]:
    """Check that the service alone is a member of the kernel's groups, in each network namespace that is served."""
    try:
        forms = form_groups(settings)
    except HsframeworkError as error:
        yield _members_not_seen("members of the kernel's groups", str(error))
        return
    if not forms:
        return
    for namespace in (None, *settings.kernel.namespaces):
        subject = "members of the kernel's groups" + ("" if namespace is None else f" in {namespace}")
        found = told_apart(forms, namespace, consumer_socket(settings.runtime_dir))
        if isinstance(found, NotSeen):
            yield _members_not_seen(subject, found.reason)
            continue
        if not found.others:
            yield Finding(subject, "ok", "the service alone" if found.ours else "there is none")
        for other in found.others:
            yield _other_member(subject, other)


def _members_not_seen(subject: str, reason: str) -> Finding:
    mend = "run it as root" if os.geteuid() else "see the reason; 'ss --family=netlink --processes' shows them too"
    return Finding(subject, "note", f"cannot be looked up: {reason}", mend)


def _other_member(subject: str, other: Other) -> Finding:
    """Make the finding of one member: needed is that there is none, and only root may serve the kernel."""
    member, holder = other.member, other.holder
    group = f"{member.group!r}" + ("" if member.form == "kernel" else f" ({member.form})")
    if isinstance(holder, Unnamed):
        who, mend = f"a process that cannot be named ({holder.reason})", "look for it on the other side of a container"
    else:
        process = holder.process
        who = f"pid {process.pid} (user {_user_name(process.uid)}, program {process.program})"
        mend = "systemctl disable --now tlshd" if process.program == "tlshd" else f"end it: kill {process.pid}"
        if not holder.certain:
            who += ", by its port alone,"
    if not other.certain:
        return Finding(subject, "note", f"{who} is a member of {group}", "run it as root, which tells ours from others")
    detail = f"{who} is a member of {group}, and not ours: requests are accepted by it, or wait for it"
    return Finding(subject, "note" if os.geteuid() else "missing", detail, mend)


def check_ktls() -> Finding:
    """Check that the kernel has kTLS, which kernel consumers need and consumers in user space do not."""
    answer = supported_ciphers()
    match answer:
        case Yes():
            return Finding("kTLS", "ok", "the kernel can protect TLS connections")
        case No(reason):
            return Finding(
                "kTLS",
                "note",
                f"{reason}; sessions stay in user space, and kernel consumers cannot be served",
                "load the module: modprobe tls (CONFIG_TLS)",
            )
        case NotSeen(reason):
            return Finding("kTLS", "note", f"it cannot be tried: {reason}", "run doctor outside of the sandbox")


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _user_exists(user: str) -> bool:
    if user.isdigit():
        return True
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
