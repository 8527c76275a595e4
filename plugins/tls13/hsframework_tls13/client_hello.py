"""The ClientHello, put together from records before OpenSSL gets them.  Sans-IO.

A server needs this when it has to ask for a pre-shared key by the name that the client gives, or to choose between
identities: OpenSSL's own callbacks cannot wait for an answer.
"""

from __future__ import annotations

from hsframework.failures import Failure, HandshakeFailed
from hsframework.tls.alerts import describe_alert
from hsframework.tls.client_hello import ClientHello, parse_client_hello
from hsframework_tls13.records import ALERT, CLOSE_NOTIFY, HANDSHAKE, HEADER_SIZE

CLIENT_HELLO = 1
MAX_SIZE = 1 << 16
"""Of a ClientHello message: several times what any client sends."""
TLS_1_3 = 0x0304


class ClientHelloReader:
    """A reader that puts a ClientHello together from handshake records, one at a time, in one piece or many."""

    def __init__(self) -> None:
        self._message = bytearray()

    def feed(self, record: bytes) -> ClientHello | None:
        """Take one whole record with its header; return the ClientHello once it is complete.

        Raises HandshakeFailed.
        """
        body = self.feed_raw(record)
        return None if body is None else parse_client_hello(body)

    def feed_raw(self, record: bytes) -> bytes | None:
        """Take one whole record; return the body of the ClientHello once it is complete.  Raises HandshakeFailed."""
        refuse_alert(record)
        body = record[HEADER_SIZE:]
        if record[0] != HANDSHAKE or not body:
            raise HandshakeFailed(Failure.UNEXPECTED_MESSAGE, f"a record of type {record[0]} instead of a ClientHello")
        self._message += body
        if self._message[0] != CLIENT_HELLO:
            raise HandshakeFailed(Failure.UNEXPECTED_MESSAGE, f"handshake message {self._message[0]} comes first")
        if len(self._message) < 4:
            return None
        end = 4 + int.from_bytes(self._message[1:4], "big")
        if end > MAX_SIZE:
            raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, f"a ClientHello of {end} bytes")
        if len(self._message) < end:
            return None
        if len(self._message) > end:
            raise HandshakeFailed(Failure.UNEXPECTED_MESSAGE, "something follows the ClientHello in its record")
        return bytes(self._message[4:])


def refuse_alert(record: bytes) -> None:
    """Refuse an alert in place of a ClientHello; OpenSSL takes it for a message out of turn.

    Raises HandshakeFailed.
    """
    if record[0] != ALERT or len(record) != HEADER_SIZE + 2:
        return
    if record[-1] == CLOSE_NOTIFY:
        raise HandshakeFailed(Failure.PEER_GONE, "the peer said close_notify", peer_alert=CLOSE_NOTIFY)
    raise HandshakeFailed(Failure.PEER_REFUSED, describe_alert(record[-1]), peer_alert=record[-1])
