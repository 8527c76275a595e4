"""References in docstrings, comments and pages lead to something that exists.

* ``:mod:``, ``:class:``, ``:func:``, ``:meth:``, ``:data:``, ``:attr:`` and ``:exc:`` in Python files.  A name with a
  dot in front is looked up in the package of the file, any other in its class, in its module, and as a full name.
* Names in backticks that begin with a package of ours, such as ``hsframework.interface``.
* Files: from the repository's root, or from the folder of the file or one above it.  A page may name a file by the end
  of its path.
* Names in the first column of a table that begins ``| module |``, as the plugins' READMEs have it: modules of the
  package beside the page; ``_client`` after ``engine`` is ``engine_client``.

Usage: ``python -m scripts.lint.references [FILE_OR_FOLDER ...]``.
"""

from __future__ import annotations

import ast
import pydoc
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from scripts.lint.sources import FOLDERS, ROOT, Docstring, Function, comments, docstrings, module_name, python_files

_ROLE = re.compile(r":(mod|class|func|meth|data|attr|exc):`(?:[^`<]*<)?([^`>]+)>?`")
_DOTTED = re.compile(
    r"(?<!`)`{1,2}((?:hsframework|scripts|tests|benchmarks)[a-z0-9_]*(?:\.\w+)+(?<!\.h))(?:\(\))?`{1,2}"
)
_FILE = re.compile(
    r"(?<![\w/.<{:-])(?:"
    r"((?:hsframework|plugins|tests|docs|scripts|benchmarks|examples|packaging)/[\w./*-]*\w[/*]?)"
    r"|([\w.-]+(?:/[\w.-]+)+\.(?:py|md|yaml))"
    r"|`([\w.-]+\.(?:py|md|yaml))`)"
)
_MADE = re.compile(r"docs/_build\b|(?:.*/)?generated/")
"""Files that a build makes, which may not be there yet."""
_FOREIGN = re.compile(r"(Documentation|tools/net)/|.*\bNAME\b|.*\.sensitive\.yaml$")
"""Files of the kernel's source tree, names with a place holder, and files that an author may add."""


class Module:
    """The names that a module defines (``Class.member`` too), those that it imports, and the bases of its classes."""

    def __init__(self, tree: ast.Module) -> None:
        self.names: set[str] = set()
        self.imported: dict[str, str] = {}
        self.bases: dict[str, list[str]] = {}
        self._collect(tree, "")

    def _collect(self, node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | Function):
                self.names.add(prefix + child.name)
                if isinstance(child, ast.ClassDef):
                    self.bases[prefix + child.name] = [ast.unparse(base) for base in child.bases]
                    self._collect(child, f"{prefix}{child.name}.")
                else:
                    self._attributes_set_in(child, prefix)
            elif isinstance(child, ast.Import | ast.ImportFrom):
                origin = f"{child.module}." if isinstance(child, ast.ImportFrom) else ""
                self.imported.update({alias.asname or alias.name: origin + alias.name for alias in child.names})
            elif isinstance(child, ast.Assign | ast.AnnAssign):
                targets = child.targets if isinstance(child, ast.Assign) else [child.target]
                names = (name for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))
                self.names.update(prefix + name.id for name in names)
            elif isinstance(child, ast.stmt):
                self._collect(child, prefix)

    def _attributes_set_in(self, method: ast.AST, prefix: str) -> None:
        for node in ast.walk(method):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                self.names.add(prefix + node.attr)


@cache
def modules() -> dict[str, Module | None]:
    """Return every module of the repository by its name, and None for a folder without ``__init__.py``."""
    found: dict[str, Module | None] = {}
    for folder in FOLDERS:
        for path in python_files(ROOT / folder):
            name = module_name(path)
            found[name] = Module(ast.parse(path.read_text()))
            while "." in name:
                name = name.rpartition(".")[0]
                found.setdefault(name, None)
    return found


def exists(name: str) -> bool:
    """True if a full dotted name is a module, a name in one, or a member of a class in one."""
    module, rest = name, ""
    while module and module not in modules():
        module, _, last = module.rpartition(".")
        rest = f"{last}.{rest}" if rest else last
    if not module:
        return pydoc.locate(name) is not None
    known = modules()[module]
    return not rest or (known is not None and _defined(known, rest))


