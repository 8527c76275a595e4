"""The settings of TLS 1.3 for network cards, on the kernel's TLS: each is set, read back, and has its effect; and a
kernel that refuses one.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from hsframework.agent.endpoint import StreamEndpoint
from hsframework.agent.readiness import Readiness
from hsframework.errors import ConfigurationError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import AuthMode, Request, Result, Role, Secret
from hsframework.netlink.members import NETLINK_SOCK_DIAG
from hsframework.netlink.socket import RequestSocket
from hsframework.netlink.tcp_diag import SO_COOKIE, Connection, KernelTls, kernel_tls
from hsframework.testing.network import tcp_pair
from hsframework.tls.kernel import SOL_TLS
from hsframework_tls13 import ktls_options
from hsframework_tls13.ciphers import AES_128_GCM, AES_256_GCM, BY_NAME, SUITES, CipherSuite
from hsframework_tls13.events import Data
from hsframework_tls13.keyschedule import traffic_keys
from hsframework_tls13.ktls_options import Option
from hsframework_tls13.plugin import Tls13Handshaker
from hsframework_tls13.protocol import Tls13Protocol
from hsframework_tls13.recordlayer import RecordLayer
from hsframework_tls13.settings import Settings
from tests.unit.tls13.support import ROOT, SERVER

UNKNOWN = Option("ktls-no-pad", 99, struct.pack("=I", 1))
"""An option that no kernel has, in the place of one that an older kernel has not."""

AS_CLIENT = Request(
    id=1,
    group="tls13",
    role=Role.CLIENT,
    auth_mode=AuthMode.UNAUTHENTICATED,
    deadline=0,
    peer_name="server.example",
    trust=ROOT.trust(),
)
AS_SERVER = replace(AS_CLIENT, id=2, role=Role.SERVER, auth_mode=AuthMode.X509, peer_name=None, identities=(SERVER,))
IN_USER_SPACE = Tls13Protocol().prepare(Settings(kernel_offload=False))


def _shake_hands(
    near: socket.socket, far: socket.socket, handshaker: Tls13Handshaker, **client: Any
) -> tuple[Result, Result]:
    """Connect a client with these settings, whose session is in the kernel, with a server in user space."""

    async def scene() -> tuple[Result | BaseException, Result | BaseException]:
        readiness = Readiness(asyncio.get_running_loop())
        first, second = await asyncio.gather(
            handshaker.handshake(replace(AS_CLIENT, **client), StreamEndpoint(near, readiness)),
            IN_USER_SPACE.handshake(AS_SERVER, StreamEndpoint(far, readiness)),
            return_exceptions=True,
        )
        return first, second

    ends = asyncio.run(asyncio.wait_for(scene(), 20))
    for end in ends:
        if isinstance(end, BaseException):
            raise end
    for sock in (near, far):
        sock.setblocking(True)
        sock.settimeout(15)
    return ends  # type: ignore[return-value]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = tcp_pair()
    with near, far:
        yield near, far


def _by_the_kernel(sock: socket.socket) -> KernelTls | None:
    """Return the session as inet_diag describes it for the socket."""
    diag = RequestSocket(NETLINK_SOCK_DIAG)
    try:
        cookie = sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8)
        return kernel_tls(diag, Connection(sock.getsockname(), sock.getpeername(), cookie))
    finally:
        diag.close()


def _peer(result: Result) -> RecordLayer:
    """Return the server's own record layer."""
    client, server = (result.session[f"{end}-traffic-secret"] for end in ("client", "server"))
    assert isinstance(client, Secret)
    assert isinstance(server, Secret)
    return RecordLayer(Role.SERVER, BY_NAME[result.tags["cipher"]], client, server)


def _data(layer: RecordLayer, record: bytes) -> bytes:
    """Return the data of one record."""
    (event,) = layer.receive_data(record)
    assert isinstance(event, Data)
    return bytes(event.data)


def _record(sock: socket.socket) -> bytes:
    header = sock.recv(5, socket.MSG_WAITALL)
    return header + sock.recv(int.from_bytes(header[3:], "big"), socket.MSG_WAITALL)


def _counter(name: str) -> int:
    lines = (line.split() for line in Path("/proc/net/tls_stat").read_text().splitlines())
    return int(dict(lines)[name])


@pytest.mark.parametrize(
    ("settings", "number", "value"),
    [
        ({"ktls_zerocopy_sendfile": True}, 3, struct.pack("=I", 1)),
        ({"ktls_no_pad": True}, 4, struct.pack("=I", 1)),
        ({"ktls_max_payload": 63}, 5, struct.pack("=H", 63)),
        ({"ktls_max_payload": 16384}, 5, struct.pack("=H", 16384)),
    ],
    ids=str,
)
def test_each_is_set(
    pair: tuple[socket.socket, socket.socket], settings: dict[str, Any], number: int, value: bytes
) -> None:
    """In the socket of a session, by the kernel's own word; required or not, since this kernel takes it."""
    required = tuple(name.replace("_", "-") for name in settings)
    client, server = _shake_hands(*pair, Tls13Protocol().prepare(Settings(**settings, ktls_require=required)))
    assert client.in_kernel
    assert "ktls-refused" not in client.tags
    assert pair[0].getsockopt(SOL_TLS, number, len(value)) == value
    pair[0].sendall(b"data")
    assert _data(_peer(server), _record(pair[1])) == b"data"


def test_nothing_is_set_by_default(pair: tuple[socket.socket, socket.socket]) -> None:
    """The kernel's own choice stays."""
    client, _ = _shake_hands(*pair, Tls13Protocol().prepare(Settings()))
    assert client.in_kernel
    assert _by_the_kernel(pair[0]) == KernelTls(2, 2, max_payload=16384)
    assert pair[0].getsockopt(SOL_TLS, 3, 4) == bytes(4)


