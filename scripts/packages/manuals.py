"""The manual pages: hsframework(1), one for each command, hsframework.toml(5)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from hsframework import __version__
from hsframework.cli.main import COMMANDS, PROGRAM, build_parser
from hsframework.local.places import SYSTEM_RUNTIME_DIR
from scripts.packages import roff
from scripts.packages.environment import ROOT

sys.path.insert(0, str(ROOT / "docs"))
import generate

RIGHTS = "Only root can serve the kernel's consumers."
PLUGINS = "Each holds where the plugin is installed, which has a package of its own."
STATUS = (
    ("0", "done"),
    ("1", "failed"),
    ("2", "wrong command line or configuration"),
    ("130", "interrupted"),
)


def manuals() -> dict[str, str]:
    """Return all pages, name of the file → text."""
    pages = {f"{PROGRAM}.1": _overview(), "hsframework.toml.5": _configuration()}
    return pages | {
        f"{PROGRAM}-{name}.1": _command(name, parser) for name, parser in command_parsers(build_parser(tuple(COMMANDS)))
    }


def command_parsers(root: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield name and parser of each command."""
    for action in root._subparsers._group_actions if root._subparsers else ():
        assert isinstance(action.choices, dict)
        for name, parser in action.choices.items():
            for option in parser._actions:
                if option.dest == "runtime_dir":  # what the help says holds for the user who asks
                    option.help = f"folder of the dispatcher's sockets (default for root: {SYSTEM_RUNTIME_DIR})"
            yield name, parser


def _overview() -> str:
    root = build_parser(())
    commands = [roff.term(f"\\fB{roff.escape(f'{PROGRAM}-{name}(1)')}\\fR", text) for name, text in COMMANDS.items()]
    return roff.page(
        PROGRAM,
        1,
        "transport security handshakes as a service",
        [
            roff.section("SYNOPSIS", f"\\fB{PROGRAM}\\fR [\\fB\\-\\-version\\fR] \\fICOMMAND\\fR ...\n"),
            roff.section("DESCRIPTION", roff.paragraph(root.description or ""), roff.paragraph(RIGHTS)),
            roff.section("COMMANDS", *commands),
            roff.section("EXIT STATUS", *(roff.term(f"\\fB{number}\\fR", text) for number, text in STATUS)),
            roff.section(
                "FILES",
                roff.term("\\fI/etc/hsframework/hsframework.toml\\fR", "configuration, hsframework.toml(5)"),
                roff.term("\\fI/run/hsframework\\fR", "sockets of the dispatcher that root runs"),
            ),
            roff.section("SEE ALSO", roff.paragraph("hsframework.toml(5), systemd.service(5), tlshd(8)")),
        ],
        version=__version__,
    )


def _command(name: str, parser: argparse.ArgumentParser) -> str:
    return roff.page(
        f"{PROGRAM}-{name}",
        1,
        COMMANDS[name],
        [
            roff.synopsis(parser),
            roff.section("DESCRIPTION", roff.text_blocks(parser.description or "")),
            roff.options(parser),
            roff.section("SEE ALSO", roff.paragraph("hsframework(1), hsframework.toml(5)")),
        ],
        version=__version__,
    )


def _configuration() -> str:
    about = (
        "One TOML file, checked whole at start: an unknown key, a wrong type or a name that is not defined is an error "
        "that says where and what to change. Paths are relative to the file's folder. `hsframework config check` "
        "checks the file without starting anything. Without a file the service runs with the defaults."
    )
    return roff.page(
        "hsframework.toml",
        5,
        "configuration of the handshake service",
        [
            roff.section("SYNOPSIS", "\\fI/etc/hsframework/hsframework.toml\\fR\n"),
            roff.section("DESCRIPTION", roff.paragraph(about)),
            roff.section("KEYS OF THE FILE ITSELF"),
            *_tables(generate.configuration_tables(), "see the tables below"),
            roff.section("SETTINGS OF PLUGINS", roff.paragraph(PLUGINS)),
            *_tables(generate.plugin_tables(), "see above"),
            roff.section("SEE ALSO", roff.paragraph("hsframework(1), hsframework-config(1), hsframework-doctor(1)")),
        ],
        version=__version__,
    )


def _tables(markdown: str, elsewhere: str) -> Iterator[str]:
    """Yield a section for each table of the configuration reference, from its Markdown.

    ``elsewhere``: for keys without a text of their own.
    """
    for line in markdown.splitlines():
        if line.startswith("### "):
            yield roff.section(line.removeprefix("### ").strip("`"))
        elif line.startswith("| `"):
            key, kind, default, meaning = (cell.strip() for cell in line.strip("|").replace("\\|", "\0").split("|"))
            known = f"; default: {default}" if default else ""
            name = roff.prose(f"{key} ({kind}{known})".replace("\0", "|"))
            yield roff.term(name, meaning.replace("\0", "|") or elsewhere)
        elif line and not line.startswith("|"):
            yield roff.paragraph(line)
