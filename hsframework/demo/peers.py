"""The peers of the demonstration: OpenSSL's own programs (for PSP our own commands), with pipes for their data.

``-quiet`` makes both carry plain data: no banner, and no letter of the input is a command.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from hsframework.demo.processes import DemoError
from hsframework.interface import PresharedKey

CONNECT_TIMEOUT = 10.0
_POLL = 0.02
OUR_SERVER, OUR_CLIENT = "listen", "connect"
"""Commands of our own, as the peers where there are no others."""
_CIPHERS = {"sha256": ("TLS_AES_128_GCM_SHA256", 0x1301), "sha384": ("TLS_AES_256_GCM_SHA384", 0x1302)}


class Peer:
    """A running program."""

    def __init__(self, process: asyncio.subprocess.Process, program: str, errors: Path) -> None:
        self.process = process
        self.program = program
        self._errors = errors

    @property
    def pid(self) -> int:
        return self.process.pid

    async def receive(self, size: int) -> bytes:
        """So many bytes of what it got over the connection.  Raises DemoError if it ended before."""
        assert self.process.stdout is not None
        try:
            return await self.process.stdout.readexactly(size)
        except asyncio.IncompleteReadError as error:
            raise DemoError(f"{self.program} ended after {len(error.partial)} of {size} bytes: {self.said()}") from None

    async def send(self, data: bytes) -> None:
        """Let it send ``data`` over the connection."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        await self.process.stdin.drain()

    async def end(self) -> None:
        """End it, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        # Reads what is left and closes the pipes.
        await self.process.communicate()

    def said(self) -> str:
        """The last line of its own messages."""
        lines = self._errors.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def openssl_program() -> str:
    """Raises DemoError when it is not installed."""
    path = shutil.which("openssl")
    if path is None:
        raise DemoError("the program 'openssl' is not installed; install the package openssl")
    return path


async def start_peer(program: str, address: str, words: Sequence[str], folder: Path) -> Peer:
    """``openssl PROGRAM`` at ``address`` (``host:port``), TLS 1.3 alone, or ``hsframework PROGRAM``."""
    errors = folder / f"{program}-{address.rsplit(':', 1)[1]}.log"
    with errors.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *_command(program, address),
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    return Peer(process, program, errors)


def _command(program: str, address: str) -> list[str]:
    host, _, port = address.rpartition(":")
    if program == OUR_SERVER:
        return [sys.executable, "-m", "hsframework", program, "--once", host, port]
    if program == OUR_CLIENT:
        return [sys.executable, "-m", "hsframework", program, host, port]
    place = "-accept" if program == "s_server" else "-connect"
    return [openssl_program(), program, place, address, "-tls1_3", "-quiet"]


async def connect(address: tuple[str, int], peer: Peer) -> socket.socket:
    """A connection to a server that is just starting.  Raises DemoError."""
    loop = asyncio.get_running_loop()
    end = loop.time() + CONNECT_TIMEOUT
    while True:
        sock = socket.socket()
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, address)
            return sock
        except OSError as error:
            sock.close()
            if peer.process.returncode is not None or loop.time() > end:
                raise DemoError(f"{peer.program} does not answer ({error.strerror}): {peer.said()}") from None
        await asyncio.sleep(_POLL)


def free_port() -> int:
    """A TCP port of the loopback interface that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def psk_words(key: PresharedKey, folder: Path) -> list[str]:
    """Options that make OpenSSL use an external PSK with its hash.

    ``-psk`` knows SHA-256 alone, so the key is written as a session: SSL_SESSION_ASN1 in OpenSSL's ssl/ssl_asn1.c.
    """
    name, number = _CIPHERS[key.hash]
    session = _der(
        0x30,
        b"".join(
            (
                _der(0x02, b"\x01"),
                _der(0x02, b"\x03\x04"),
                _der(0x04, number.to_bytes(2, "big")),
                _der(0x04, b""),
                _der(0x04, key.key.reveal()),
            )
        ),
    )
    text = base64.encodebytes(session).decode()
    path = folder / f"psk-{key.identity.hex()}.pem"
    path.touch(mode=0o600)
    path.write_text(f"-----BEGIN SSL SESSION PARAMETERS-----\n{text}-----END SSL SESSION PARAMETERS-----\n")
    return ["-psk_identity", key.identity.decode(), "-psk_session", str(path), "-ciphersuites", name]


def _der(tag: int, content: bytes) -> bytes:
    """One ASN.1 item of at most 127 bytes."""
    assert len(content) < 128
    return bytes((tag, len(content))) + content
