"""Disturbances of the service, again and again while a program runs, in the guest::

    disturb.py "DISTURBANCE;DISTURBANCE..." PROGRAM ARGUMENT...

A disturbance is a shell command.  After each, the next one waits until both units are active again, and until the
program has announced its next step by a line: each step is disturbed, and a machine on which a restart takes longer
than the kernel waits for a handshake makes progress nevertheless.  The last line is the program's own with
``"disturbed"``, the number of disturbances, added.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import TextIO

UNITS = ("hsframework.service", "hsframework-agent@tls13.service")


def active() -> bool:
    """Return True if both units are active.  The exit code of ``is-active`` is 0 if one of them is."""
    done = subprocess.run(["systemctl", "is-active", *UNITS], capture_output=True, text=True, check=False)
    return done.stdout.split() == ["active"] * len(UNITS)


def read(output: TextIO, lines: list[str]) -> None:
    """Append the lines of a program's output as they come."""
    for line in output:
        lines.append(line)


def main() -> None:
    disturbances = sys.argv[1].split(";")
    command = [sys.executable, "-B", str(Path(__file__).with_name(f"{sys.argv[2]}.py")), *sys.argv[3:]]
    lines: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        reader = threading.Thread(target=read, args=[running.stdout, lines])
        reader.start()
        disturbed = 0
        while reader.is_alive():
            said = len(lines)
            subprocess.run(disturbances[disturbed % len(disturbances)], shell=True, check=True)
            disturbed += 1
            while reader.is_alive() and not (active() and len(lines) > said):
                pass  # each look is a program of its own, and takes its time
    if running.returncode:
        sys.exit(running.returncode)
    print(json.dumps({**json.loads(lines[-1]), "disturbed": disturbed}))


if __name__ == "__main__":
    main()
