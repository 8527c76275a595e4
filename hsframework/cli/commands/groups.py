"""List the groups that the running service serves: numbers, protocols, agents, requests, sources.

For root and the service's own user.  A group is listed while an agent serves it or is expected back, and while it has
requests.  NUMBER is the kernel's number of the multicast group, one for each source that has one.

example:
  hsframework groups
  hsframework groups --json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

from hsframework.cli.options.service import add_runtime_dir
from hsframework.cli.options.table import columns
from hsframework.client.groups import ServedGroup, served_groups

NONE_SERVED = "No group is served: no agent has joined.  See the service's log, or 'hsframework doctor'."
_HEADER = ("GROUP", "NUMBER", "PROTOCOL", "AGENTS", "WAITING", "IN-FLIGHT", "SOURCES")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as a JSON list, with each agent and source")
    add_runtime_dir(parser)


def run(arguments: argparse.Namespace) -> int:
    found = served_groups(arguments.runtime_dir)
    print(json.dumps([asdict(group) for group in found], indent=2) if arguments.json else table(found))
    return 0


def table(groups: Sequence[ServedGroup]) -> str:
    """Format the groups in columns."""
    return "\n".join(columns([_HEADER, *map(_cells, groups)])) if groups else NONE_SERVED


def _cells(group: ServedGroup) -> tuple[str, ...]:
    numbers = [str(source.number) for source in group.sources if source.number is not None]
    protocols = sorted({agent.protocol for agent in group.agents})
    return (
        group.group,
        ",".join(dict.fromkeys(numbers)) or "-",
        ",".join(protocols) or "-",
        str(len(group.agents)),
        str(group.waiting),
        str(group.in_flight),
        ",".join(source.name for source in group.sources) or "-",
    )
