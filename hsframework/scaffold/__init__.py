"""The scaffold for a new plugin's package: ``hsframework plugin new NAME`` (:mod:`hsframework.cli.commands.plugin`).

``template`` is a plugin that works, with the name *knock*; a new plugin is a copy with the name replaced.  So the
template is checked by the same tools as all other code, and may use the word *knock* for the name only.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hsframework.errors import ConfigurationError

TEMPLATE = Path(__file__).parent / "template"
WORD = "knock"
MAX_NAME = 40
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_OURS = ("testing", "scaffold", "tlshd")
_TOKENS = re.compile(rf"hsframework_{WORD}|{WORD.capitalize()}|{WORD}")
_RENAMED = {"gitignore": ".gitignore"}
_LEFT_OUT = {"__pycache__", ".ruff_cache", ".mypy_cache", ".pytest_cache", ".hypothesis"}


@dataclass(frozen=True)
class Names:
    """A plugin's name in the forms that its package needs.  Raises ConfigurationError for an unsuitable name."""

    name: str

    def __post_init__(self) -> None:
        problem = _problem(self.name)
        if problem is not None:
            raise ConfigurationError(f"{self.name!r:.60} is no name for a plugin: {problem}")

    @property
    def distribution(self) -> str:
        """Name of the distribution: ``my-way`` → ``hsframework-my-way``."""
        return f"hsframework-{self.name}"

    @property
    def package(self) -> str:
        """Name of the Python package: ``my-way`` → ``hsframework_my_way``."""
        return self.distribution.replace("-", "_")

    @property
    def classes(self) -> str:
        """Prefix of the class names: ``my-way`` → ``MyWay``, for ``MyWayProtocol``."""
        return "".join(part.capitalize() for part in self.name.split("-"))

    def put_into(self, text: str) -> str:
        """Return a text of the template with the name replaced by this one."""
        forms = {f"hsframework_{WORD}": self.package, WORD.capitalize(): self.classes, WORD: self.name}
        return _TOKENS.sub(lambda match: forms[match[0]], text)


def create(names: Names, parent: Path) -> list[Path]:
    """Write the package into a new folder in ``parent``, and return its files, relative to that folder.

    Raises ConfigurationError if the folder exists or cannot be made.
    """
    folder = parent / names.distribution
    try:
        folder.mkdir()
    except FileExistsError:
        raise ConfigurationError(f"{folder} exists already; choose another name, or remove it") from None
    except OSError as error:
        raise ConfigurationError(f"cannot make the folder {folder}: {error.strerror}") from None
    written = []
    for source in template_files():
        path = Path(names.put_into(str(source.with_name(_RENAMED.get(source.name, source.name)))))
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(names.put_into((TEMPLATE / source).read_text("utf-8")), "utf-8")
        written.append(path)
    return sorted(written)


def template_files() -> Iterator[Path]:
    """Yield the files of the template, relative to it."""
    for path in TEMPLATE.rglob("*"):
        relative = path.relative_to(TEMPLATE)
        if path.is_file() and not _LEFT_OUT.intersection(relative.parts):
            yield relative


def _problem(name: str) -> str | None:
    if not _NAME.fullmatch(name):
        return "use lower-case letters, digits and single dashes, a letter first"
    if len(name) > MAX_NAME:
        return f"it has {len(name)} characters; use at most {MAX_NAME}"
    if keyword.iskeyword(name) or name in _OURS:
        return "the word has a meaning already"
    if name.startswith("hsframework"):
        return "leave the beginning out: the package is called hsframework-NAME"
    return None
