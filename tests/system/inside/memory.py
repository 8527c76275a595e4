"""Memory of all processes of units, in the guest: ``memory.py UNIT...``.

The last line is JSON: ``{"pss": KIB, "private": KIB, "processes": N}``, summed over the units' control groups.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def main() -> None:
    pss = private = processes = 0
    for unit in sys.argv[1:]:
        command = ["systemctl", "show", "--value", "--property", "ControlGroup", unit]
        group = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        for listed in Path(f"/sys/fs/cgroup{group}").rglob("cgroup.procs"):
            for pid in listed.read_text().split():
                processes += 1
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
                    name, value = line.split()[:2]
                    pss += int(value) if name == "Pss:" else 0
                    private += int(value) if name in ("Private_Clean:", "Private_Dirty:") else 0
    print(json.dumps({"pss": pss, "private": private, "processes": processes}))


if __name__ == "__main__":
    main()
