"""The examples of two how-to pages are run as they stand: as test modules, by pytest, and as programs."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import hsframework.hookspecs
from hsframework.interface import EstablishedSession, PeerIdentity, Role
from hsframework.registry.plugins import PluginRegistry

ROOT = Path(__file__).parents[3]
HOWTO = ROOT / "docs/howto"
_BLOCK = re.compile(r"^<!-- (pytest|run): ([\w-]+) -->\n```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = [
    pytest.param(kind, code, id=f"{page}-{name}")
    for page in ("test-a-plugin", "hooks")
    for kind, name, code in _BLOCK.findall((HOWTO / f"{page}.md").read_text("utf-8"))
]


@pytest.mark.parametrize(("kind", "code"), EXAMPLES)
def test_example(kind: str, code: str, tmp_path: Path) -> None:
    """It does what the page says, with what is installed, in a process of its own."""
    module = tmp_path / "test_example.py"
    module.write_text(code)
    words = ["-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"] if kind == "pytest" else ["-W", "error"]
    ended = subprocess.run(
        [sys.executable, *words, module.name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "examples/hooks"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert kind == "run" or "passed" in ended.stdout


def test_there_are_examples() -> None:
    """The pattern finds them."""
    assert len(EXAMPLES) >= 6


HOOKS = [name for name in vars(hsframework.hookspecs) if name.startswith("hsframework_")]


@pytest.mark.parametrize("page", ["reference/hooks.md", "howto/hooks.md"])
@pytest.mark.parametrize("hook", [name for name in HOOKS if name != "hsframework_protocols"])
def test_every_hook_is_documented(hook: str, page: str) -> None:
    """In the reference and with an example."""
    assert hook in (ROOT / "docs" / page).read_text("utf-8")


def test_the_stream_of_the_example() -> None:
    """The page's plugin attaches to its own sessions in the kernel, and to no other."""
    (code,) = (code for kind, name, code in _BLOCK.findall((HOWTO / "hooks.md").read_text("utf-8")) if name == "attach")
    plugin = ModuleType("attach")
    exec(compile(code, "<example>", "exec"), vars(plugin))
    registry = PluginRegistry()
    assert registry.register(plugin, "attach").error is None
    near, far = socket.socketpair()
    with near, far:
        facts: dict[str, Any] = {"peer": PeerIdentity(), "alpn": None, "parameters": {}, "tags": {}}
        for protocol, in_kernel, attached in (("mine", True, True), ("mine", False, False), ("tls13", True, False)):
            session = EstablishedSession(protocol=protocol, role=Role.CLIENT, in_kernel=in_kernel, **facts)
            stream = registry.hook.hsframework_attach_session(session=session, socket=near, asynchronous=False)
            assert (stream is not None) == attached
            if stream is not None:
                stream.send(b"hello")
                assert far.recv(10) == b"hello"
