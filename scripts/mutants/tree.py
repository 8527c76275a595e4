"""Copy of the tree in which mutants are run, one at a time, each in processes of its own that end with it.

* The copy comes first on the path, before the checkout that is installed.
* A run is over at its limit, whatever it does: all of its processes are ended from outside.  Where a process may have a
  PID namespace of its own, the run has one, so that it cannot send a signal to anybody else's process either.
* Hypothesis chooses its examples by a fixed seed.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.lint.sources import ROOT
from scripts.mutants import modules
from scripts.mutants.mutants import Mutant
from scripts.mutants.plugin import VARIABLE

NICE = 10
SECONDS_OF_A_TEST = 30
"""Limit of one test, by pytest-timeout: a test at which a mutant hangs has caught it."""

SECONDS_OF_A_RECORD = 300
"""The same without a mutant: to record what a test calls takes several times as long."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Outcome of a run.  ``caught``: the test that failed, another reason in brackets, or None: the mutant escaped."""

    caught: str | None
    report: dict[str, Any]
    output: str


class Tree:
    """Copy of the files that are under version control or would be.

    ``kernel``: True if its kernel modules are built for each run, and its tests boot the test kernel.  ``project``: the
    folder in which the tests run, from the root; an example's distribution is found there as if it were installed.
    """

    def __init__(self, folder: Path, *, kernel: bool = False, project: str = ".") -> None:
        self.root = folder / "tree"
        self._project = self.root / project
        self._scratch = folder / "t"
        self._modules = folder / "modules" if kernel else None
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            check=True,
            stdout=subprocess.PIPE,
        )
        for name in filter(None, os.fsdecode(listed.stdout).split("\0")):
            if (ROOT / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.root / name)
        if (ROOT / ".venv").exists():
            (self.root / ".venv").symlink_to(ROOT / ".venv")
        modules.link_builds(self.root)
        if self._project != self.root:
            _register(self._project)

    def run(self, tests: Sequence[str], seconds: float, *, mutant: Mutant | None = None) -> Verdict:
        """Run the tests, with a mutant or, if there is none, with a record of the functions that each of them calls.

        The run has failed after ``seconds``.
        """
        with self._applied(mutant):
            if self._modules is not None:
                try:
                    modules.build(self.root, self._modules)
                except modules.Unbuilt as error:
                    return Verdict("[the compiler]", {"failed": None, "tests": {}}, str(error))
            self._scratch.mkdir()
            try:
                # A kernel's memory is a large file.
                return self._run(tests, seconds, {"record": mutant is None, "limited": self._modules is None})
            finally:
                shutil.rmtree(self._scratch, ignore_errors=True)

    def _run(self, tests: Sequence[str], seconds: float, told: dict[str, Any]) -> Verdict:
        told["root"] = str(self.root)
        told["report"] = str(self._scratch / "report.json")
        (self._scratch / "told.json").write_text(json.dumps(told))
        output = self._scratch / "output"
        command = [*_apart(), sys.executable, "-m", "pytest", "-p", "scripts.mutants.plugin", "-q", "-x"]
        command += ["-p", "no:cacheprovider", "--hypothesis-seed=0", "--no-header", "--tb=short"]
        limit = SECONDS_OF_A_RECORD if told["record"] else SECONDS_OF_A_TEST
        command += ["--timeout", str(limit), *tests]
        with output.open("wb") as file:
            process = subprocess.Popen(
                command,
                cwd=self._project,
                env=self._environment(record=told["record"]),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
            try:
                status = process.wait(seconds)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        text = output.read_text(errors="replace")
        try:
            report = json.loads(Path(told["report"]).read_text())
        except (OSError, ValueError):
            report = {"failed": None, "tests": {}}
        return Verdict(_caught(status, report["failed"], text), report, text)

    def _environment(self, *, record: bool) -> dict[str, str]:
        packages = [self.root, *sorted((self.root / "plugins").iterdir()), self._project]
        further = {
            "PYTHONPATH": os.pathsep.join(map(str, packages)),
            "TMPDIR": str(self._scratch),
            VARIABLE: str(self._scratch / "told.json"),
        }
        # Bytecode is written by the run without a mutant alone: it goes by a file's time and size, which may be equal.
        if not record:
            further["PYTHONDONTWRITEBYTECODE"] = "1"
        return {**{name: value for name, value in os.environ.items() if name != "CI"}, **further}

    @contextlib.contextmanager
    def _applied(self, mutant: Mutant | None) -> Iterator[None]:
        if mutant is None:
            yield
            return
        path = self.root / mutant.path
        source = path.read_bytes()
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()
        path.write_bytes(mutant.applied(source))
        try:
            yield
        finally:
            path.write_bytes(source)


@contextlib.contextmanager
def copied(*, kernel: bool = False, project: str = ".") -> Iterator[Tree]:
    """Return a copy of the tree, which is removed in the end.  Its path is short: sockets are bound below it."""
    with tempfile.TemporaryDirectory(prefix="m-", dir="/tmp") as folder:
        os.chmod(folder, 0o755)  # tests start processes of other users
        yield Tree(Path(folder), kernel=kernel, project=project)


def _register(project: Path) -> None:
    """Write what an installer would: the name of the distribution in a folder, and its entry points."""
    table = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    information = project / f"{table['name'].replace('-', '_')}-{table['version']}.dist-info"
    information.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {table['name']}\nVersion: {table['version']}\n"
    metadata += "".join(f"Requires-Dist: {needed}\n" for needed in table.get("dependencies", ()))
    (information / "METADATA").write_text(metadata)
    (information / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {module}\n" for name, module in entries.items())
            for group, entries in table.get("entry-points", {}).items()
        )
    )


def _caught(status: int | None, failed: str | None, output: str) -> str | None:
    if failed is not None:
        return failed
    if status == 0:
        return None
    if status is None:
        return "[the limit in time]"
    if "error" in output.lower() and status in (2, 3, 4):
        return "[the import fails]"
    return f"[exit status {status}]"


@functools.cache
def _apart() -> list[str]:
    """Return the command in front of a run: low priority and, where it may be had, a PID namespace of its own."""
    nice = ["nice", "-n", str(NICE)]
    own = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    for command in (own, [*own, "--user", "--map-current-user"]):
        with contextlib.suppress(OSError):
            if subprocess.run([*command, "true"], stderr=subprocess.DEVNULL).returncode == 0:
                # The first process of a namespace is a shell: it reaps what is left to it.
                return [*nice, *command, "sh", "-c", '"$@"; exit $?', "sh"]
    return nice
