"""Checks of what a configuration says as a whole: entries that nothing uses, that cannot work, or that admit nobody.

Each finding's subject is a key of the configuration.
"""

from __future__ import annotations

import difflib
import errno
import socket
from collections.abc import Collection, Iterable

from hsframework.cli.checks.finding import Finding
from hsframework.configuration.checks import suggestion
from hsframework.configuration.rules import OWN_NAMESPACE
from hsframework.configuration.settings import Configuration, Profile
from hsframework.configuration.tlshd import KEYRINGS
from hsframework.credentials.certificate import ParsedCertificate
from hsframework.credentials.trust import load_trust
from hsframework.dispatcher.namespaces import which
from hsframework.errors import ConfigurationError
from hsframework.failures import HandshakeFailed
from hsframework.interface import Role
from hsframework.process.keyctl import KeyTable
from hsframework.telemetry.metrics import check_address

CONSUMERS_WAIT = 10.0
"""Seconds that the kernel's consumers wait for a handshake at most; NFS and NVMe give up then."""
_KNOWN_KEYRINGS = (*KEYRINGS, ".drbd")


def check_semantics(settings: Configuration) -> Iterable[Finding]:
    """Check entries against each other, and against this machine: namespaces, keyrings, ports."""
    yield from _times(settings)
    yield from _audit(settings)
    yield from _profiles(settings)
    yield from _unused(settings)
    yield from _rules(settings)
    yield from _kernel(settings)
    yield from _authorities(settings)


def check_groups(settings: Configuration, served: Collection[str]) -> Iterable[Finding]:
    """Check that each group that is named is that of an installed plugin, or one that other agents may join.

    ``served``: groups of the installed plugins.
    """
    known = dict.fromkeys((*served, *settings.groups))
    named = [(f"profiles.{name}.groups", profile.groups or ()) for name, profile in settings.profiles.items()]
    for where, groups in [*named, ("required-groups", settings.required_groups or ())]:
        for index, group in enumerate(groups):
            if group not in known:
                detail = f"no installed plugin serves the group {group!r}{suggestion(group, known)}"
                mend = f"correct the name, or give [groups.{group}] to the users of its agents"
                yield Finding(f"{where}[{index}]", "note", detail, mend)


def check_metrics_port(settings: Configuration, *, running: bool) -> Iterable[Finding]:
    """Check that the port of the metrics is free.  ``running``: a service is, and may itself be there."""
    try:
        address, port = check_address(settings.metrics.listen)
    except ConfigurationError:  # found by the check of rules
        return
    if not port:
        return
    try:
        with socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET):
            return
    except OSError as error:
        detail = f"{settings.metrics.listen}: {error.strerror}"
        if running and error.errno == errno.EADDRINUSE:
            yield Finding("metrics.listen", "note", f"{detail}, maybe by the running service", "see 'ss -ltnp'")
        else:
            wrong = error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL)
            yield Finding("metrics.listen", "missing" if wrong else "note", detail, "name another, see 'ss -ltnp'")


def _audit(settings: Configuration) -> Iterable[Finding]:
    file = settings.audit.file
    if file is None:
        return
    if file.exists() and not file.is_file():
        yield Finding("audit.file", "missing", f"{file} is not a regular file", "name another")
    elif not file.parent.is_dir():
        detail = f"the folder {file.parent} does not exist: every event is lost"
        yield Finding("audit.file", "missing", detail, "make it, for the user of the service alone")


def _times(settings: Configuration) -> Iterable[Finding]:
    timeouts = settings.timeouts
    for name in ("client", "server"):
        seconds = getattr(timeouts, name)
        if seconds > timeouts.maximum:
            detail = f"{seconds:g} s is more than timeouts.maximum, {timeouts.maximum:g} s"
            yield Finding(f"timeouts.{name}", "missing", detail, "raise the maximum, or lower this")
        elif settings.kernel.enabled and seconds > CONSUMERS_WAIT:
            detail = f"{seconds:g} s is longer than NFS and NVMe wait, {CONSUMERS_WAIT:g} s, so that they see no reason"
            yield Finding(f"timeouts.{name}", "note", detail, f"at most {CONSUMERS_WAIT - 1:g}")


