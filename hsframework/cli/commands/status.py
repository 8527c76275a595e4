"""Show the running service: versions, groups and their agents, requests, failures of the last minutes by reason, and
the files in use with what is newer on disk.

For root and the service's own user.  Exit status 0: it is ready.  1: it is not, or does not answer.

example:
  hsframework status
  hsframework status --json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from hsframework import __version__
from hsframework.cli.commands.groups import table
from hsframework.cli.options.service import add_runtime_dir
from hsframework.cli.options.table import columns
from hsframework.client.groups import ServedGroup, served_groups, service_status
from hsframework.configuration.files import stamp
from hsframework.errors import errno_name

MOST_FAILURES = 12
"""Reasons that are listed; the others are counted."""
RATE = 5
"""Minutes of which the rate is shown."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as a JSON object")
    add_runtime_dir(parser)


def report(runtime_dir: Path | None) -> tuple[bool, list[str]]:
    """Return True if the service is ready, and the lines of the report.  Raises HsframeworkError."""
    status = service_status(runtime_dir)
    return bool(status.get("ready")), list(_report(status, served_groups(runtime_dir), files_in_use(status)))


def run(arguments: argparse.Namespace) -> int:
    if not arguments.json:
        ready, lines = report(arguments.runtime_dir)
        print("\n".join(lines))
        return 0 if ready else 1
    status, groups = service_status(arguments.runtime_dir), served_groups(arguments.runtime_dir)
    files = files_in_use(status)
    answer = {"service": status, "groups": [asdict(group) for group in groups], "files": files}
    print(json.dumps(answer | {"installed": __version__}, indent=2))
    return 0 if status.get("ready") else 1


def files_in_use(status: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the files that the service has read: ``path``, ``modified`` (when it read them), ``state``.

    States: in use, newer on disk, gone, and missing for one that was not there when it was to be read.
    """
    found = []
    for path, read in sorted(status.get("files", {}).items()):
        now, size = stamp(Path(path)), read.get("size", -1)
        if now.size < 0:
            state = "gone" if size >= 0 else "missing"
        else:
            same = (now.modified, now.size) == (read.get("modified"), size)
            state = "in use" if same else "newer on disk"
        found.append({"path": path, "modified": read.get("modified", -1), "state": state})
    return found


def _report(
    status: Mapping[str, Any], groups: Sequence[ServedGroup], files: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    yield from columns(list(_service(status, groups)))
    yield ""
    yield table(groups)
    yield ""
    yield from _recent(status.get("recent", {}))
    if files:
        yield ""
        head = ("FILE", "OF", "STATE")
        yield from columns([head, *((each["path"], _date(each["modified"]), each["state"]) for each in files)])
    for each in status.get("findings", ()):
        yield f"{'useless' if each.get('useless') else 'note'}: {each.get('where')}: {each.get('detail')}"
    for fault in status.get("faults", ()):
        yield f"unusable: {fault}"


def _service(status: Mapping[str, Any], groups: Sequence[ServedGroup]) -> Iterator[tuple[str, str]]:
    version = str(status.get("version", "?"))
    newer = "" if version == __version__ else f"; {__version__} is installed: restart it"
    yield "version", f"{version}, Python {status.get('python', '?')}, Linux {status.get('kernel', '?')}{newer}"
    since = datetime.fromtimestamp(float(status.get("started", 0))).strftime("%Y-%m-%d %H:%M:%S")
    yield "process", f"{status.get('process')}, since {since}"
    missing = ", ".join(status.get("missing-groups", ()))
    yield "state", "ready" if status.get("ready") else f"not ready{': no agent serves ' + missing if missing else ''}"
    yield "kernel", str(status["no-kernel"]) if status.get("no-kernel") else "its requests are taken"
    without = [agent.name for group in groups for agent in group.agents if agent.kernel_tls not in ("yes", "")]
    agents = f"; not in: {', '.join(sorted(set(without)))}" if without else ""
    yield "kernel TLS", f"{status.get('kernel-tls') or '?'}{agents}"
    states = status.get("requests", {})
    yield "requests", ", ".join(f"{number} {state}" for state, number in sorted(states.items())) or "none in hand"
    yield "sessions", _sessions(status.get("sessions", {}))
    if status.get("metrics"):
        yield "metrics", f"there are none: {status['metrics']}"
    if status.get("audit"):
        yield "audit log", f"events are lost: {status['audit']}"


def _sessions(report: Mapping[str, Any]) -> str:
    known, mode, out = report.get("known", 0), report.get("end-sessions", "?"), report.get("out", {})
    words = [f"{known} in the kernel with known peers", f"of peers that are out: {mode}"]
    words += [f"{number} {what}" for what, number in sorted(out.items())]
    if report.get("cannot-end"):
        words.append(f"none can be ended: {report['cannot-end']}")
    return "; ".join(words)


def _recent(recent: Mapping[str, Any]) -> Iterator[str]:
    outcomes = [each for each in recent.get("outcomes", ()) if each.get("status")]
    total = sum(each.get("count", 0) for each in recent.get("outcomes", ()))
    failed = sum(each.get("count", 0) for each in outcomes)
    lately = recent.get("completed", [])[-RATE:]
    rate = sum(lately) / len(lately) if lately else 0.0
    minutes = recent.get("minutes", 0)
    yield f"Last {minutes} min: {total} requests, {failed} failed; {rate:.1f} a minute in the last {RATE}."
    if outcomes:
        shown = outcomes[:MOST_FAILURES]
        rows = [(str(e["count"]), e["group"] or "-", _errno(e["status"]), e["reason"] or "-") for e in shown]
        yield from columns([("COUNT", "GROUP", "STATUS", "REASON"), *rows])
    if len(outcomes) > MOST_FAILURES:
        yield f"and {sum(each['count'] for each in outcomes[MOST_FAILURES:])} for {len(outcomes) - MOST_FAILURES} more"


def _errno(number: int) -> str:
    return errno_name(number) if number > 0 else "-"


def _date(nanoseconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(nanoseconds / 1e9)) if nanoseconds >= 0 else "-"
