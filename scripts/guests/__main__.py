"""The command of ``make guests``: makes the disk images of the system tier, unless cached, and links build/guests.

    python3 -m scripts.guests [SUITE ...]

Each release has a root (debootstrap; about a minute, once) and an image of it with the test kernel's modules (seconds).
The kernel is ``make kernel``'s, and must be there.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor

from scripts.guests import image
from scripts.guests.releases import RELEASES, Release
from scripts.kernel import rootfs
from scripts.kernel.__main__ import SERIES
from scripts.kernel.debian import Unable
from scripts.kernel.places import CHECKOUT, kernel_entry, link

LINKS = CHECKOUT / "build" / "guests"


def make(release: Release) -> str:
    """Make a release's root and image, link them, and return a line that says how.  Raises Unable."""
    kernel = kernel_entry(SERIES)
    if not kernel.complete:
        raise Unable("The test kernel is not built; `make kernel` builds it.")
    root = release.root
    rootfs.make(root, release.suite, release.packages)
    entry = image.image_entry(release, kernel)
    with entry.locked():
        if not entry.complete:
            image.build(release, kernel, entry)
    link(f"{release.suite}/root", root.path / "tree", LINKS)
    link(f"{release.suite}/root.img", entry.path / "root.img", LINKS)
    return f"{release.suite}: root made in {root.facts['seconds']} s, image in {entry.facts['seconds']} s"


def main(arguments: list[str]) -> int:
    """Run the command, and return its exit status."""
    wanted = [release for release in RELEASES if not arguments or release.suite in arguments]
    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for line in pool.map(make, wanted):
                print(line)
    except Unable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
