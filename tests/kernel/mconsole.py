"""User-Mode Linux's management console: a datagram socket that answers while the kernel's processes hang.

Requests and answers are ``arch/um/drivers/mconsole.h``'s structures.
"""

from __future__ import annotations

import socket
import struct
import tempfile
from pathlib import Path

_MAGIC = 0xCAFEBABE
_VERSION = 2
_SIZE = 512


def ask(path: Path, request: str, timeout: float = 5.0) -> str:
    """Return the kernel's answer to a command such as ``sysrq t``, or the reason why there is none."""
    text = request.encode()
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        sock.bind(f"{folder}/answer")
        parts: list[str] = []
        try:
            sock.connect(str(path))
            sock.send(struct.pack(f"=III{_SIZE}s", _MAGIC, _VERSION, len(text), text))
            more = 1
            while more:
                packet = sock.recv(_SIZE + 64)
                _, more, length = struct.unpack_from("=iii", packet)
                parts.append(packet[12 : 12 + length].decode(errors="replace"))
        except OSError as error:
            parts.append(f"(no answer from {path.name} to {request!r}: {error})\n")
        return "".join(parts)
