"""The probe of the kernel's TLS, in an agent that may not read its interpreter's folder."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SERVICE = [
    path
    for folder in ("agent", "dispatcher", "local", "process", "supervisor", "telemetry", "tls")
    for path in sorted((ROOT / "hsframework" / folder).rglob("*.py"))
] + sorted((ROOT / "plugins").glob("*/hsframework_*/*.py"))


@pytest.mark.parametrize("cut", ["sys.modules['encodings.idna'] = None", "pass"])
def test_no_codec_is_looked_up(cut: str) -> None:
    """The probe has an answer where Python's codec for names cannot be imported, and the same one where it can."""
    program = f"import sys; {cut}; from hsframework.tls.kernel import supported_ciphers; print(supported_ciphers())"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert re.match(r"Yes|No|NotSeen", finished.stdout)


def test_the_service_connects_without_looking_up_names() -> None:
    """No process of the service calls what imports that codec: create_connection and getaddrinfo."""
    calls = re.compile(r"socket\.create_connection\(|\.getaddrinfo\(")
    assert [str(path) for path in SERVICE if calls.search(path.read_text())] == []
