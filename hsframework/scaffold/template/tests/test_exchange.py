"""The protocol without I/O."""

from __future__ import annotations

import errno

import pytest
from hsframework.errors import HandshakeError, StreamError
from hsframework.interface import Role

from hsframework_knock.exchange import Exchange, body_size
from hsframework_knock.session import Frames


def test_handshake() -> None:
    """The client sends first; both have finished after one message each."""
    client, server = Exchange(Role.CLIENT, b"friend"), Exchange(Role.SERVER, b"friend")
    assert client.our_turn and not server.our_turn
    server.receive(client.message())
    client.receive(server.message())
    assert client.finished and server.finished


def test_another_word() -> None:
    """A server refuses a client with another word."""
    with pytest.raises(HandshakeError) as caught:
        Exchange(Role.SERVER, b"friend").receive(Exchange(Role.CLIENT, b"enemy").message())
    assert caught.value.errno == errno.EACCES


@pytest.mark.parametrize("length", [0, 65, 255])
def test_garbage(length: int) -> None:
    """A message with a length that no word has is refused by its header."""
    with pytest.raises(HandshakeError):
        body_size(bytes([length]))


def test_frames_in_pieces() -> None:
    """Data that arrives byte by byte is read whole, and then its end."""
    one, two = Frames(), Frames()
    wire = one.encrypt(b"hello ") + one.encrypt(b"world") + one.close()
    assert b"".join(two.decrypt(wire[at : at + 1]) for at in range(len(wire))) == b"hello world"
    assert two.peer_closed


def test_cut_off() -> None:
    """The end of the connection without the end of the data is an error."""
    frames = Frames()
    frames.decrypt(Frames().encrypt(b"data"))
    with pytest.raises(StreamError):
        frames.receive_eof()
