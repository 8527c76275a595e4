"""The handshake without I/O: whom each side trusts and when, and how a peer can end it."""

from __future__ import annotations

import errno

import pytest
from hsframework.errors import HandshakeError
from hsframework.interface import PeerIdentity, Secret, anybody
from hypothesis import given, strategies as st

from hsframework_noise.exchange import Exchange
from hsframework_noise.patterns import PATTERNS
from hsframework_noise.wanted import Wanted
from keys import OURS, STRANGER, THEIRS

BOTH_PATTERNS = pytest.mark.parametrize("pattern", list(PATTERNS))


def wanted(pattern: str, *, initiator: bool, peers: frozenset[bytes] | None = None, psk: bool = False) -> Wanted:
    return Wanted(
        pattern=PATTERNS[pattern],
        initiator=initiator,
        static=(OURS if initiator else THEIRS).secret,
        peers=frozenset([(THEIRS if initiator else OURS).public]) if peers is None else peers,
        psk=Secret(bytes(32)) if psk else None,
        payload=Secret(b"ours"),
    )


def refuse(peer: PeerIdentity) -> None:
    raise HandshakeError(f"not {peer.public_key!r:.10}", errno=errno.EACCES)


@BOTH_PATTERNS
@pytest.mark.parametrize("psk", [False, True])
def test_least_sizes(pattern: str, psk: bool) -> None:
    """Each message without a payload has exactly the size below which what comes is refused unread."""
    sides = [Exchange(wanted(pattern, initiator=first, psk=psk), anybody) for first in (True, False)]
    last = len(PATTERNS[pattern].sizes) - 2
    for index in range(len(PATTERNS[pattern].sizes)):
        writer, reader = sides[index % 2], sides[1 - index % 2]
        size = reader.least_size
        message = writer.message()
        assert len(message) == size + (len(b"ours") if index >= last else 0)
        reader.receive(message)


@BOTH_PATTERNS
def test_a_responder_answers_no_stranger(pattern: str) -> None:
    """The key is judged before the last message goes out; here by a list, and by whoever authorizes."""
    for peers, authorize, number in (
        (frozenset([STRANGER.public]), anybody, errno.EKEYREJECTED),
        (frozenset([OURS.public]), refuse, errno.EACCES),
    ):
        initiator = Exchange(wanted(pattern, initiator=True), anybody)
        responder = Exchange(wanted(pattern, initiator=False, peers=peers), authorize)
        with pytest.raises(HandshakeError) as caught:
            while True:
                responder.receive(initiator.message())
                initiator.receive(responder.message())
        assert caught.value.errno == number
        assert not responder.finished or pattern == "XX"


def test_an_initiator_of_xx_tells_no_stranger_who_it_is() -> None:
    """A server with another key is refused before our own key goes out."""
    initiator = Exchange(wanted("XX", initiator=True, peers=frozenset([STRANGER.public])), anybody)
    responder = Exchange(wanted("XX", initiator=False), anybody)
    responder.receive(initiator.message())
    with pytest.raises(HandshakeError, match=THEIRS.public.hex()) as caught:
        initiator.receive(responder.message())
    assert caught.value.errno == errno.EKEYREJECTED
    assert not initiator.finished


@given(
    pattern=st.sampled_from(sorted(PATTERNS)),
    psk=st.booleans(),
    target=st.integers(0, 2),
    place=st.integers(0, 10_000),
    change=st.integers(1, 255),
)
def test_any_changed_byte_ends_it(pattern: str, psk: bool, target: int, place: int, change: int) -> None:
    """Wherever a byte of a handshake message is changed, one side or the other fails with an errno."""
    sides = [Exchange(wanted(pattern, initiator=first, psk=psk), anybody) for first in (True, False)]
    count = len(PATTERNS[pattern].sizes)
    with pytest.raises(HandshakeError) as caught:
        for index in range(count):
            message = bytearray(sides[index % 2].message())
            if index == target % count:
                message[place % len(message)] ^= change
            sides[1 - index % 2].receive(bytes(message))
        # The high bit of a public key is ignored (RFC 7748 section 5), and not by the handshake hash.
        assert sides[0].established.handshake_hash == sides[1].established.handshake_hash
    assert caught.value.errno in (errno.EBADMSG, errno.EPROTO, errno.EKEYREJECTED)


@given(pattern=st.sampled_from(sorted(PATTERNS)), junk=st.binary(min_size=0, max_size=300))
def test_junk(pattern: str, junk: bytes) -> None:
    """Any bytes as the first message: an error with an errno or, for XX, a key that nobody has."""
    responder = Exchange(wanted(pattern, initiator=False), anybody)
    try:
        responder.receive(junk.ljust(responder.least_size, b"\1"))
    except HandshakeError as error:
        assert error.errno in (errno.EBADMSG, errno.EPROTO)
    else:
        assert not responder.finished


@pytest.mark.parametrize("key", [bytes(32), b"\1" + bytes(31)], ids=["zero", "one"])
def test_a_key_of_small_order(key: bytes) -> None:
    """A public key that makes the secret known to all is refused (RFC 7748 section 6.1)."""
    responder = Exchange(wanted("XX", initiator=False), anybody)
    with pytest.raises(HandshakeError) as caught:
        responder.receive(key)
        responder.message()
    assert caught.value.errno == errno.EPROTO
