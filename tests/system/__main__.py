"""A guest to look around in: ``python -m tests.system NAME``, where NAME is a Debian release or a guest of the tests.

Each line is run in the guest by bash; ``reboot`` alone reboots it, and the end of the input ends it.
"""

from __future__ import annotations

import sys

from tests.system.guest import Guest
from tests.system.prepared import PREPARATIONS


def main(name: str) -> int:
    """Boot, and run lines of the standard input until it ends."""
    preparation = PREPARATIONS.get(name)
    with preparation.make(name) if preparation else Guest(name) as guest:
        print(f"{guest.name} runs; files in {guest.shared} are in /run/host", flush=True)
        for line in sys.stdin:
            if line.strip() == "reboot":
                guest.reboot()
                continue
            done = guest.ask(["bash", "-c", line], 600)
            print(done.output, end="" if done.code == 0 else f"[{done.code}]\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]) if len(sys.argv) == 2 else __doc__)
