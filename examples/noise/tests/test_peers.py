"""Sessions through the real service over real sockets, with noiseprotocol itself at the other end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest
from hsframework.client import AsyncClient, Client, HandshakeOptions
from hsframework.errors import HandshakeError, StreamError
from hsframework.interface import PeerIdentity, Role, Secret
from hsframework.testing.service import RunningService

from bare_noise import BarePeer
from keys import OURS, STRANGER, THEIRS

PAIR = tuple[socket.socket, socket.socket]
PSK = bytes(range(32))
BOTH_ROLES = pytest.mark.parametrize("role", list(Role), ids=lambda role: role.name.lower())
BOTH_PATTERNS = pytest.mark.parametrize("pattern", ["XX", "IK"])


def options(role: Role, pattern: str, **attributes: object) -> HandshakeOptions:
    """Return our options: our key, and the peer's unless something else is given."""
    wanted = {"pattern": pattern, "static-key": OURS.secret, "remote-static-key": [THEIRS.public], **attributes}
    return HandshakeOptions(
        group="noise", role=role, timeout=30, attributes={k: v for k, v in wanted.items() if v is not None}
    )


def bare(sock: socket.socket, role: Role, pattern: str, *, psk: bytes | None = None, **others: Any) -> BarePeer:
    """Return the other end, for our ``role``."""
    modifier = "" if psk is None else {"XX": "psk3", "IK": "psk2"}[pattern]
    initiator = role is Role.SERVER
    return BarePeer(
        sock,
        f"Noise_{pattern}{modifier}_25519_ChaChaPoly_BLAKE2s",
        initiator=initiator,
        static=others.pop("static", THEIRS.private),
        remote_static=others.pop("remote_static", OURS.public) if initiator and pattern == "IK" else None,
        psk=psk,
        **others,
    )


def at_once(action: Callable[[], object]) -> Future[Any]:
    """Run the action in a thread of its own."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(action())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def hang_up(sock: socket.socket) -> None:
    """End the connection; one that is over already is left alone."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


@BOTH_ROLES
@BOTH_PATTERNS
@pytest.mark.parametrize("psk", [None, PSK], ids=["", "psk"])
def test_handshake_and_stream(client: Client, pair: PAIR, role: Role, pattern: str, psk: bytes | None) -> None:
    """Each role of each pattern: who the peer is, its payloads, the channel binding, data both ways, both goodbyes."""
    near, far = pair
    peer = bare(far, role, pattern, psk=psk, prologue=b"version 3")
    heard = at_once(lambda: peer.handshake(b"theirs"))
    session = client.handshake(
        near,
        options(
            role,
            pattern,
            prologue=b"version 3",
            payload=Secret(b"ours"),
            psk=None if psk is None else Secret(psk),
        ),
    )
    assert heard.result(30)[-1] == b"ours"
    assert session.protocol == "noise"
    assert session.peer == PeerIdentity(public_key=THEIRS.public)
    assert session.tags["noise"] == peer.noise.protocol_name.decode()
    assert session.parameters["handshake-hash"] == peer.handshake_hash
    assert set(session.parameters["payload"]) == {Secret(b"theirs")}
    stream = session.stream()
    stream.send(b"question")
    assert peer.receive() == b"question"
    peer.send(b"answer")
    assert stream.receive() == b"answer"
    stream.send_eof()
    assert peer.receive() == b""
    peer.send(b"more")
    peer.send(b"")
    assert (stream.receive(), stream.receive()) == (b"more", b"")
    stream.close()


@BOTH_ROLES
def test_a_key_of_the_settings(client: Client, pair: PAIR, role: Role) -> None:
    """A consumer that names a profile never has its key."""
    near, far = pair
    peer = bare(far, role, "IK")
    ended = at_once(peer.handshake)
    client.handshake(near, replace(options(role, "IK", **{"static-key": None}), profile="vpn"))
    ended.result(30)


def test_a_profile_without_a_key(client: Client, pair: PAIR) -> None:
    """ENOKEY, and where the key is missing."""
    with pytest.raises(HandshakeError, match=r"plugins\.noise\.keys \(this request's: 'web'\)") as caught:
        client.handshake(pair[0], replace(options(Role.CLIENT, "XX", **{"static-key": None}), profile="web"))
    assert caught.value.errno == errno.ENOKEY


def test_data_behind_the_handshake(client: Client, pair: PAIR) -> None:
    """Data in the same segment as the last handshake message is the stream's first data."""
    near, far = pair
    peer = bare(far, Role.SERVER, "XX")
    ended = at_once(lambda: peer.handshake(and_then=b"early"))
    stream = client.handshake(near, options(Role.SERVER, "XX")).stream()
    ended.result(30)
    assert stream.receive() == b"early"


def test_a_megabyte_with_rekeying(client: Client, pair: PAIR) -> None:
    """More than one message's worth, with both directions' keys changed on the way."""
    near, far = pair
    peer = bare(far, Role.CLIENT, "XX", rekey_interval=3)
    ended = at_once(peer.handshake)
    stream = client.handshake(near, options(Role.CLIENT, "XX", **{"rekey-interval": 3})).stream()
    ended.result(30)
    data = bytes(range(256)) * 4096

    def echo() -> None:
        while message := peer.receive():
            peer.send(message)
        peer.send(b"")

    echoing = at_once(echo)

    def send() -> None:
        stream.send(data)
        stream.send_eof()

    sending = at_once(send)
    received = bytearray()
    while part := stream.receive():
        received += part
    assert bytes(received) == data
    sending.result(30)
    echoing.result(30)