def _defined(module: Module, rest: str) -> bool:
    if rest in module.names:
        return True
    first, _, after = rest.partition(".")
    if first in module.imported:
        return exists(".".join(filter(None, (module.imported[first], after))))
    owner, _, member = rest.rpartition(".")
    return any(_defined(module, f"{base}.{member}") for base in module.bases.get(owner, ()))


def wrong_roles(docstring: Docstring, path: Path) -> Iterator[str]:
    """Yield the references of a docstring that lead nowhere."""
    module = module_name(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    scopes = [".".join((module, *docstring.scope[:depth])) for depth in range(len(docstring.scope), -1, -1)]
    for role, target in _ROLE.findall(docstring.text):
        name = target.lstrip("~")
        candidates = [package + name] if name.startswith(".") else [*(f"{scope}.{name}" for scope in scopes), name]
        if not any(exists(candidate) for candidate in candidates):
            yield f":{role}:`{target}`"


def wrong_names(text: str, path: Path) -> Iterator[str]:
    """Yield the dotted names and the files in ``text`` that are not there."""
    for name in _DOTTED.findall(text):
        if not exists(name) and name.rpartition(".")[2] not in ("py", "toml", "yaml", "md", "service", "socket"):
            yield name
    for groups in _FILE.findall(text):
        name = next(filter(None, groups)).rstrip(".")
        if "*" not in name and not (_MADE.match(name) or _FOREIGN.match(name) or _is_there(name, path)):
            yield name


def _is_there(name: str, path: Path) -> bool:
    """True if the file exists; a page may name it by the end of its path."""
    folders = [folder for folder in path.parents if folder.is_relative_to(ROOT)]
    if any((folder / name).exists() for folder in folders):
        return True
    return path.suffix != ".py" and name in _endings()


@cache
def _endings() -> frozenset[str]:
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")]
    return frozenset("/".join(path.parts[index:]) for path in paths for index in range(1, len(path.parts)))


def wrong_modules(text: str, path: Path) -> Iterator[str]:
    """Yield the modules in the first column of tables of modules that are not beside the page."""
    present = {name for module in path.parent.rglob("*.py") for name in (module.stem, module.parent.name)}
    for table in re.findall(r"^\| module \|.*\n\|[-| ]+\n((?:\|.*\n?)+)", text, re.MULTILINE):
        for row in table.splitlines():
            names = re.findall(r"`(\w+)/?`", row.split("|")[1])
            full = [names[0] + name if name.startswith("_") else name for name in names]
            yield from (name for name in full if name not in present)


def problems(path: Path) -> Iterator[str]:
    """Yield ``FILE:LINE: REFERENCE leads nowhere`` for a Python file or a page."""
    source = path.read_text()
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    if path.suffix != ".py":
        for number, line in enumerate(source.splitlines(), start=1):
            yield from (f"{shown}:{number}: {name} leads nowhere" for name in wrong_names(line, path))
        if path.name == "README.md":
            yield from (f"{shown}: module {name} leads nowhere" for name in wrong_modules(source, path))
        return
    for docstring in docstrings(ast.parse(source)):
        for name in (*wrong_roles(docstring, path), *wrong_names(docstring.text, path)):
            yield f"{shown}:{docstring.line}: {name} leads nowhere"
    for number, comment in comments(source):
        yield from (f"{shown}:{number}: {name} leads nowhere" for name in wrong_names(comment, path))


def pages() -> Iterator[Path]:
    """Yield the pages of the documentation, and those that stand beside the code."""
    yield from sorted(ROOT.glob("*.md"))
    for folder in (*FOLDERS, "packaging"):
        for page in sorted((ROOT / folder).rglob("*.md")):
            if not _MADE.match(str(page.relative_to(ROOT))):
                yield page


def main(arguments: list[str]) -> int:
    """Print the problems of the files and folders that are named, else of all, and return an exit status."""
    folders = [Path(argument).resolve() for argument in arguments] or [ROOT / name for name in FOLDERS]
    files = [path for folder in folders for path in python_files(folder)] + ([] if arguments else list(pages()))
    found = [problem for path in files for problem in problems(path)]
    print(*found, sep="\n", end="\n" if found else "")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
