"""Shim for BoGo, the TLS suite of BoringSSL: one process that plays client and server with this project's own code.

    python -m benchmarks.bogo_shim serve /tmp/bogo.socket &             # resident; prints "ready"
    python -m benchmarks.bogo_shim launcher /tmp/bogo.socket shim       # writes the program that the suite starts
    cd boringssl/ssl/test/runner && go test -shim-path $PWD/shim -loose-errors -allow-unimplemented

The suite starts a program for each test; the launcher hands its arguments to the resident process and ends with the
status that comes back, so that a test costs no start of an interpreter.  A handshake is that of the plugin
(:mod:`hsframework_tls13.driver`), the session that of a consumer in user space.

Status 89 means "not implemented", and the suite leaves the test out: any flag that is not in :data:`IGNORED` or known
to :class:`Flags`, and a peer that offers TLS 1.2 at most.  Every certificate is believed, as the suite expects.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hsframework.agent.endpoint import StreamEndpoint
from hsframework.agent.readiness import Readiness
from hsframework.credentials.identities import load_identity
from hsframework.errors import HsframeworkError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import (
    AuthMode,
    CertificateDemand,
    EstablishedSession,
    Identity,
    PeerIdentity,
    Request,
    Role,
)
from hsframework.tls.signatures import SCHEMES
from hsframework_tls13 import driver
from hsframework_tls13.contexts import Contexts
from hsframework_tls13.keyschedule import export_keying_material
from hsframework_tls13.policy import Offer
from hsframework_tls13.session import channel_for, to_parameters
from hsframework_tls13.settings import KNOWN_GROUPS, Settings
from hsframework_tls13.streams import AsyncTlsStream

UNIMPLEMENTED = 89
TLS_1_3 = 0x0304
PATIENCE = 30.0
"""Seconds for one test."""
CHUNK = 512
"""Bytes that the shim reads at a time, as BoringSSL's."""
GROUP_NAMES = {code: name for name, code in KNOWN_GROUPS.items()}
VERSION_ALERT = 70
V2_HELLO = re.compile("no TLS record starts with 80..01")

IGNORED = frozenset(
    "-async -implicit-handshake -no-tls12 -no-tls11 -no-tls1 -no-ticket -handshake-twice -no-op-extra-handshake "
    "-use-early-callback -install-ddos-callback -use-old-client-cert-callback "
    "-verify-peer -enable-grease -permute-extensions -peek-then-read -ipv6"
    "-no-legacy-server-connect -use-exporter-between-reads -expect-no-session -expect-session-miss".split()
)
"""Flags that ask for nothing that shows on the wire here."""
IGNORED_WITH_VALUE = frozenset(
    "-trust-cert -expect-msg-callback -expect-total-renegotiations -expect-peer-signature-algorithm "
    "-expect-curve-id".split()
)


class Unimplemented(Exception):
    """A test that asks for something that is not there."""


@dataclass(slots=True)
class Flags:
    """The arguments of one test."""

    port: int = 0
    ipv6: bool = False
    shim_id: int = 0
    server: bool = False
    host_name: str | None = None
    alpn: tuple[str, ...] = ()
    identities: list[tuple[str, str]] = field(default_factory=list)
    require_certificate: bool = False
    ask_for_certificate: bool = False
    verify_fail: bool = False
    groups: list[str] = field(default_factory=list)
    verifies: list[int] = field(default_factory=list)
    signs: list[int] = field(default_factory=list)
    custom_verify: bool = False
    expect: dict[str, str] = field(default_factory=dict)
    writes_first: bytes | None = None
    shuts_down: bool = False
    check_close_notify: bool = False
    send_alert: bool = False
    key_update: bool = False
    different_sizes: bool = False
    export: tuple[int, bytes, bytes] | None = None
    read_size: int = CHUNK


