"""Run one target under atheris, from its corpus: ``python -m tests.fuzz.guided NAME [--seconds N] [--keep]``.

Exit status 0: no fault was found.  Otherwise the traceback is on stderr, and the input, in hexadecimal, on stdout.
``--keep``: add to the corpus what reached code that nothing in it reached.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.guided.corpus import add_to_corpus, read_corpus

OURS = ["hsframework", "hsframework_tls13", "hsframework_quic", "hsframework_psp"]
"""Packages whose coverage guides the fuzzer."""
LONGEST = 4096
"""Bytes of an input."""
MOST_KEPT = 512
"""Bytes of an input that is kept."""
SLOWEST = 20
"""Seconds in which an input must be done."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments, rest = parser.parse_known_args()
    if arguments.inside:
        _fuzz(arguments.name, rest)
    with tempfile.TemporaryDirectory(prefix="hsframework-fuzz-") as folder:
        return _run(arguments, Path(folder))


def _run(arguments: argparse.Namespace, folder: Path) -> int:
    known, found = folder / "known", folder / "found"
    known.mkdir()
    found.mkdir()
    for number, each in enumerate(read_corpus(arguments.name)):
        (known / f"{number:04}").write_bytes(each)
    options = [f"-max_total_time={arguments.seconds}", f"-max_len={LONGEST}", f"-timeout={SLOWEST}", "-verbosity=0"]
    command = [sys.executable, "-m", __package__, arguments.name, "--inside", *options]
    status = subprocess.run([*command, f"-artifact_prefix={folder}/fault-", str(found), str(known)], check=False)
    for fault in sorted(folder.glob("fault-*")):
        print(f"{fault.name.split('-')[1]}: {fault.read_bytes().hex()}")
    if not status.returncode and arguments.keep:
        inputs = [path.read_bytes() for path in found.iterdir() if path.stat().st_size <= MOST_KEPT]
        print("added:", add_to_corpus(arguments.name, inputs))
    return status.returncode


def _fuzz(name: str, options: list[str]) -> None:
    """Run libFuzzer in this process, which ends with it."""
    # Not by the statement: it has no types, and not every machine has it.
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=OURS):
        from tests.fuzz.guided.targets import TARGETS
    atheris.Setup([sys.argv[0], *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
