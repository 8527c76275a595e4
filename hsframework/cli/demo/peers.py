"""The peers of the demonstration for TLS: OpenSSL's own programs, with pipes for their data.

``-quiet`` switches off the banner and the commands within the input.
"""

from __future__ import annotations

import asyncio
import base64
import shutil
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from hsframework.cli.demo.meeting import PATIENCE, Meeting, Peer, start_program
from hsframework.cli.demo.processes import DemoError
from hsframework.interface import PresharedKey, Role

CONNECT_TIMEOUT = 10.0
_POLL = 0.02
_CIPHERS = {"sha256": ("TLS_AES_128_GCM_SHA256", 0x1301), "sha384": ("TLS_AES_256_GCM_SHA384", 0x1302)}


class OpensslPeers:
    """``openssl s_server`` and ``openssl s_client``.  Implements :class:`.meeting.Peers`."""

    name = "openssl"
    protocol = "tls13"
    transport = "TCP connection"
    handshake = "TLS 1.3 handshake"

    def program(self, role: Role) -> str:
        return "s_server" if role is Role.CLIENT else "s_client"

    async def meet(self, role: Role, words: Sequence[str], folder: Path, stack: AsyncExitStack) -> Meeting:
        return await meet_over_tcp(
            role, lambda port: start_peer(self.program(role), f"127.0.0.1:{port}", words, folder), stack
        )


async def meet_over_tcp(role: Role, start: Callable[[int], Awaitable[Peer]], stack: AsyncExitStack) -> Meeting:
    """Connect to a peer over TCP, or let it connect to us.  Raises DemoError.

    ``role``: ours.  ``start``: starts the peer, which listens at the given port or connects to it.
    """
    if role is Role.CLIENT:
        port = free_port()
        peer = await start(port)
        stack.push_async_callback(peer.end)
        sock = stack.enter_context(await connect(("127.0.0.1", port), peer))
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            peer = await start(listener.getsockname()[1])
            stack.push_async_callback(peer.end)
            async with asyncio.timeout(PATIENCE):
                sock, _ = await asyncio.get_running_loop().sock_accept(listener)
        stack.enter_context(sock)
    return Meeting(sock, peer, lambda client, options: client.handshake(sock, options))


def openssl_program() -> str:
    """Return the path of the program ``openssl``.  Raises DemoError if it is not installed."""
    path = shutil.which("openssl")
    if path is None:
        raise DemoError("the program 'openssl' is not installed; install the package openssl")
    return path


async def start_peer(program: str, address: str, words: Sequence[str], folder: Path) -> Peer:
    """Start ``openssl PROGRAM`` for ``address`` (``host:port``), with TLS 1.3 only."""
    place = "-accept" if program == "s_server" else "-connect"
    errors = folder / f"{program}-{address.rsplit(':', 1)[1]}.log"
    command = [openssl_program(), program, place, address, "-tls1_3", "-quiet", *words]
    return await start_program(program, command, errors)


async def connect(address: tuple[str, int], peer: Peer) -> socket.socket:
    """Connect to a server that is just starting, with retries.  Raises DemoError."""
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
    """Return a TCP port of the loopback interface that is not in use."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def psk_words(key: PresharedKey, folder: Path) -> list[str]:
    """Return the options by which OpenSSL uses an external PSK with its hash.

    ``-psk`` takes SHA-256 only, so the key is written as a session: SSL_SESSION_ASN1 in OpenSSL's ssl/ssl_asn1.c.
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
    """Encode one ASN.1 item of at most 127 bytes."""
    assert len(content) < 128
    return bytes((tag, len(content))) + content
