"""Mounts in a row, in the guest: ``mounts.py COUNT SECURITY``.

Each mount makes a connection of its own and so a handshake, since no other mount of that server is there.

Each is announced by a line with its number.  The last line is JSON: ``{"failed": [[number, text]...], "seconds":
[...]}``.  Nothing is tried twice (``retry=0``).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path("/mnt/row")


def main() -> None:
    count, security = int(sys.argv[1]), sys.argv[2]
    FOLDER.mkdir(exist_ok=True)
    failed: list[tuple[int, str]] = []
    seconds: list[float] = []
    options = f"retry=0,xprtsec={security}"
    for number in range(count):
        print(number, flush=True)
        start = time.monotonic()
        command = ["mount", "-t", "nfs4", "-o", options, "server.example:/export", str(FOLDER)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds.append(round(time.monotonic() - start, 4))
        if done.returncode:
            failed.append((number, done.stderr.strip()))
            continue
        try:
            (FOLDER / "number").write_text(str(number))
            if Path("/export/number").read_text() != str(number):
                failed.append((number, "what was written is not on the server"))
        except OSError as error:
            failed.append((number, str(error)))
        subprocess.run(["umount", str(FOLDER)], check=True)
    print(json.dumps({"failed": failed, "seconds": seconds}))


if __name__ == "__main__":
    main()
