"""Places of a stream on the command line: ``HOST:PORT``, ``[HOST]:PORT``, ``PORT``, or ``unix:PATH``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import os
import socket
import stat
from dataclasses import dataclass

from hsframework.cli.options.address import connect_tcp, listen_tcp, port_number
from hsframework.errors import HsframeworkError


@dataclass(frozen=True, slots=True)
class Place:
    """A TCP address, or the path of a unix socket."""

    host: str
    port: int
    path: str | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    async def connect(self, timeout: float) -> socket.socket:
        """Return a non-blocking socket connected to the place; ``timeout`` in seconds.  Raises HsframeworkError."""
        if self.path is None:
            return await connect_tcp(self.host, self.port, timeout)
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        try:
            async with asyncio.timeout(timeout):
                await asyncio.get_running_loop().sock_connect(sock, self.path)
            return sock
        except OSError as error:
            sock.close()
            raise _cannot(f"connect to {self}", error) from None
        except BaseException:
            sock.close()
            raise

    def listen(self) -> socket.socket:
        """Return a socket that listens at the place.  Raises HsframeworkError."""
        if self.path is None:
            return listen_tcp(self.host, self.port)
        sock = socket.socket(socket.AF_UNIX)
        try:
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISSOCK(os.stat(self.path).st_mode) and not _answers(self.path):
                    os.unlink(self.path)
            sock.bind(self.path)
            sock.listen(128)
        except OSError as error:
            sock.close()
            raise _cannot(f"listen on {self}", error) from None
        return sock


def place(text: str) -> Place:
    """Parse a place.  Raises argparse.ArgumentTypeError."""
    if text.startswith("unix:"):
        if len(text) == 5:
            raise argparse.ArgumentTypeError("unix: is followed by the path of a socket")
        return Place("", 0, text[5:])
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise argparse.ArgumentTypeError(f"{text!r}: put an IPv6 address in brackets, [::1]:443")
    return Place(host or "127.0.0.1", port_number(port))


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
        return True


def _cannot(what: str, error: OSError) -> HsframeworkError:
    reason = os.strerror(error.errno) if error.errno else str(error) or "no answer in time"
    return HsframeworkError(f"cannot {what}: {reason}", errno=error.errno or errno.ETIMEDOUT)
