"""The suite may run in the background (tests/conftest.py)."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

STARTS_A_PROGRAM = """
import subprocess, sys
def test_it():
    program = "import signal; print(*(int(signal.getsignal(n) is signal.SIG_IGN) for n in (2, 3)))"
    assert subprocess.check_output([sys.executable, "-c", program]) == b"0 0\\n"
"""


def test_programs_are_interruptible_in_the_background(tmp_path: Path) -> None:
    """The suite inherits ignored signals and has no terminal; the programs that it starts have the default."""
    shutil.copy(Path(__file__).parents[1] / "conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(STARTS_A_PROGRAM)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    assert (int(signal.SIGINT), int(signal.SIGQUIT)) == (2, 3)
    finished = subprocess.run(
        ["sh", "-c", 'trap "" INT QUIT; exec "$@"', "sh", sys.executable, "-m", "pytest", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout
