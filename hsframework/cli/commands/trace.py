"""Show each message of the next handshakes with a peer: when it came or went, its type and size, and how it ended.

The peer is an address or a network, of the kernel's requests and of root's programs.  What TLS 1.3 encrypts has a size
alone; no contents and no keys are shown.  For root and the service's own user.  Exit status 1: there was no handshake
in that time.

example:
  hsframework trace 192.0.2.7
  hsframework trace 192.0.2.0/24 --count 5 --seconds 300 --json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any

from hsframework.cli.options.service import add_runtime_dir
from hsframework.cli.options.table import columns
from hsframework.client.groups import traced_handshakes

_HEAD = ("queued_ms", "handshake_ms", "milliseconds", "reason", "steps")
"""Members that have a place of their own."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("peer", metavar="PEER", help="address of the peer, or a network")
    parser.add_argument("--count", type=int, default=1, metavar="N", help="handshakes (default: 1)")
    parser.add_argument(
        "--seconds", type=int, default=60, metavar="N", help="end after this time (default: 60, at most 600)"
    )
    parser.add_argument("--json", action="store_true", help="each handshake as a JSON object, on a line of its own")
    add_runtime_dir(parser)


def run(arguments: argparse.Namespace) -> int:
    number = 0
    for found in traced_handshakes(arguments.peer, arguments.count, arguments.seconds, arguments.runtime_dir):
        print(json.dumps(found) if arguments.json else "\n".join(report(found)), flush=True)
        number += 1
    if not number and not arguments.json:
        print(f"There was no handshake with {arguments.peer} in {arguments.seconds} s.")
    return 0 if number else 1


def report(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of one handshake.  What others have chosen is shown as printable text."""
    said = [f"{name}={value}" for name, value in found.items() if name not in _HEAD and value not in (None, "")]
    yield _printable(" ".join(said))
    times = [f"{name.removesuffix('_ms')} {found[name]} ms" for name in _HEAD[:2] if name in found]
    yield _printable(f"  {', '.join(times)}, in all {found.get('milliseconds')} ms")
    rows = []
    for step in found.get("steps", ()):
        if isinstance(step, list) and len(step) == 4:
            at, way, what, size = step
            rows.append((f"  {at} ms", str(way), str(what), f"{size} bytes"))
    if rows:
        yield from map(_printable, columns(rows))
    if found.get("reason"):
        yield _printable(f"  {found['reason']}")


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)
