"""Early ends of streams and connections, as errors.  Codes are the peer's or ours (RFC 9000 section 20)."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from hsframework.errors import StreamError

NO_ERROR = 0x0


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a connection.

    ``code`` and ``reason``: of CONNECTION_CLOSE, or what would have been in it.  ``application``: the code is the
    application protocol's, not the transport's (section 20.1).  ``by_peer``: the peer has closed it.
    """

    code: int = NO_ERROR
    reason: str = ""
    application: bool = False
    by_peer: bool = False
    errno: int = errno.ECONNRESET

    @property
    def orderly(self) -> bool:
        """True if either side closed with code 0."""
        return self.code == NO_ERROR and self.errno == errno.ECONNRESET

    def __str__(self) -> str:
        if self.errno == errno.ETIMEDOUT:
            return "the peer has been silent for longer than the idle timeout"
        if self.errno == errno.ECONNREFUSED:
            return "nobody listens at the peer's address any more"
        who = "the peer" if self.by_peer else "this side"
        kind = "application code" if self.application else "transport code"
        # The reason is the peer's own text: shown with what is not printable escaped.
        return f"{who} closed the connection ({kind} 0x{self.code:x}{', ' + ascii(self.reason) if self.reason else ''})"


STATELESS_RESET = Ending(reason="stateless reset", by_peer=True, code=0x1)
REPLACED = Ending(reason="a new client is at the peer's address", by_peer=True, code=0x1)
GONE = Ending(errno=errno.ECONNREFUSED, by_peer=True)


class ConnectionEnded(StreamError):
    """The connection is over.  ``ending`` says why.

    ECONNRESET the peer closed or reset it; ETIMEDOUT its idle timeout; ECONNREFUSED nobody listens at the peer's port;
    EPROTO the peer broke the protocol, and was told so; EBADF it was closed on this side; EIO a fault of this side's.
    """

    def __init__(self, ending: Ending) -> None:
        super().__init__(str(ending), errno=ending.errno)
        self.ending = ending


def check_open(ending: Ending | None) -> None:
    """Raise ConnectionEnded unless ``ending`` is None."""
    if ending is not None:
        raise ConnectionEnded(ending)


class Undelivered(StreamError):
    """The end of a connection that was closed with data under way.  ``size``: bytes that the peer did not acknowledge.

    ETIMEDOUT: the peer acknowledged nothing more; else as :class:`ConnectionEnded`.
    """

    def __init__(self, size: int, ending: Ending | None) -> None:
        why = "the peer acknowledges nothing more" if ending is None else str(ending)
        super().__init__(
            f"{size} bytes were not delivered: {why}", errno=errno.ETIMEDOUT if ending is None else ending.errno
        )
        self.size = size


class StreamAborted(StreamError):
    """The peer gave up one stream: RESET_STREAM in mid-read (ECONNRESET), STOP_SENDING against a writer (EPIPE)."""

    def __init__(self, message: str, code: int, number: int) -> None:
        super().__init__(f"{message} (application code 0x{code:x})", errno=number)
        self.code = code