def test_all_of_them(pair: tuple[socket.socket, socket.socket]) -> None:
    """inet_diag shows them; zero copy it shows for a device alone."""
    settings = Settings(ktls_zerocopy_sendfile=True, ktls_no_pad=True, ktls_max_payload=4096)
    _shake_hands(*pair, Tls13Protocol().prepare(settings))
    assert _by_the_kernel(pair[0]) == KernelTls(2, 2, no_pad=True, max_payload=4096)


def test_records_are_no_longer(pair: tuple[socket.socket, socket.socket]) -> None:
    """Sent data is cut into records of that size: 1000 bytes in 10 records of 100, each with 22 bytes around it."""
    _, server = _shake_hands(*pair, Tls13Protocol().prepare(Settings(ktls_max_payload=100)))
    pair[0].sendall(bytes(1000))
    records = [_record(pair[1]) for _ in range(10)]
    assert {len(record) for record in records} == {100 + 22}
    layer = _peer(server)
    assert b"".join(_data(layer, record) for record in records) == bytes(1000)


def test_padding_that_was_not_expected(pair: tuple[socket.socket, socket.socket]) -> None:
    """A record with padding is decrypted twice and read all the same; the kernel counts it."""
    _, server = _shake_hands(*pair, Tls13Protocol().prepare(Settings(ktls_no_pad=True)))
    before = _counter("TlsRxNoPadViolation")
    pair[1].sendall(_padded(server, b"data"))
    assert pair[0].recv(100) == b"data"
    assert _counter("TlsRxNoPadViolation") == before + 1


def _padded(server: Result, data: bytes) -> bytes:
    """Encrypt the server's first record, with 40 zeros behind its type (RFC 8446 section 5.4)."""
    suite = BY_NAME[server.tags["cipher"]]
    keys = traffic_keys(suite, server.session["server-traffic-secret"].reveal())
    inner = data + b"\x17" + bytes(40)
    header = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2, "big")
    return header + suite.aead(keys.key).encrypt(keys.iv, inner, header)


@pytest.mark.parametrize("suite", [AES_128_GCM, AES_256_GCM], ids=lambda suite: suite.name)
def test_ciphers_of_the_kernel(pair: tuple[socket.socket, socket.socket], suite: CipherSuite) -> None:
    """A kernel consumer is offered those alone; a program's session with another cipher stays in user space."""
    others = tuple(other.name for other in SUITES if other != suite)
    handshaker = Tls13Protocol().prepare(Settings(ciphers=(*others, suite.name), ktls_ciphers=(suite.name,)))
    client, _ = _shake_hands(*pair, handshaker, kernel_consumer=True)
    assert (client.tags["cipher"], client.in_kernel) == (suite.name, True)
    near, far = tcp_pair()
    with near, far:
        client, _ = _shake_hands(near, far, handshaker)
        assert (client.tags["cipher"], client.in_kernel) == (others[0], False)


# A kernel that refuses one


def test_a_refusal_at_start(monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket]) -> None:
    """It is reported once, and left out: sessions are in the kernel without it."""
    monkeypatch.setattr(ktls_options, "wanted", lambda settings: (UNKNOWN,))
    with structlog.testing.capture_logs() as events:
        handshaker = Tls13Protocol().prepare(Settings(ktls_no_pad=True))
        client, _ = _shake_hands(*pair, handshaker)
    (event,) = [event for event in events if "refuses an option of kTLS" in event["event"]]
    assert (event["setting"], event["reason"]) == ("ktls-no-pad", "Protocol not available")
    assert client.in_kernel
    assert "ktls-refused" not in client.tags


def test_a_refusal_of_what_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin does not start, and says why."""
    monkeypatch.setattr(ktls_options, "wanted", lambda settings: (UNKNOWN,))
    with pytest.raises(ConfigurationError, match=r"refuses ktls-no-pad \(Protocol not available\)"):
        Tls13Protocol().prepare(Settings(ktls_no_pad=True, ktls_require=("ktls-no-pad",)))


@pytest.mark.parametrize("required", [False, True])
def test_a_refusal_in_a_session(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket], required: bool
) -> None:
    """An option taken at start and refused by a session's socket: tagged, or no session where it is required."""
    monkeypatch.setattr(ktls_options, "wanted", lambda settings: (UNKNOWN,))
    monkeypatch.setattr(ktls_options, "refused_here", lambda suite, options: {})
    handshaker = Tls13Protocol().prepare(Settings(ktls_no_pad=True, ktls_require=("ktls-no-pad",) if required else ()))
    if required:
        with pytest.raises(HandshakeFailed) as caught:
            _shake_hands(*pair, handshaker)
        assert caught.value.failure is Failure.NO_KERNEL_SESSION
        return
    client, server = _shake_hands(*pair, handshaker)
    assert (client.in_kernel, client.tags["ktls-refused"]) == (True, "ktls-no-pad")
    pair[0].sendall(b"data")
    assert _data(_peer(server), _record(pair[1])) == b"data"


@pytest.mark.parametrize(
    "option",
    [
        Option("ktls-max-payload", 5, struct.pack("=H", 62)),
        Option("ktls-max-payload", 5, struct.pack("=H", 16385)),
        Option("ktls-zerocopy-sendfile", 3, struct.pack("=I", 2)),
    ],
    ids=str,
)
def test_values_that_the_kernel_refuses(option: Option) -> None:
    """The settings' own limits are the kernel's."""
    assert ktls_options.refused_here(AES_128_GCM, [option]) == {option.setting: "Invalid argument"}
