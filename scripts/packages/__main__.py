"""The command of ``make deb``: builds the Debian packages.

    python -m scripts.packages [RELEASE ...]

Environment: DEB_ARCHITECTURE (this machine's), DEB_REVISION (1), DEB_MAINTAINER, DEB_OUTPUT (dist/debian).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from scripts.packages import debian, environment
from scripts.packages.targets import RELEASES, Release

LAST_COMMIT = ("git", "-C", str(environment.ROOT), "log", "-1", "--format=%ct")
"""Command that prints the time of the last commit, which the packages' files have."""


def main(names: list[str]) -> int:
    """Build the packages of each release that is named, or of all; return the exit status."""
    if unknown := set(names) - RELEASES.keys():
        print(f"no release is named {', '.join(sorted(unknown))}; known are {', '.join(RELEASES)}", file=sys.stderr)
        return 2
    revision = os.environ.get("DEB_REVISION", "1")
    output = Path(os.environ.get("DEB_OUTPUT", str(environment.ROOT / "dist" / "debian")))
    with tempfile.TemporaryDirectory(prefix="hsframework-deb-") as folder:
        wheels = environment.build_wheels(Path(folder))
        for name in names or RELEASES:
            for path in build(RELEASES[name], wheels, output / name, Path(folder) / name, revision):
                print(path)
    return 0


def build(release: Release, wheels: list[Path], output: Path, work: Path, revision: str = "1") -> list[Path]:
    """Build the packages of one release from our wheels; return their paths."""
    settings = debian.Build(
        release=release,
        architecture=os.environ.get("DEB_ARCHITECTURE") or _say("dpkg", "--print-architecture"),
        revision=revision,
        maintainer=os.environ.get("DEB_MAINTAINER", "The hsframework authors <hsframework@example.org>"),
        date=int(os.environ.get("SOURCE_DATE_EPOCH") or _say(*LAST_COMMIT)),
    )
    output.mkdir(parents=True, exist_ok=True)
    distributions = environment.unpack(wheels, work / "unpacked", release, settings.architecture)
    paths = []
    for name in (environment.CORE, *environment.PLUGINS):
        package = debian.Package(name, work / name)
        fill = debian.fill_core if name == environment.CORE else debian.fill_plugin
        fill(package, distributions, settings)
        paths.append(debian.finish(package, distributions, settings, output))
    return paths


def _say(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
