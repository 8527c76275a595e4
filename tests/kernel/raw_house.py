"""For tests of the raw form through our own processes: a configuration, toys beside TLS, pairs of sockets."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.support.running import Running

QUIC, PSP = "toyquic", "toypsp"
RAW = f"[kernel.raw]\nenabled = true\nprotocols = {{tlshd = 1, {QUIC} = 2, {PSP} = 3, further = 4}}\n"
"""With the toys in place of the two plugins."""
SOURCE = "kernel-raw"
TOY = Path(__file__).with_name("toy_plugin.py").read_text()
Pair = tuple[socket.socket, socket.socket]


def await_joined(process: Running, group: str = "tlshd", source: str = SOURCE, since: int = 0) -> None:
    """Wait until requests of the group are taken."""
    process.log.wait("joined the kernel's group", group=group, source=source, since=since)