def parse_flags(arguments: Sequence[str]) -> Flags:
    """Return the flags of a test.  Raises Unimplemented."""
    flags, words = Flags(), iter(arguments)
    exporting: dict[str, str] = {}
    certificate = ""
    for word in words:
        value = ""

        def take() -> str:
            return next(words)

        match word:
            case "-port":
                flags.port = int(take())
            case "-shim-id":
                flags.shim_id = int(take())
            case "-ipv6":
                flags.ipv6 = True
            case "-server":
                flags.server = True
            case "-host-name":
                flags.host_name = take()
            case "-advertise-alpn":
                flags.alpn = _names(take())
            case "-select-alpn":
                flags.alpn = (take(),)
            case "-cert-file":
                certificate = take()
            case "-key-file":
                flags.identities.append((certificate, take()))
            case "-new-x509-credential":
                certificate = ""
            case "-require-any-client-certificate":
                flags.require_certificate = True
            case "-verify-peer":
                flags.ask_for_certificate = True
            case "-verify-fail":
                flags.verify_fail = True
            case "-curves":
                flags.groups.append(_group(int(take())))
            case "-verify-prefs":
                flags.verifies.append(_signature(int(take())))
            case "-signing-prefs":
                flags.signs.append(_signature(int(take())))
            case "-use-custom-verify-callback":
                flags.custom_verify = True
            case "-min-version" | "-max-version":
                value = take()
                if (int(value) < TLS_1_3) if word == "-max-version" else (int(value) > TLS_1_3):
                    raise Unimplemented(f"{word} {value}")
            case "-expect-version" | "-expect-alpn" | "-expect-server-name" | "-expect-peer-cert-file":
                flags.expect[word] = take()
            case "-expect-no-peer-cert":
                flags.expect[word] = ""
            case "-shim-writes-first":
                flags.writes_first = flags.writes_first or b"hello"
            case "-shim-initial-write":
                flags.writes_first = take().encode("latin-1")
            case "-shim-shuts-down":
                flags.shuts_down = True
            case "-check-close-notify":
                flags.check_close_notify = True
            case "-send-alert":
                flags.send_alert = True
            case "-key-update":
                flags.key_update = True
            case "-write-different-record-sizes":
                flags.different_sizes = True
            case "-read-size":
                flags.read_size = int(take())
            case "-export-keying-material" | "-export-label" | "-export-context":
                exporting[word] = take()
            case "-use-export-context":
                exporting[word] = ""
            case _ if word in IGNORED:
                pass
            case _ if word in IGNORED_WITH_VALUE:
                take()
            case _:
                raise Unimplemented(word)
    if exporting:
        context = exporting.get("-export-context", "").encode("latin-1")
        size, label = int(exporting["-export-keying-material"]), exporting.get("-export-label", "").encode("latin-1")
        flags.export = size, label, context
    return flags


def _names(wire: str) -> tuple[str, ...]:
    """Return the names of an ALPN list that is encoded as on the wire."""
    data, names = wire.encode("latin-1"), list[str]()
    while data:
        names.append(data[1 : 1 + data[0]].decode("latin-1"))
        data = data[1 + data[0] :]
    return tuple(names)


def _group(code: int) -> str:
    if code not in GROUP_NAMES:
        raise Unimplemented(f"group {code}")
    return GROUP_NAMES[code]


def _signature(code: int) -> int:
    if code not in SCHEMES:
        raise Unimplemented(f"signature scheme 0x{code:04x}")
    return code


class Shim:
    """The resident process."""

    def __init__(self) -> None:
        self._contexts: dict[tuple[str, ...], Contexts] = {}
        self._identities: dict[tuple[str, str], Identity] = {}
        self._verifying: dict[int, Any] = {}
        vars(driver)["judge_for"] = lambda request: self._verifying[request.id]

    async def run(self, arguments: Sequence[str]) -> tuple[int, str]:
        """Run one test; return status and message."""
        try:
            if "-is-handshaker-supported" in arguments:
                return 0, "No"
            flags = parse_flags(arguments)
            async with asyncio.timeout(PATIENCE):
                await self._test(flags)
        except Unimplemented as what:
            return UNIMPLEMENTED, f"not implemented: {what}"
        except HandshakeFailed as error:
            if error.failure is Failure.VERSION or error.peer_alert == VERSION_ALERT or V2_HELLO.search(error.detail):
                return UNIMPLEMENTED, str(error)
            return 1, f"{error.failure.name}: {error}"
        except (HsframeworkError, OSError, TimeoutError, ValueError) as error:
            return 1, f"{type(error).__name__}: {error}"
        return 0, ""

    async def _test(self, flags: Flags) -> None:
        loop = asyncio.get_running_loop()
        family, host = (socket.AF_INET6, "::1") if flags.ipv6 else (socket.AF_INET, "127.0.0.1")
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(sock, (host, flags.port))
            await loop.sock_sendall(sock, flags.shim_id.to_bytes(8, "little"))
            try:
                await self._talk(flags, sock)
            finally:
                await _drain(sock)

    async def _talk(self, flags: Flags, sock: socket.socket) -> None:
        request = self._request(flags)
        asked: list[bytes] = []

        def verify(chain: tuple[bytes, ...]) -> tuple[bytes, ...]:
            asked[:] = chain
            if flags.verify_fail:
                raise HandshakeFailed(
                    Failure.WRONG_KEY if flags.custom_verify else Failure.NO_COMMON_PARAMETERS, "the test says so"
                )
            return chain

        self._verifying[request.id] = verify
        contexts = self._contexts_of(flags)
        choices = contexts.choices
        # One list is both made and taken here: a server mostly makes signatures, a client takes them.
        if signatures := (flags.signs or flags.verifies) if flags.server else flags.verifies:
            choices = replace(choices, signatures=tuple(dict.fromkeys(signatures)))
        try:
            endpoint = StreamEndpoint(sock, Readiness(asyncio.get_running_loop()))
            established, flight = await driver.establish(
                request,
                endpoint,
                contexts,
                offer=Offer(contexts.settings.suites, choices),
                alpn=flags.alpn,
                client_certificate=request.client_certificate,
            )
            if flight:
                await endpoint.send(flight)
        finally:
            del self._verifying[request.id]
        check_expected(flags, established, tuple(asked))
        session = EstablishedSession(
            protocol="tls13",
            role=request.role,
            peer=PeerIdentity(),
            alpn=established.alpn,
            in_kernel=False,
            parameters=to_parameters(established),
            tags={},
        )
        await converse(flags, AsyncTlsStream(channel_for(session, sock)), established)

    def _contexts_of(self, flags: Flags) -> Contexts:
        groups = tuple(dict.fromkeys(flags.groups))
        if groups not in self._contexts:
            settings = Settings(groups=groups, key_shares=groups[:2]) if groups else Settings()
            self._contexts[groups] = Contexts(settings)
        return self._contexts[groups]

    def _request(self, flags: Flags) -> Request:
        demand = CertificateDemand.NONE
        if flags.server and (flags.require_certificate or flags.ask_for_certificate):
            demand = CertificateDemand.REQUIRE if flags.require_certificate else CertificateDemand.REQUEST
        identities = []
        for pair in flags.identities:
            if pair not in self._identities:
                self._identities[pair] = load_identity(*pair)
            identities.append(self._identities[pair])
        return Request(
            id=flags.shim_id + 1,
            group="tls13",
            role=Role.SERVER if flags.server else Role.CLIENT,
            auth_mode=AuthMode.X509 if identities else AuthMode.UNAUTHENTICATED,
            deadline=0,
            peer_name=flags.host_name,
            any_peer_name=flags.host_name is None,
            identities=tuple(identities),
            alpn=flags.alpn,
            client_certificate=demand,
        )


