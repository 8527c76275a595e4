"""Writes to a hard mount whose connection is broken, in the guest: ``writes.py COUNT``.

Every fifth write is preceded by the end of all connections to the server (``ss --kill``), so that a new handshake has
to be made before the write can end.  Each is announced by a line with its number.  The last line is JSON:
``{"failed": [[number, text]...], "broken": N}``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path("/mnt/writes")
EACH = 5


def connections() -> str:
    """Return the established connections to the server, one a line."""
    command = ["ss", "--no-header", "--tcp", "state", "established", "dport", "=", ":2049"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main() -> None:
    count = int(sys.argv[1])
    FOLDER.mkdir(exist_ok=True)
    mount = ["mount", "-t", "nfs4", "-o", "hard,xprtsec=mtls", "server.example:/export", str(FOLDER)]
    subprocess.run(mount, check=True)
    failed: list[tuple[int, str]] = []
    broken = 0
    for number in range(count):
        print(number, flush=True)
        if number % EACH == 0 and connections():
            subprocess.run(["ss", "--kill", "--tcp", "dport", "=", ":2049"], capture_output=True, check=True)
            broken += 1
        content = os.urandom(8192)
        try:
            with open(FOLDER / f"write-{number}", "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if Path(f"/export/write-{number}").read_bytes() != content:
                failed.append((number, "what was written is not on the server"))
            os.unlink(FOLDER / f"write-{number}")
        except OSError as error:
            failed.append((number, str(error)))
    subprocess.run(["umount", str(FOLDER)], check=True)
    print(json.dumps({"failed": failed, "broken": broken}))


if __name__ == "__main__":
    main()
