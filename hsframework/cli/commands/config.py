"""Check a configuration without starting anything: the file, and the keys, certificates, users and plugins that it
names.  Or show it whole, with the defaults and without secrets.

check: exit status 0: a service that starts now takes it.  1: it does not, or an entry cannot do what it says; each
message has the file, the line and the key.

example:
  hsframework config check
  hsframework config check --config new.toml
  hsframework config check --tlshd-config
  hsframework config show --json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict, replace

from hsframework.cli.checks.credentials import check_credentials
from hsframework.cli.checks.finding import Finding, report
from hsframework.cli.checks.semantics import check_metrics_port, check_semantics
from hsframework.cli.checks.units import limits, loaded_units
from hsframework.cli.commands.doctor import NEEDED, answers, check_memory, check_plugins, check_rules, check_users
from hsframework.cli.options.quiet import silence_logs
from hsframework.cli.options.service import add_configuration, add_kernel, add_tlshd, configuration_and_warnings
from hsframework.cli.options.shown import as_json, as_toml
from hsframework.configuration.settings import Configuration
from hsframework.errors import ConfigurationError

GOOD = "The configuration is good."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["check", "show"], help="check it, or show it whole")
    parser.add_argument("--json", action="store_true", help="as JSON: a list of findings, or the configuration")
    add_configuration(parser)
    add_kernel(parser)
    add_tlshd(parser)


def run(arguments: argparse.Namespace) -> int:
    silence_logs()
    if arguments.action == "show":
        settings, _ = configuration_and_warnings(arguments)
        print(as_json(settings) if arguments.json else as_toml(settings), end="")
        return 0
    wrong = [finding for finding in _findings(arguments) if finding.verdict != "ok"]
    print(json.dumps([asdict(finding) for finding in wrong], indent=2) if arguments.json else report(wrong) or GOOD)
    return 1 if any(finding.verdict == "missing" for finding in wrong) else 0


def _findings(arguments: argparse.Namespace) -> list[Finding]:
    try:
        settings, warnings = configuration_and_warnings(arguments)
    except ConfigurationError as error:
        return [Finding("configuration", "missing", str(error), NEEDED.format("it"))]
    passed_over = [Finding("tlshd's configuration", "note", warning, "mend or remove the line") for warning in warnings]
    return [*passed_over, *(_located(settings, finding) for finding in examine(settings))]


def examine(settings: Configuration) -> Iterable[Finding]:
    """Run every check of a configuration that could be read."""
    units = loaded_units()
    yield from check_plugins(settings)
    yield from check_credentials(settings)
    yield from check_rules(settings)
    yield from check_users(settings)
    yield from check_semantics(settings)
    yield from check_metrics_port(settings, running=answers(settings.runtime_dir))
    if units:
        for unit in units:
            yield from limits(settings, unit)
    else:
        yield from check_memory(settings)


def _located(settings: Configuration, finding: Finding) -> Finding:
    """Return a finding with the place of the key that it begins with, whether that is its subject or in its detail."""
    kind, _, name = finding.subject.partition(" ")
    if kind == "plugin" and name in settings.required_plugins:
        key = f"required-plugins[{settings.required_plugins.index(name)}]"
        return replace(finding, subject=settings.located(f"{key}: {finding.subject}"))
    subject, detail = (settings.located(f"{text}:") for text in (finding.subject, finding.detail))
    return replace(finding, subject=subject.removesuffix(":"), detail=detail.removesuffix(":"))
