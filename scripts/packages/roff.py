"""Manual pages in roff, from argument parsers and from the tables of the configuration reference."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence

_MARKS = re.compile(r"(`+[^`]+`+|\*[^*]+\*)")


def escape(text: str) -> str:
    """Escape text for roff."""
    return text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("→", "\\(->")


def prose(text: str) -> str:
    """Make a paragraph of one line; code is bold, what is emphasised is italic."""
    words = []
    for piece in _MARKS.split(" ".join(text.split())):
        if piece.startswith("`"):
            words.append(f"\\fB{escape(piece.strip('`'))}\\fR")
        elif piece.startswith("*") and len(piece) > 2:
            words.append(f"\\fI{escape(piece.strip('*'))}\\fR")
        else:
            words.append(escape(piece))
    line = "".join(words)
    return f"\\&{line}" if line.startswith((".", "'")) else line


def page(name: str, section: int, summary: str, parts: Iterable[str], *, version: str) -> str:
    """Make a page.  ``parts``: texts in roff, as the functions here make them."""
    head = f'.TH "{escape(name.upper())}" {section} "" "hsframework {version}" "hsframework"\n'
    return f"{head}.SH NAME\n{escape(name)} \\- {prose(summary)}\n" + "".join(parts)


def section(title: str, *parts: str) -> str:
    """Make a section."""
    return f'.SH "{title}"\n' + "".join(parts)


def paragraph(text: str) -> str:
    """Make a paragraph."""
    return f".PP\n{prose(text)}\n"


def literal(lines: Sequence[str]) -> str:
    """Make a block of lines that stay as they are."""
    shown = (f"\\&{escape(line)}" for line in lines)
    return ".PP\n.nf\n.RS\n" + "\n".join(shown) + "\n.RE\n.fi\n"


def term(name: str, text: str) -> str:
    """Make the entry of a list.  ``name``: in roff."""
    return f".TP\n{name}\n" + (prose(text) or "\\&") + "\n"


def text_blocks(text: str) -> str:
    """Make paragraphs of a text whose blocks are divided by empty lines.

    In a block whose first line ends with a colon, indented lines are a literal.
    """
    parts = []
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = block.splitlines()
        plain = [line for line in lines if not line.startswith("  ")]
        indented = [line.strip() for line in lines if line.startswith("  ")]
        parts.append(paragraph(" ".join(plain)) if plain else "")
        parts.append(literal(indented) if indented else "")
    return "".join(parts)


def synopsis(parser: argparse.ArgumentParser) -> str:
    """Make the synopsis of a command."""
    words = " ".join(parser.format_usage().removeprefix("usage: ").split()).removeprefix(parser.prog)
    return section("SYNOPSIS", f"\\fB{escape(parser.prog)}\\fR {escape(words.strip())}\n")


def options(parser: argparse.ArgumentParser) -> str:
    """Make the section of the arguments and options of a command."""
    entries = [_option(parser, action) for action in parser._actions if action.help != argparse.SUPPRESS]
    return section("OPTIONS", *entries) if entries else ""


def _option(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    formatter = parser._get_formatter()
    value = (
        "" if action.nargs == 0 else formatter._format_args(action, formatter._get_default_metavar_for_optional(action))
    )
    if not action.option_strings:
        name = f"\\fI{escape(formatter._format_args(action, action.dest))}\\fR"
    else:
        names = ", ".join(f"\\fB{escape(option)}\\fR" for option in action.option_strings)
        name = names + (f" \\fI{escape(value)}\\fR" if value else "")
    return term(name, formatter._expand_help(action) if action.help else "")
