"""`hsframework` in a cgroup: ``python tests/kernel/grouped.py GROUP run --config FILE``.

It enters before it uses memory of its own: memory stays with the group in which it was used first.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    (Path(sys.argv.pop(1)) / "cgroup.procs").write_text("0")
    from hsframework.cli.main import main

    sys.exit(main())
