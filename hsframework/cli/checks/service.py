"""Checks of the running service: it is asked itself, and the processes that it names are looked at."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hsframework import __version__
from hsframework.cli.checks.finding import Finding
from hsframework.cli.checks.processes import is_stopped
from hsframework.cli.options.members import listening_sockets
from hsframework.client.groups import GroupAgent, ServedGroup, served_groups, service_status
from hsframework.configuration.files import stamp, stamps
from hsframework.configuration.settings import Configuration
from hsframework.errors import HsframeworkError, RequestRefused
from hsframework.local.places import consumer_socket
from hsframework.netlink.holders import holders

RECENT = 600.0
"""Seconds in which an agent that was refused is worth a word."""

RESTART = "restart it: systemctl restart hsframework"

UNNAMED = frozenset({errno.EOPNOTSUPP, errno.EBADMSG, errno.EACCES})
"""Answers of a service that does not tell its state to this user, or that is older than this command."""


def check_service(settings: Configuration, *, managed: bool = False) -> Iterable[Finding]:
    """Check that a dispatcher answers, that agents serve, and that it has what the files on disk have.

    ``managed``: it has units, by which it is to serve the kernel.
    """
    path = consumer_socket(settings.runtime_dir)
    try:
        status, groups = service_status(settings.runtime_dir), served_groups(settings.runtime_dir)
    except RequestRefused as error:
        if error.errno not in UNNAMED:
            raise
        yield Finding("dispatcher", "ok", f"listens at {path}")
        yield Finding("service", "note", f"it does not tell its state: {error}", "run doctor as root")
        return
    except HsframeworkError as error:
        yield _not_answering(path, error)
        return
    yield _dispatcher(path, status)
    yield from _agents(status, groups)
    if status.get("no-kernel"):
        yield Finding(
            "kernel's requests",
            "missing" if managed else "note",
            f"the service takes none: {status['no-kernel']}",
            "see what its unit or container forbids (AF_NETLINK, CAP_NET_ADMIN), or set kernel.enabled = false",
        )
    yield from _refused(status)
    yield from _faults(status)
    yield from _changed(settings, status)
    yield from _score(settings, status)


def _not_answering(path: Path, error: HsframeworkError) -> Finding:
    """Make the finding of a dispatcher that is not there, or does not turn."""
    for pid in _listeners(path):
        if is_stopped(pid):
            return Finding("dispatcher", "missing", f"process {pid} is stopped (SIGSTOP)", f"kill -CONT {pid}")
    if error.errno == errno.ETIMEDOUT:
        return Finding(
            "dispatcher",
            "missing",
            f"listens at {path} and does not answer",
            RESTART,
        )
    reason, _, mend = str(error).rpartition(": ")
    return Finding("dispatcher", "missing", reason, mend)


def _dispatcher(path: Path, status: Mapping[str, Any]) -> Finding:
    since = _ago(time.time() - float(status.get("started", 0)))
    version = status.get("version")
    if version != __version__:
        return Finding(
            "dispatcher",
            "note",
            f"it runs version {version}, and {__version__} is installed",
            RESTART,
        )
    ready = "ready" if status.get("ready") else "not ready"
    return Finding("dispatcher", "ok", f"listens at {path}, process {status.get('process')}, since {since}, {ready}")


def _agents(status: Mapping[str, Any], groups: Iterable[ServedGroup]) -> Iterable[Finding]:
    served = {group.group: group for group in groups if group.agents}
    for name in status.get("missing-groups", ()):
        yield Finding(
            f"group {name}",
            "missing",
            "no agent serves it, so that requests in it are refused",
            "see the agent's log: journalctl -u 'hsframework-agent@*'",
        )
    if not served:
        yield Finding("agents", "missing", "none has joined; nothing is served", "see the log of the agents")
    for name, group in served.items():
        yield from _members(name, group.agents, str(status.get("kernel-tls", "")))


def _members(group: str, agents: Iterable[GroupAgent], kernel_tls: str) -> Iterable[Finding]:
    """Yield a finding for the agents of a group: those that are stopped, without kTLS, and how many serve."""
    subject = f"group {group}"
    serving = []
    for agent in agents:
        if is_stopped(agent.process):
            yield Finding(
                subject, "missing", f"the agent {agent.name} is stopped (SIGSTOP)", f"kill -CONT {agent.process}"
            )
        else:
            serving.append(agent)
        if kernel_tls == "yes" and agent.kernel_tls not in ("yes", ""):
            yield Finding(
                subject,
                "missing",
                f"the agent {agent.name} has no kernel TLS, and the dispatcher has it: {agent.kernel_tls}",
                "load the module before the agent starts (modprobe tls), allow its unit AF_INET, and restart it",
            )
    if serving:
        since = _ago(min(agent.age for agent in serving))
        tls = {agent.kernel_tls for agent in serving} - {""}
        said = f", kernel TLS: {', '.join(sorted(tls))}" if tls else ""
        yield Finding(subject, "ok", f"{len(serving)} agent{'s' * (len(serving) > 1)}, the newest since {since}{said}")


def _refused(status: Mapping[str, Any]) -> Iterable[Finding]:
    latest = {
        (each.get("user"), each.get("reason")): each
        for each in status.get("refused-agents", ())
        if time.time() - float(each.get("time", 0)) < RECENT
    }
    for (user, reason), each in latest.items():
        when = _ago(time.time() - float(each.get("time", 0)))
        yield Finding(
            "agents",
            "missing",
            f"an agent (user {user}) was not allowed to join, {when} ago: {reason}",
            "name its user in [groups.NAME] users, or give it the user hsframework-NAME",
        )


def _faults(status: Mapping[str, Any]) -> Iterable[Finding]:
    for reason in status.get("faults", ()):
        yield Finding(
            "files in use",
            "missing",
            f"a file is unusable; the service goes on with what it had, or without: {reason}",
            "correct it, and restart the service",
        )
    reload = status.get("reload") or {}
    if reload.get("problem"):
        detail = f"nothing was taken {_ago(time.time() - float(reload.get('at', 0)))} ago: {reload['problem']}"
        yield Finding("reload", "missing", detail, "correct it; it is read by itself, or by: hsframework reload")
    for key in reload.get("waiting", ()):
        yield Finding("reload", "note", f"{key} has changed, and waits for a restart", RESTART)
    if status.get("audit"):
        yield Finding("audit log", "missing", f"events are lost: {status['audit']}", "make room, or mend its folder")
    if status.get("metrics"):
        yield Finding("metrics", "note", f"there are none: {status['metrics']}", "free the port, or name another")


def _changed(settings: Configuration, status: Mapping[str, Any]) -> Iterable[Finding]:
    """Yield the files whose state on disk is not that in which the service has read them."""
    known, changed = status.get("files", {}), False
    for path, read in known.items():
        now = stamp(Path(path))
        if (now.modified, now.size) != (read.get("modified"), read.get("size")):
            changed = True
            yield Finding(
                "files in use",
                "note",
                f"{path} has changed since the service read it" if now.size >= 0 else f"{path} is gone",
                "hsframework reload, which reads it, or says what is wrong",
            )
    # Where none has changed, the look at the files on disk says the same.
    for each in status.get("findings", ()) if changed else ():
        yield Finding(
            f"{each['where']} in use", "missing" if each["useless"] else "note", each["detail"], "hsframework reload"
        )
    if known:
        for path in sorted(set(stamps(settings)) - set(known)):
            yield Finding(
                "files in use", "note", f"{path} is named in the configuration, and the service has not read it",
                "restart the service, or name the configuration that it runs with by --config",
            )  # fmt: skip


def _score(settings: Configuration, status: Mapping[str, Any]) -> Iterable[Finding]:
    wanted, found = settings.memory.oom_score_adjust, status.get("oom-score-adjust")
    if wanted is not None and found is not None and wanted != found:
        yield Finding(
            "OOM score",
            "missing",
            f"memory.oom-score-adjust is {wanted}, and the dispatcher has {found}",
            "restart the service",
        )


def _listeners(path: Path) -> list[int]:
    """Return the processes, but for the service manager, that have the socket at this path open."""
    sockets = listening_sockets(path)
    found, _ = holders(sockets)
    return sorted({process.pid for inode in sockets for process in found[inode] if process.pid != 1})


def _ago(seconds: float) -> str:
    """Return a length of time for people: ``3 min``."""
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {name}"
    return f"{max(0, int(seconds))} s"