def test_asyncio(service: RunningService, pair: PAIR) -> None:
    """The same from an asyncio program."""
    near, far = pair
    peer = bare(far, Role.CLIENT, "IK")
    ended = at_once(peer.handshake)

    async def consume() -> None:
        async with AsyncClient(service.runtime_dir) as client:
            session = await client.handshake(near, options(Role.CLIENT, "IK"))
            await asyncio.wrap_future(ended)
            stream = session.stream()
            await stream.send(b"question")
            assert await asyncio.wrap_future(at_once(peer.receive)) == b"question"
            peer.send(b"answer")
            assert await stream.receive() == b"answer"
            await stream.close()

    asyncio.run(consume())
    assert peer.receive() == b""


@BOTH_PATTERNS
def test_both_ends_are_ours(client: Client, pair: PAIR, pattern: str) -> None:
    """Client and server through one service; anybody may come, and who it was is known."""
    near, far = pair
    anybody = {"static-key": THEIRS.secret, "remote-static-key": None, "any-peer": True}
    served = at_once(lambda: client.handshake(far, options(Role.SERVER, pattern, **anybody)))
    near_stream = client.handshake(near, options(Role.CLIENT, pattern)).stream()
    session = served.result(30)
    assert session.peer.public_key == OURS.public
    near_stream.send(b"hello")
    assert session.stream().receive() == b"hello"


@BOTH_PATTERNS
@BOTH_ROLES
def test_a_strange_key(client: Client, pair: PAIR, role: Role, pattern: str) -> None:
    """EKEYREJECTED and the key that was shown; a stranger cannot read the message of IK's client,
    and hangs up."""
    near, far = pair
    at_once(bare(far, role, pattern, static=STRANGER.private).handshake).add_done_callback(lambda _: hang_up(far))
    with pytest.raises(HandshakeError) as caught:
        client.handshake(near, options(role, pattern))
    if (role, pattern) == (Role.CLIENT, "IK"):
        assert caught.value.errno == errno.ECONNRESET
    else:
        assert caught.value.errno == errno.EKEYREJECTED
        assert STRANGER.public.hex() in str(caught.value)


@BOTH_ROLES
def test_a_wrong_psk(client: Client, pair: PAIR, role: Role) -> None:
    """EBADMSG where we read what the key protects, the end of the connection where the peer does."""
    near, far = pair
    at_once(bare(far, role, "XX", psk=bytes(32)).handshake).add_done_callback(lambda _: hang_up(far))
    if role is Role.SERVER:
        with pytest.raises(HandshakeError, match="pre-shared key") as caught:
            client.handshake(near, options(role, "XX", psk=Secret(PSK)))
        assert caught.value.errno == errno.EBADMSG
    else:
        stream = client.handshake(near, options(role, "XX", psk=Secret(PSK))).stream()
        with pytest.raises((StreamError, ConnectionError)):
            stream.receive()


def test_a_connection_that_is_cut(client: Client, pair: PAIR) -> None:
    """The end of the connection without a goodbye is an error, not the end of the data."""
    near, far = pair
    peer = bare(far, Role.CLIENT, "XX")
    ended = at_once(peer.handshake)
    stream = client.handshake(near, options(Role.CLIENT, "XX")).stream()
    ended.result(30)
    peer.send(b"data")
    far.shutdown(socket.SHUT_WR)
    assert stream.receive() == b"data"
    with pytest.raises(StreamError, match="had not said") as caught:
        stream.receive()
    assert caught.value.errno == errno.ECONNRESET


def test_somebody_else_on_the_line(client: Client, pair: PAIR) -> None:
    """A message that is not Noise is refused by its length, before it is read."""
    near, far = pair
    far.sendall(b"\0\3GET / HTTP/1.0\r\n\r\n")
    with pytest.raises(HandshakeError, match="a message of 3 bytes") as caught:
        client.handshake(near, options(Role.SERVER, "XX"))
    assert caught.value.errno == errno.EPROTO


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pattern": "NN"}, "use XX or IK"),
        ({"static-key": None}, "give static-key, or a profile"),
        ({"static-key": Secret(b"short")}, "static-key has 5 bytes"),
        ({"remote-static-key": None}, "say whom to believe"),
        ({"any-peer": True}, "exclude each other"),
        ({"pattern": "IK", "remote-static-key": [THEIRS.public, OURS.public]}, "give one remote-static-key, not 2"),
        ({"psk": Secret(b"short")}, "psk has 5 bytes"),
        ({"rekey-interval": 0}, "rekey-interval is 0"),
    ],
)
def test_requests_that_make_no_sense(client: Client, pair: PAIR, changed: dict[str, Any], message: str) -> None:
    """Each gets an errno and says what to change; nothing goes out on the connection."""
    near, far = pair
    with pytest.raises(HandshakeError, match=message) as caught:
        client.handshake(near, options(Role.CLIENT, **{"pattern": "XX", **changed}))
    assert caught.value.errno in (errno.EINVAL, errno.ENOKEY)
    near.close()
    assert far.recv(1) == b""


def test_nothing_secret_is_logged(service: RunningService, client: Client, pair: PAIR) -> None:
    """Neither the static key nor the session's, at level debug."""
    near, far = pair
    ended = at_once(bare(far, Role.CLIENT, "XX").handshake)
    session = client.handshake(near, options(Role.CLIENT, "XX"))
    ended.result(30)
    shown = service.log + repr(session) + repr(dict(session.parameters))
    for name in ("send-key", "receive-key"):
        assert session.parameters[name].reveal().hex() not in shown
    assert OURS.private.hex() not in shown
