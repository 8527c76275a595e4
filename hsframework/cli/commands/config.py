"""Check a configuration without starting anything: the file, and the keys, certificates, users and plugins that it
names.

Exit status 0: a service that starts now would take it.

example:
  hsframework config check
  hsframework config check --config new.toml
  hsframework config check --tlshd-config
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from hsframework.cli.checks.credentials import check_credentials
from hsframework.cli.checks.finding import report
from hsframework.cli.checks.units import limits, loaded_units
from hsframework.cli.commands.doctor import check_memory, check_plugins, check_rules, check_users
from hsframework.cli.options.quiet import silence_logs
from hsframework.cli.options.service import add_configuration, add_kernel, add_tlshd, configuration

GOOD = "The configuration is good."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["check"], help="check it")
    parser.add_argument("--json", action="store_true", help="as a JSON list")
    add_configuration(parser)
    add_kernel(parser)
    add_tlshd(parser)


def run(arguments: argparse.Namespace) -> int:
    silence_logs()
    settings = configuration(arguments)
    units = loaded_units()
    findings = [
        *check_plugins(settings),
        *check_credentials(settings),
        *check_rules(settings),
        *check_users(settings),
        *([each for unit in units for each in limits(settings, unit)] if units else check_memory(settings)),
    ]
    wrong = [finding for finding in findings if finding.verdict != "ok"]
    print(json.dumps([asdict(finding) for finding in wrong], indent=2) if arguments.json else report(wrong) or GOOD)
    return 1 if any(finding.verdict == "missing" for finding in wrong) else 0
