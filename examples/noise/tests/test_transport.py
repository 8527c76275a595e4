"""The session after the handshake, without I/O."""

from __future__ import annotations

import errno

import pytest
from hsframework.errors import StreamError
from hsframework.interface import Secret
from hypothesis import given, strategies as st

from hsframework_noise.library import LAST_NONCE
from hsframework_noise.session import to_transport
from hsframework_noise.transport import MAX_PLAINTEXT, Direction, Transport

NAME = "Noise_XX_25519_ChaChaPoly_BLAKE2s"
KEYS = (Secret(bytes(32)), Secret(bytes(range(32))))


def transports(*, nonce: int = 0, rekey_interval: int | None = None) -> tuple[Transport, Transport]:
    """Return both ends of one session."""

    def direction(key: Secret) -> Direction:
        return Direction(NAME, key, nonce=nonce, rekey_interval=rekey_interval)

    return tuple(Transport(direction(KEYS[end]), direction(KEYS[1 - end])) for end in (0, 1))  # type: ignore[return-value]


@given(
    data=st.lists(st.binary(min_size=1, max_size=200), max_size=8),
    cuts=st.lists(st.integers(1, 50)),
    interval=st.none() | st.integers(1, 4),
)
def test_any_split(data: list[bytes], cuts: list[int], interval: int | None) -> None:
    """In pieces of any size what was sent arrives, in order, and then the goodbye."""
    one, two = transports(rekey_interval=interval)
    wire = b"".join(map(one.encrypt, data)) + one.close()
    received = b""
    while wire:
        assert not two.peer_closed
        size = cuts.pop() if cuts else len(wire)
        received += two.decrypt(wire[:size])
        wire = wire[size:]
    assert received == b"".join(data)
    assert two.peer_closed
    two.receive_eof()


def test_large_data() -> None:
    """More than a message holds is several; none is too long."""
    one, two = transports()
    data = bytes(3 * MAX_PLAINTEXT + 1)
    wire = one.encrypt(data)
    assert len(wire) == len(data) + 4 * (2 + 16)
    assert two.decrypt(wire) == data
    assert one.encrypt(b"") == b""


@given(place=st.integers(0, 10_000), change=st.integers(1, 255))
def test_a_changed_byte(place: int, change: int) -> None:
    """Data before the change is delivered; after it there is nothing but the same error."""
    one, two = transports()
    good = one.encrypt(b"good")
    bad = bytearray(one.encrypt(b"something longer"))
    bad[place % len(bad)] ^= change
    assert two.decrypt(good + bytes(bad)) == b"good"
    for attempt in (lambda: two.decrypt(b""), two.receive_eof, lambda: two.decrypt(one.encrypt(b"x")), two.receive_eof):
        try:
            attempt()
        except StreamError as error:
            assert error.errno in (errno.EBADMSG, errno.ECONNRESET)
            assert not two.peer_closed
    with pytest.raises(StreamError):
        two.receive_eof()


def test_cut_off() -> None:
    """The end of the connection without a goodbye is an error, after any number of messages and in one."""
    one, two = transports()
    wire = one.encrypt(b"data")
    two.decrypt(wire[:-1])
    with pytest.raises(StreamError, match="had not said") as caught:
        two.receive_eof()
    assert caught.value.errno == errno.ECONNRESET


def test_goodbye() -> None:
    """It is said once; nothing can be sent after it, and what comes after the peer's is passed over."""
    one, two = transports()
    goodbye = one.close()
    assert one.close() == b""
    with pytest.raises(StreamError) as caught:
        one.encrypt(b"more")
    assert caught.value.errno == errno.EPIPE
    assert two.decrypt(goodbye + b"trailing bytes") == b""
    assert two.peer_closed


def test_the_last_nonce() -> None:
    """The last but one message is data, the last one the goodbye, and none comes after (section 5.1)."""
    one, two = transports(nonce=LAST_NONCE - 1)
    with pytest.raises(StreamError, match="used up") as caught:
        one.encrypt(bytes(MAX_PLAINTEXT + 1))
    assert caught.value.errno == errno.EOVERFLOW
    assert two.decrypt(one.encrypt(b"last")) == b"last"
    with pytest.raises(StreamError, match="used up"):
        one.encrypt(b"one too many")
    two.decrypt(one.close())
    assert two.peer_closed


def test_a_peer_past_the_last_nonce() -> None:
    """A peer that goes on is refused."""
    one, two = transports(nonce=LAST_NONCE)
    frame = one.close()
    _, late = transports(nonce=LAST_NONCE + 1)
    with pytest.raises(StreamError, match="used up"):
        late.decrypt(frame)
    assert not late.peer_closed
    two.decrypt(frame)


def test_nonces_begin_at_zero() -> None:
    """Parameters without nonces are those of a session that begins."""
    keys = {"protocol-name": NAME, "send-key": Secret(bytes(32)), "receive-key": Secret(bytes(32))}
    begun = {**keys, "send-nonce": 0, "receive-nonce": 0}
    assert to_transport(keys).encrypt(b"x") == to_transport(begun).encrypt(b"x")
    assert to_transport(keys).decrypt(to_transport(begun).encrypt(b"x")) == b"x"


@pytest.mark.parametrize(
    "parameters",
    [{}, {"protocol-name": "Noise_NN_25519_AESGCM_SHA256"}, {"protocol-name": NAME, "send-key": Secret(b"short")}],
)
def test_parameters_of_something_else(parameters: dict[str, object]) -> None:
    """A session that is none of ours is refused."""
    with pytest.raises(StreamError, match="the session's parameters"):
        to_transport(parameters)
