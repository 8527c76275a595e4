"""The program in a guest that runs what the tests ask for; the guest's own Python, its standard library alone.

Usage: ``python3 guest-agent.py /dev/ttyS0``.  Requests and answers are JSON, one object a line, on that serial line:

* ``{"boot": ID}`` is sent at start: the agent is there, in this boot of the guest.
* ``{"id": N, "command": [...], "timeout": SECONDS}`` runs a program; the answer is ``{"id": N, "code": EXIT, "output":
  TEXT}``.  Requests run side by side.  A program that takes longer than its time is killed, and its code is null.

The host's directory for this guest is mounted at /run/host.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import tty
from typing import Any

HOST = "/run/host"
LIMIT = 4 << 20
"""Bytes of output that are returned, of the end of a longer one."""
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "SYSTEMD_PAGER": "cat",
    "DEBIAN_FRONTEND": "noninteractive",
}
_sending = threading.Lock()


def _send(line: int, answer: dict[str, Any]) -> None:
    data = json.dumps(answer).encode() + b"\n"
    with _sending:
        while data:
            data = data[os.write(line, data) :]


def _run(command: list[str], timeout: float) -> tuple[int | None, str]:
    """Return the exit code, None if it was killed, and the output."""
    with tempfile.TemporaryFile() as output:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/root",
                env=ENVIRONMENT,
                start_new_session=True,
            )
        except OSError as error:
            return 127, str(error)
        code: int | None
        try:
            code = child.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            code = None
        size = output.seek(0, os.SEEK_END)
        output.seek(max(0, size - LIMIT))
        return code, output.read().decode(errors="replace")


def _serve(line: int, request: dict[str, Any]) -> None:
    code, output = _run(request["command"], request["timeout"])
    _send(line, {"id": request["id"], "code": code, "output": output})


def main() -> None:
    """Serve the line for ever."""
    os.makedirs(HOST, exist_ok=True)
    if not os.path.ismount(HOST):
        subprocess.run(["mount", "-t", "hostfs", "none", HOST], check=True)
    line = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
    tty.setraw(line)
    with open("/proc/sys/kernel/random/boot_id") as boot:
        _send(line, {"boot": boot.read().strip()})
    with os.fdopen(os.dup(line), "rb") as requests:
        for request in requests:
            threading.Thread(target=_serve, args=(line, json.loads(request)), daemon=True).start()


if __name__ == "__main__":
    main()
