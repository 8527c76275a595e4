"""Disturbances of the service, again and again while a program runs, in the guest::

    disturb.py "DISTURBANCE;DISTURBANCE..." PROGRAM ARGUMENT...

A disturbance is a shell command.  After each, the next one waits until both units are active again.  The program's
output is ours, and the last line is its own with ``"disturbed"``, the number of disturbances, added.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

UNITS = ("hsframework.service", "hsframework-agent@tls13.service")


def active() -> bool:
    """Return True if both units are active.  The exit code of ``is-active`` is 0 if one of them is."""
    done = subprocess.run(["systemctl", "is-active", *UNITS], capture_output=True, text=True, check=False)
    return done.stdout.split() == ["active"] * len(UNITS)


def main() -> None:
    disturbances = sys.argv[1].split(";")
    command = [sys.executable, "-B", str(Path(__file__).with_name(f"{sys.argv[2]}.py")), *sys.argv[3:]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        disturbed = 0
        while running.poll() is None:
            subprocess.run(disturbances[disturbed % len(disturbances)], shell=True, check=True)
            disturbed += 1
            while not active() and running.poll() is None:
                pass  # each look is a program of its own, and takes its time
        output, _ = running.communicate()
    if running.returncode:
        sys.exit(running.returncode)
    print(json.dumps({**json.loads(output.splitlines()[-1]), "disturbed": disturbed}))


if __name__ == "__main__":
    main()