def check_expected(flags: Flags, established: Any, chain: tuple[bytes, ...]) -> None:
    """Check what the test expects of the handshake.  Raises ValueError, Unimplemented."""
    for word, value in flags.expect.items():
        if word == "-expect-version" and int(value) != TLS_1_3:
            raise Unimplemented(f"{word} {value}")
        if word == "-expect-alpn" and (established.alpn or "") != value:
            raise ValueError(f"ALPN is {established.alpn!r}, not {value!r}")
        if word == "-expect-no-peer-cert" and chain:
            raise ValueError("the peer has shown a certificate")
        if word == "-expect-peer-cert-file" and not chain:
            raise ValueError("the peer has shown no certificate")


async def converse(flags: Flags, stream: AsyncTlsStream, established: Any) -> None:
    """Do what BoringSSL's shim does in a session: send data back with every bit inverted."""
    if flags.export is not None:
        size, label, context = flags.export
        secret = established.exporter_secret.reveal()
        await stream.send(export_keying_material(established.suite, secret, label, context, size))
    if flags.send_alert:
        raise Unimplemented("-send-alert")
    if flags.different_sizes:
        for size in (0, 1, 255, 256, 257, 16383, 16384, 16385, 32767, 32768, 32769):
            await stream.send(b"\x42" * size)
    if flags.writes_first is not None:
        await stream.send(flags.writes_first)
    if flags.shuts_down:
        await stream.send_eof()
        if flags.check_close_notify:
            while await stream.receive():
                pass
        return
    while data := await stream.receive(flags.read_size):
        if flags.key_update:
            await stream.update_keys()
        await stream.send(bytes(byte ^ 0xFF for byte in data))
    await stream.close()


async def _drain(sock: socket.socket) -> None:
    """Let the peer read what was sent last: closing a socket with unread data would reset the connection."""
    loop = asyncio.get_running_loop()
    try:
        sock.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(1):
            while await loop.sock_recv(sock, 1 << 16):
                pass
    except (OSError, TimeoutError):
        pass


async def serve(path: str) -> None:
    """Take tests from launchers until interrupted."""
    shim = Shim()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        status, message = await shim.run(json.loads(await reader.readline()))
        if status == UNIMPLEMENTED:
            print(message, flush=True)
        writer.write(json.dumps([status, message]).encode() + b"\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(one, path, limit=1 << 20)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


LAUNCHER = """#!{python} -IS
import json, socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.connect({path!r})
sock.sendall(json.dumps([word.encode("utf-8", "surrogateescape").decode("latin-1") for word in sys.argv[1:]]).encode())
sock.sendall(b"\\n")
status, message = json.loads(sock.makefile().readline())
print(message, file=sys.stderr if status else sys.stdout)
sys.exit(status)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve", help="be the resident process")
    serving.add_argument("socket")
    launching = commands.add_parser("launcher", help="write the program that the suite starts")
    launching.add_argument("socket")
    launching.add_argument("file", type=Path)
    options = parser.parse_args(arguments)
    if options.command == "launcher":
        options.file.write_text(LAUNCHER.format(python=sys.executable, path=os.path.abspath(options.socket)))
        options.file.chmod(0o755)
        return 0
    asyncio.run(serve(options.socket))
    return 0


if __name__ == "__main__":
    sys.exit(main())
