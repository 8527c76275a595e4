"""Sessions that were made through the whole path: data, new keys, goodbyes."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from hsframework.client import HandshakeOptions
from hsframework.errors import StreamError
from hsframework.interface import Role
from hsframework_tls13.events import SessionTruncated
from tests.support.doors import Door, Talk
from tests.support.meetings import Pki, chat, meeting
from tests.support.peer_programs import Kind, Peer, Setup

pytestmark = pytest.mark.peers
KINDS = pytest.mark.parametrize("kind", ["openssl", "gnutls"])
ROLES = pytest.mark.parametrize("role", list(Role))
MIB = 1024 * 1024


def sides(role: Role, pki: Pki, *, commands: bool = False) -> tuple[Setup, HandshakeOptions]:
    """Return the peer's setup and our options."""
    setup = Setup(identity=pki.files("good") if role is Role.CLIENT else None, commands=commands)
    return setup, pki.client() if role is Role.CLIENT else pki.server()


def text_lines(size: int) -> bytes:
    """Make lines of 128 letters and digits."""
    return b"".join(os.urandom(63).hex().encode() + b".\n" for _ in range(size // 128))


@KINDS
@ROLES
def test_one_mebibyte_comes_back(kind: Kind, role: Role, door: Door, pki: Pki, tmp_path: Path) -> None:
    """1 MiB to the peer and back at the same time, unchanged."""
    setup, options = sides(role, pki)
    with meeting(role, kind, setup, tmp_path) as (peer, sock):
        talk = door.handshake(sock, options)
        if not peer.echoes_itself:
            data = os.urandom(MIB)
            peer.echo()
            assert talk.exchange(data) == data
            return
        # gnutls-serv gives back one C string a time.
        for _ in range(MIB // 8192):
            line = text_lines(8192)
            assert talk.exchange(line) == line


@KINDS
@ROLES
def test_peer_changes_its_keys(kind: Kind, role: Role, door: Door, pki: Pki, tmp_path: Path) -> None:
    """Three KeyUpdates of the peer, with and without asking for ours; data goes on in both directions."""
    if kind == "gnutls" and role is Role.CLIENT:
        # gnutls-serv has no command for it: it is asked by a KeyUpdate of ours.
        setup, options = sides(role, pki)
        with meeting(role, kind, setup, tmp_path) as (peer, sock):
            talk = door.handshake(sock, options)
            for _ in range(3):
                talk.update_keys(request_peer=True)
                chat(talk, peer)
            peer.saw(r"(?:[\s\S]*?KEY_UPDATE was queued){3}")
        return
    setup, options = sides(role, pki, commands=True)
    with meeting(role, kind, setup, tmp_path) as (peer, sock):
        talk = door.handshake(sock, options)
        chat_with_commands(talk, peer)
        for letter in (b"k\n", b"K\n", b"K\n") if kind == "openssl" else [b"^rekey^\n"] * 3:
            peer.send(letter)
            if kind == "openssl":
                peer.saw(r">>> .*, KeyUpdate")
            chat_with_commands(talk, peer)
        if kind == "openssl":
            # Ours, sent because it asked.
            peer.saw(r"(?:[\s\S]*?<<< .*, KeyUpdate){2}")


def chat_with_commands(talk: Talk, peer: Peer) -> None:
    """Send a line each way; no letter of these is a command.  Other output of the peer is passed over."""
    talk.send(b"to the peer\n")
    peer.wait_for_next(b"to the peer\n")
    peer.send(b"from the peer\n")
    assert talk.receive_exactly(14) == b"from the peer\n"


@KINDS
@ROLES
@pytest.mark.parametrize("request_peer", [False, True], ids=["alone", "and-asks"])
def test_we_change_our_keys(kind: Kind, role: Role, request_peer: bool, door: Door, pki: Pki, tmp_path: Path) -> None:
    """KeyUpdates of ours are followed by the peer, and answered where they ask."""
    setup, options = sides(role, pki)
    with meeting(role, kind, setup, tmp_path) as (peer, sock):
        talk = door.handshake(sock, options)
        chat(talk, peer)
        for _ in range(2):
            talk.update_keys(request_peer=request_peer)
            chat(talk, peer)
        if kind == "openssl":
            peer.saw(r"(?:[\s\S]*?<<< .*, KeyUpdate){2}")
            if request_peer:
                peer.saw(r"(?:[\s\S]*?>>> .*, KeyUpdate){2}")


@KINDS
@ROLES
def test_we_say_goodbye(kind: Kind, role: Role, door: Door, pki: Pki, tmp_path: Path) -> None:
    """The peer sees our close_notify behind the data."""
    setup, options = sides(role, pki)
    with meeting(role, kind, setup, tmp_path) as (peer, sock):
        talk = door.handshake(sock, options)
        chat(talk, peer)
        talk.close()
        peer.saw_close_notify()


@KINDS
def test_peer_says_goodbye(kind: Kind, door: Door, pki: Pki, tmp_path: Path) -> None:
    """After the peer's close_notify there is an end, again and again, and no error."""
    setup, options = sides(Role.SERVER, pki)
    with meeting(Role.SERVER, kind, setup, tmp_path) as (peer, sock):
        talk = door.handshake(sock, options)
        peer.send(b"last words\n")
        peer.close_input()
        assert talk.receive_exactly(100) == b"last words\n"
        assert talk.receive() == b""
        talk.close()


@KINDS
def test_goodbye_is_answered(kind: Kind, door: Door, pki: Pki, tmp_path: Path) -> None:
    """We close our direction alone; the server closes its own then, and that arrives."""
    setup, options = sides(Role.CLIENT, pki)
    with meeting(Role.CLIENT, kind, setup, tmp_path) as (peer, sock):
        talk = door.handshake(sock, options)
        chat(talk, peer)
        talk.send_eof()
        assert talk.receive() == b""
        peer.saw_close_notify()
        talk.close()


@KINDS
@ROLES
def test_truncation(kind: Kind, role: Role, door: Door, pki: Pki, tmp_path: Path) -> None:
    """A peer that is gone without close_notify has cut the session off: an error, not an end."""
    setup, options = sides(role, pki)
    with meeting(role, kind, setup, tmp_path) as (peer, sock):
        talk = door.handshake(sock, options)
        chat(talk, peer)
        peer.kill()
        with pytest.raises(StreamError) as caught:
            talk.receive()
        assert isinstance(caught.value, SessionTruncated)
        assert caught.value.errno == errno.ECONNRESET


@KINDS
def test_peer_refuses_our_missing_certificate(kind: Kind, door: Door, pki: Pki, tmp_path: Path) -> None:
    """A server judges its client when the client has finished already: the refusal is the first that the stream has."""
    setup = Setup(identity=pki.files("good"), trust=pki.ca)
    with meeting(Role.CLIENT, kind, setup, tmp_path) as (_, sock):
        talk = door.handshake(sock, pki.client())
        with pytest.raises(StreamError, match=r"alert 116") as caught:
            talk.receive()
        assert caught.value.errno == errno.EACCES


@pytest.mark.parametrize(("shown", "alert"), [("a stranger's", 48), ("expired", 45), ("for servers", 43)])
def test_peer_refuses_our_certificate(shown: str, alert: int, door: Door, pki: Pki, tmp_path: Path) -> None:
    """The same for a certificate that the server does not accept, with its reason."""
    setup = Setup(identity=pki.files("good"), trust=pki.ca)
    with meeting(Role.CLIENT, "openssl", setup, tmp_path) as (_, sock):
        talk = door.handshake(sock, pki.client(identities=(pki.leaf(shown).identity,)))
        with pytest.raises(StreamError, match=rf"alert {alert}") as caught:
            talk.receive()
        assert caught.value.errno == errno.EACCES


def test_peer_stops_for_a_while(door: Door, pki: Pki, tmp_path: Path) -> None:
    """A peer that does not read holds up a sender, and nothing is lost when it goes on."""
    setup, options = sides(Role.CLIENT, pki)
    with meeting(Role.CLIENT, "openssl", setup, tmp_path) as (peer, sock):
        talk = door.handshake(sock, options)
        peer.echo()
        os.kill(peer.pid, signal.SIGSTOP)
        first = os.urandom(1000)
        talk.send(first)
        os.kill(peer.pid, signal.SIGCONT)
        data = os.urandom(MIB)
        assert talk.exchange(first + data)[:1000] == first
        assert talk.receive_exactly(1000)[-1000:] == data[-1000:]


@pytest.mark.parametrize("size", [512, 4096])
def test_a_client_that_asks_for_small_records_gets_them(size: int, door: Door, pki: Pki, tmp_path: Path) -> None:
    """OpenSSL's client breaks off at the first record that is longer than agreed (RFC 6066 section 4)."""
    setup = Setup(openssl=("-maxfraglen", str(size)))
    with meeting(Role.SERVER, "openssl", setup, tmp_path) as (peer, sock):
        talk = door.handshake(sock, pki.server())
        line = text_lines(8192)
        talk.send(line)
        peer.wait_for_next(line)
        chat(talk, peer)
