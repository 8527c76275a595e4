"""List the installed plugins: versions, protocols, multicast groups, and the errors of those that are broken.

Exit status 0, unless one that the configuration requires is not in use, or none is although some are installed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hsframework.cli.options.quiet import silence_logs
from hsframework.cli.options.service import add_configuration, configuration
from hsframework.cli.options.table import columns

if TYPE_CHECKING:
    from hsframework.registry.plugins import PluginRegistry

NONE_INSTALLED = "No plugins are installed.  TLS 1.3 comes with the package hsframework-tls13."
_HEADER = ("NAME", "PACKAGE", "VERSION", "PROTOCOLS", "GROUPS")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as a JSON list")
    add_configuration(parser)


def run(arguments: argparse.Namespace) -> int:
    silence_logs()
    from hsframework.cli.options.installed import try_plugins

    settings = configuration(arguments)
    registry = try_plugins(settings.blocked_plugins)
    rows = plugin_facts(registry)
    print(json.dumps(rows, indent=2) if arguments.json else table(rows))
    for broken in registry.broken:
        print(f"hsframework: passed over: {broken.where}: {broken.reason}", file=sys.stderr)
    registry.require(settings.required_plugins)
    return 1 if registry.records and not any(record.error is None for record in registry.records) else 0


def plugin_facts(registry: PluginRegistry) -> list[dict[str, Any]]:
    """Return one entry for each plugin that was found, whether it is in use or not."""
    rows = []
    for record in registry.records:
        served = [registry.protocols[name].protocol for name in record.protocols]
        rows.append(
            {
                "name": record.name,
                "distribution": record.distribution,
                "version": record.version,
                "protocols": list(record.protocols),
                "groups": sorted({group for protocol in served for group in protocol.groups}),
                "error": record.error,
                "rivals": list(record.rivals),
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Format the rows in columns, each error on a line of its own below its row."""
    if not rows:
        return NONE_INSTALLED
    lines = []
    for line, row in zip(columns([_HEADER, *map(_cells, rows)]), [None, *rows], strict=True):
        lines.append(line)
        if row is not None and row["error"] is not None:
            lines.append(f"    not in use: {row['error']}")
        if row is not None and row["rivals"]:
            lines.append(f"    the name is claimed by {', '.join(row['rivals'])} too; uninstall all but one")
    return "\n".join(lines)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    listed = (",".join(row["protocols"]), ",".join(row["groups"]))
    return tuple(cell or "-" for cell in (row["name"], row["distribution"], row["version"], *listed))
