"""List the sessions that are open in the kernel, with their peers: mounts, exports, disks, programs with kernel TLS.

The kernel is asked for its sockets; the service knows the peers of those whose sessions it has made.  Of sockets with
TLS from elsewhere, or from before the start, only the number is known.  For root and the service's own user.

example:
  hsframework sessions
  hsframework sessions --json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hsframework.cli.options.service import add_runtime_dir
from hsframework.cli.options.table import columns
from hsframework.client.groups import open_sessions

_HEAD = ("PEER", "IDENTITY", "ROLE", "PROTOCOL", "CIPHER", "PROFILE", "OF", "AGE")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as a JSON array")
    add_runtime_dir(parser)


def run(arguments: argparse.Namespace) -> int:
    found = open_sessions(arguments.runtime_dir)
    print(json.dumps(found, indent=2) if arguments.json else "\n".join(_table(found)))
    return 1 if any("problem" in each for each in found) else 0


def _table(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    rows = [_row(each) for each in found if each.get("known")]
    if rows:
        yield from columns([_HEAD, *rows])
    else:
        yield "No session with a known peer is open in the kernel."
    for each in found:
        if each.get("known") is False:
            yield f"{each['number']} further with TLS{_place(each)}, made by others or before the service was started."
        if "problem" in each:
            yield f"network namespace {each['namespace']}: the kernel cannot be asked: {each['problem']}"


def _row(each: Mapping[str, Any]) -> tuple[str, ...]:
    of = "the kernel" if each["uid"] is None else f"user {each['uid']}"
    return (
        f"{each['peer']}{_place(each)}",
        each["peer-identity"] or "none",
        each["role"],
        each["protocol"],
        each["cipher"] or "-",
        each["profile"] or "-",
        of,
        _age(each["age"]),
    )


def _place(each: Mapping[str, Any]) -> str:
    return "" if each["namespace"] == "." else f" ({each['namespace']})"


def _age(seconds: float) -> str:
    """Return an age in its two largest units: ``3d 4h``."""
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, seconds = divmod(int(seconds), size)
        if number:
            parts.append(f"{number}{unit}")
    return " ".join(parts[:2]) or "0s"
