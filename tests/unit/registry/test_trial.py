"""Plugins are tried in a process of their own before an agent imports them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from hsframework.registry.installed import plugin_names
from tests.support.running import ROOT, install_plugin

PLUGINS = {
    "good": "def hsframework_protocols():\n    return ()",
    "hookless": "",
    "raises": "raise RuntimeError('not today')",
    "leaves": "import sys; sys.exit(3)",
    "exits": "import os; os._exit(3)",
    "ends": "import os; os._exit(0)",
    "crashes": "import os; os.abort()",
    "hangs": "import threading\nthreading.Event().wait()",
    "hangslater": "import threading\ndef hsframework_protocols():\n    threading.Event().wait()",
    "talks": "print('hello', flush=True)",
}
SCRIPT = """
import json, signal, sys
from hsframework.registry.trial import unfit_plugins
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever starts a program may have left it so
print(json.dumps(unfit_plugins(sys.argv[1:], timeout=2.0)))
"""


def trial(folder: Path, *exempt: str) -> dict[str, str]:
    """Return the findings of :func:`hsframework.registry.trial.unfit_plugins` for these plugins.

    The plugins of the environment, which may be slow, are exempt.
    """
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT, *exempt, *plugin_names()],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")))},
        capture_output=True,
        check=True,
    )
    problems: dict[str, str] = json.loads(found.stdout)
    return problems


def test_unfit_plugins(tmp_path: Path) -> None:
    """Those that end or hold up the process are named with the reason; those that only raise are not, nor is output."""
    for name, source in PLUGINS.items():
        install_plugin(tmp_path, name, source)
    hanging = "its import does not end within 2 seconds"
    assert trial(tmp_path) == {
        "exits": "its import ends the process (exit status 3)",
        "ends": "its import ends the process (exit status 0)",
        "crashes": "its import ends the process (SIGABRT)",
        "hangs": hanging,
        "hangslater": hanging,
    }


def test_exempt(tmp_path: Path) -> None:
    """A plugin that is exempt is not tried."""
    install_plugin(tmp_path, "exits", PLUGINS["exits"])
    assert trial(tmp_path, "exits") == {}
