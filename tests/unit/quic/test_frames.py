"""Frames of a 1-RTT payload (RFC 9000 section 19), and what the codes of a close stand for."""

from __future__ import annotations

import pytest

from hsframework.failures import Failure
from hsframework_quic.failures import closing_code, failure_of_close, failure_of_own_close
from hsframework_quic.handshake.frames import Glimpse, glimpse

DONE = b"\x1e"
"""HANDSHAKE_DONE, by which a test sees that a frame in front of it was read to its end."""

FRAMES: dict[str, tuple[bytes, bool]] = {
    "PADDING": (b"\0\0\0", False),
    "PING": (b"\1", True),
    "ACK": (b"\2\x05\x01\x02\x03" + b"\1\1" * 2, False),
    "ACK with ECN": (b"\3\x05\x01\x01\x03" + b"\1\1" + b"\4\5\6", False),
    "RESET_STREAM": (b"\4\1\2\3", True),
    "STOP_SENDING": (b"\5\1\2", True),
    "NEW_TOKEN": (b"\7\3abc", True),
    "STREAM with a length": (b"\x0a\1\3abc", True),
    "STREAM with offset and length": (b"\x0f\1\x40\x80\3abc", True),
    "MAX_DATA": (b"\x10\x80\0\1\0", True),
    "MAX_STREAM_DATA": (b"\x11\1\2", True),
    "MAX_STREAMS": (b"\x12\1", True),
    "MAX_STREAMS, one way": (b"\x13\1", True),
    "DATA_BLOCKED": (b"\x14\1", True),
    "STREAM_DATA_BLOCKED": (b"\x15\1\2", True),
    "STREAMS_BLOCKED": (b"\x16\1", True),
    "STREAMS_BLOCKED, one way": (b"\x17\1", True),
    "NEW_CONNECTION_ID": (b"\x18\1\0\4abcd" + bytes(16), True),
    "RETIRE_CONNECTION_ID": (b"\x19\1", True),
    "PATH_CHALLENGE": (b"\x1a" + bytes(8), True),
    "PATH_RESPONSE": (b"\x1b" + bytes(8), True),
    "DATAGRAM with a length": (b"\x31\3abc", True),
}


@pytest.mark.parametrize(("frame", "eliciting"), FRAMES.values(), ids=FRAMES)
def test_each_frame_is_read_to_its_end(frame: bytes, eliciting: bool) -> None:
    """The next one is found, and nothing where it is cut; only some of them are to be acknowledged."""
    assert glimpse(frame) == Glimpse(ack_eliciting=eliciting)
    assert glimpse(frame + DONE) == Glimpse(ack_eliciting=True, handshake_done=True)
    for cut in range(1, len(frame)):
        if frame[0]:
            assert not glimpse(frame[:cut]).ack_eliciting


def test_frames_that_go_to_the_end_of_the_packet() -> None:
    """A STREAM or a DATAGRAM without a length has all that follows."""
    for frame in (b"\x08\1", b"\x0c\1\2", b"\x30"):
        assert glimpse(frame + DONE) == Glimpse(ack_eliciting=True)


def test_crypto_frames() -> None:
    """Offset and data of each, in their order."""
    seen = glimpse(b"\6\0\3abc" + b"\6\x40\x90\2de" + DONE)
    assert seen == Glimpse(ack_eliciting=True, handshake_done=True, crypto=[(0, b"abc"), (0x90, b"de")])


@pytest.mark.parametrize(
    ("frame", "code"), [(b"\x1c\x41\x2a\6\2no", 0x12A), (b"\x1d\x0c\3bye", None), (b"\x1d\0\0", None)]
)
def test_the_end_of_a_connection(frame: bytes, code: int | None) -> None:
    """The transport's has a code; the application's is its own matter.  Neither is acknowledged."""
    assert glimpse(frame) == Glimpse(closed=True, close_code=code)
    assert glimpse(frame + DONE).handshake_done
    assert not glimpse(frame[:-1]).closed


@pytest.mark.parametrize("kind", [b"\x1f", b"\x32", b"\x40\x50"])
def test_a_frame_that_is_not_known_ends_the_reading(kind: bytes) -> None:
    """All that stands in front of it counts."""
    assert glimpse(b"\1" + kind + DONE) == Glimpse(ack_eliciting=True)


@pytest.mark.parametrize("failure", Failure)
def test_codes_of_our_own_close(failure: Failure) -> None:
    """CRYPTO_ERROR with the alert of the table, 0 where it has none; the peer's failure has that alert."""
    code = closing_code(failure)
    assert code == (0 if failure.alert is None else 0x100 + failure.alert)
    heard = failure_of_close(code, "")
    if code:
        assert (heard.failure, heard.peer_alert) == (Failure.PEER_REFUSED, failure.alert)
    else:
        assert heard.failure is Failure.PEER_GONE


@pytest.mark.parametrize(
    ("code", "alert", "text"),
    [
        (0x100, 0, "TLS "),
        (0x1FF, 255, "TLS "),
        (0x0FF, None, "transport error 0xff"),
        (0x200, None, "transport error 0x200"),
    ],
)
def test_codes_of_the_peers_close(code: int, alert: int | None, text: str) -> None:
    """256 codes are TLS alerts, the others the transport's own; its text is shown in ASCII, 100 characters of it."""
    error = failure_of_close(code, "é" * 200)
    assert (error.failure, error.peer_alert) == (Failure.PEER_REFUSED, alert)
    assert error.detail.startswith(text)
    assert error.detail.endswith(", '" + "\\xe9" * 100 + "'")


@pytest.mark.parametrize("code", [0, 0x0C])
def test_a_close_without_an_error(code: int) -> None:
    """NO_ERROR and APPLICATION_ERROR: the peer is gone."""
    assert failure_of_close(code, "").failure is Failure.PEER_GONE


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        (0x01, Failure.INTERNAL),
        (0x08, Failure.ILLEGAL_PARAMETER),
        (0x0D, Failure.RECORD_OVERFLOW),
        (0x11, Failure.VERSION),
        (0x0A, Failure.GARBAGE),
    ],
)
def test_what_we_close_for(code: int, failure: Failure) -> None:
    """By the transport's code; one without a row is the peer's garbage."""
    error = failure_of_own_close(code, "because")
    assert (error.failure, error.detail) == (failure, f"because (transport error {code:#x})")