def _profiles(settings: Configuration) -> Iterable[Finding]:
    for name, profile in settings.profiles.items():
        where = f"profiles.{name}"
        if profile.client_certificate == "require" and profile.trust is None:
            detail = "client-certificate = 'require' without trust: every client is refused"
            yield Finding(where, "missing", detail, "name a trust")
        elif profile.client_certificate == "request" and profile.trust is None:
            detail = "client-certificate = 'request' without trust: a client that shows one is refused"
            yield Finding(where, "missing", detail, "name a trust")
        elif not (profile.identities or profile.psks or profile.trust):
            detail = "neither identities nor psks nor trust: it serves consumers alone that bring their own"
            yield Finding(where, "note", detail, "name what it is to give")
        if profile.groups == ():
            detail = "the list is empty: no request may have the profile"
            yield Finding(f"{where}.groups", "note", detail, "leave it out to serve every group")
        yield from _admission(where, profile)
    for role, key in ((Role.SERVER, "kernel-server"),):
        for given in settings.rules().profiles(role):
            found = settings.profiles.get(given) if given else None
            if found is not None and not found.identities:
                detail = f"no identities, and it is given to the kernel's servers ({key}): those with certificates fail"
                yield Finding(f"profiles.{given}", "note", detail, "name an identity, unless all use pre-shared keys")


def _admission(where: str, profile: Profile) -> Iterable[Finding]:
    if profile.admit == ():
        yield Finding(f"{where}.admit", "note", "the list is empty: nobody is admitted", "leave it out to admit all")
    elif profile.admit and profile.trust is None and not any(entry.startswith("psk:") for entry in profile.admit):
        detail = "names certificates, and the profile has no trust: nobody is admitted"
        yield Finding(f"{where}.admit", "missing", detail, "name a trust")


def _unused(settings: Configuration) -> Iterable[Finding]:
    profiles = settings.profiles.values()
    used: dict[str, set[str | None]] = {
        "identities": {name for profile in profiles for name in profile.identities},
        "psks": {name for profile in profiles for name in profile.psks},
        "trust": {profile.trust for profile in profiles},
    }
    for kind, names in used.items():
        for name in getattr(settings, kind):
            if name not in names:
                yield Finding(f"{kind}.{name}", "note", "no profile uses it", "name it in a profile, or remove it")


def _rules(settings: Configuration) -> Iterable[Finding]:
    served = {OWN_NAMESPACE, *settings.kernel.namespaces}
    taken: set[str] = set()
    for index, rule in enumerate(settings.rule):
        where = f"rule[{index}]"
        roles = {rule.role} if rule.role else {"client", "server"}
        for name in rule.namespaces or ():
            if name not in served:
                detail = f"the namespace {name!r} is not in kernel.namespaces: no request comes from it"
                yield Finding(f"{where}.namespaces", "missing", detail, "name it there, or take it out here")
        if roles <= taken:
            detail = "a rule before takes every request of this role"
            yield Finding(where, "missing", detail, "move it up, or remove it")
        conditions = (rule.networks, rule.local_networks, rule.local_ports, rule.peer_names, rule.namespaces)
        if all(each is None for each in (*conditions, rule.keyrings, rule.auth_modes)):
            taken |= roles
    for role in ("client", "server"):
        given = getattr(settings.kernel, f"{role}_profile")
        default = given or (f"kernel-{role}" if f"kernel-{role}" in settings.profiles else None)
        if default and settings.rule and default not in settings.rules().profiles(Role[role.upper()]):
            key = f"kernel.{role}-profile" if given else f"profiles.{default}"
            detail = f"there are rules for the role {role}, and none gives {default!r}: no request gets it"
            yield Finding(key, "note", detail, f"add a last [[rule]] with role = '{role}' and no other key")


def _kernel(settings: Configuration) -> Iterable[Finding]:
    if not settings.kernel.enabled:
        return
    for index, name in enumerate(settings.kernel.namespaces):
        if which(name) is None:
            detail = f"there is no network namespace {name!r} now; it is served as soon as there is"
            yield Finding(f"kernel.namespaces[{index}]", "note", detail, f"ip netns add {name}, or correct the name")
    table = KeyTable()
    for index, name in enumerate(settings.kernel.keyrings):
        if name.isdecimal() or name in _KNOWN_KEYRINGS or table.find_keyrings(name):
            continue
        close = difflib.get_close_matches(name, _KNOWN_KEYRINGS, n=1)
        detail = f"there is no keyring {name!r} now" + (f"; did you mean {close[0]!r}?" if close else "")
        yield Finding(f"kernel.keyrings[{index}]", "note", detail, "correct the name, or load the module that makes it")


def _authorities(settings: Configuration) -> Iterable[Finding]:
    """Find trusts without any authority: a leaf in a bundle is trusted itself, and certifies nobody."""
    for name, trust in settings.trust.items():
        if trust.system:
            continue
        try:
            anchors = load_trust(trust.bundle).anchors
            if any(ParsedCertificate(der).facts.is_authority for der in anchors):
                continue
        except (ConfigurationError, HandshakeFailed):  # found by the check of credentials
            continue
        detail = "no certificate in it is an authority's: peers are trusted that show exactly these"
        yield Finding(f"trust.{name}.bundle", "note", detail, "name the authority's file, unless that is meant")
