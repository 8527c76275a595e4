"""The channel of a session in the socket: the kernel protects the records, and the rest of the protocol is ours.

The kernel gives a record's type as ancillary data and never mixes types in one read.  A KeyUpdate means: the peer's
next records are under the next traffic secret, so TLS_RX is set again (Linux 6.14 and later; before, such a session
ends here with ``EOPNOTSUPP``).  Until that is done the kernel answers reads with EKEYEXPIRED.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from hsframework.failures import Failure
from hsframework.interface import Role, Secret
from hsframework.tls.kernel import SOL_TLS, TLS_RX, TLS_TX
from hsframework_tls13.channel import Channel
from hsframework_tls13.ciphers import CipherSuite
from hsframework_tls13.events import Data, KeyUpdated, SessionBroken, SessionTruncated
from hsframework_tls13.inbound import Inbound, key_update_message
from hsframework_tls13.keyschedule import next_traffic_secret
from hsframework_tls13.ktls import TLS_GET_RECORD_TYPE, TLS_SET_RECORD_TYPE, crypto_info
from hsframework_tls13.outbound import Outbound
from hsframework_tls13.records import (
    ALERT,
    APPLICATION_DATA,
    HANDSHAKE,
    MAX_PLAINTEXT,
)


@dataclass(slots=True)
class _Outgoing:
    """A record to be written.  ``rekey``: it is a KeyUpdate, and TLS_TX is set again once it is written."""

    content_type: int
    content: bytearray
    rekey: bool = False


class KernelChannel(Channel):
    """A session in the socket.  Its secrets are needed for KeyUpdate alone; None: a KeyUpdate ends the session."""

    def __init__(
        self,
        sock: socket.socket,
        role: Role,
        suite: CipherSuite,
        client_secret: Secret | None = None,
        server_secret: Secret | None = None,
    ) -> None:
        self.socket = sock
        self._suite = suite
        ours, theirs = (client_secret, server_secret) if role is Role.CLIENT else (server_secret, client_secret)
        self._write_secret, self._read_secret = ours, theirs
        self._received = bytearray()
        self._outgoing: deque[_Outgoing] = deque()
        self._outbound = Outbound()
        self._inbound = Inbound(role, is_answer=self._outbound.is_answer, clock=time.monotonic)

    @property
    def peer_closed(self) -> bool:
        return self._inbound.closed

    @property
    def owes_output(self) -> bool:
        return self._outbound.owes

    @property
    def pending(self) -> int:
        return len(self._received)

    def try_receive(self, max_size: int) -> bytes | None:
        if not self._received:
            self._outbound.check()
            if self._inbound.closed:
                return b""
            self._read_guarded()
        if not self._received:
            return b"" if self._inbound.closed else None
        data = bytes(self._received[:max_size])
        del self._received[:max_size]
        return data

    def _read_guarded(self) -> None:
        try:
            self._read()
        except SessionBroken as error:
            self._outbound.fail(error)
            raise

    def _read(self) -> None:
        try:
            with _unpolled(self.socket) as sock:
                content, ancillary, _, _ = sock.recvmsg(MAX_PLAINTEXT, socket.CMSG_SPACE(1), socket.MSG_DONTWAIT)
        except OSError as error:
            raise _kernel_error(self.socket, error) from None
        types = [data[0] for level, kind, data in ancillary if (level, kind) == (SOL_TLS, TLS_GET_RECORD_TYPE)]
        if not types and not content:
            raise SessionTruncated
        for event in self._inbound.feed(types[0] if types else APPLICATION_DATA, content):
            if isinstance(event, Data):
                self._received += event.data
            elif isinstance(event, KeyUpdated):
                self._read_secret = self._rekey(TLS_RX, self._read_secret)
                self._outbound.answer(event)

    def queue_data(self, data: bytes) -> None:
        self._outbound.check_open()
        self._queue_owed()
        if data:
            self._outgoing.append(_Outgoing(APPLICATION_DATA, bytearray(data)))

    def queue_key_update(self, request_peer: bool) -> None:
        self._outbound.check_open()
        self._queue_owed()
        self._queue_rekey(request_peer)

    def queue_close(self) -> None:
        self._queue_owed()
        self._queue_alert(self._outbound.close())

    def try_flush(self) -> None:
        self._queue_owed()
        while self._outgoing:
            self._send(self._outgoing[0])
            self._outgoing.popleft()

    def _send(self, item: _Outgoing) -> None:
        flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
        while item.content:
            if item.content_type == APPLICATION_DATA:
                sent = self.socket.send(item.content, flags)
            else:
                ancillary = [(SOL_TLS, TLS_SET_RECORD_TYPE, bytes((item.content_type,)))]
                sent = self.socket.sendmsg([bytes(item.content)], ancillary, flags)
            del item.content[:sent]
        if item.rekey:
            self._write_secret = self._rekey(TLS_TX, self._write_secret)

    def _rekey(self, direction: int, secret: Secret | None) -> Secret:
        if secret is None:
            raise SessionBroken(Failure.NO_KERNEL_SESSION, "a KeyUpdate, and the traffic secrets are not here")
        following = Secret(next_traffic_secret(self._suite, secret.reveal()))
        try:
            self.socket.setsockopt(SOL_TLS, direction, crypto_info(self._suite, following))
        except OSError as error:
            raise SessionBroken(
                Failure.NO_KERNEL_SESSION, f"a KeyUpdate, and this kernel cannot change keys ({error.strerror})"
            ) from None
        return following

    def _queue_owed(self) -> None:
        if self._outbound.take_update():
            self._queue_rekey(request_peer=False)
        self._queue_alert(self._outbound.take_alert())

    def _queue_rekey(self, request_peer: bool) -> None:
        if request_peer:
            self._outbound.asked()
        self._outgoing.append(_Outgoing(HANDSHAKE, bytearray(key_update_message(request_peer)), rekey=True))

    def _queue_alert(self, content: bytes | None) -> None:
        if content is not None:
            self._outgoing.append(_Outgoing(ALERT, bytearray(content)))


@contextlib.contextmanager
def _unpolled(sock: socket.socket) -> Iterator[socket.socket]:
    """Yield the same descriptor, to be read without the wait that Python makes where there is a timeout.

    A KeyUpdate that the kernel opened behind data in one read is handed out by the next read, and until then poll(2)
    does not report the socket readable (Linux 7.2, ``tls_sk_poll``).
    """
    if not sock.gettimeout():
        yield sock
        return
    alias = socket.socket(sock.family, sock.type, sock.proto, fileno=sock.fileno())
    try:
        yield alias
    finally:
        alias.detach()


def _kernel_error(sock: socket.socket, error: OSError) -> OSError | SessionBroken:
    """Return the error for the kernel's verdict on the peer's records (``net/tls/tls_sw.c``).

    Such a verdict is also the socket's pending error, which is taken here: the next write is to be our alert.
    """
    if error.errno in (errno.EBADMSG, errno.EMSGSIZE, errno.EINVAL):
        with contextlib.suppress(OSError):
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error.errno == errno.EBADMSG:
        return SessionBroken(Failure.BAD_RECORD_MAC, "the kernel could not open a record")
    if error.errno == errno.EMSGSIZE:
        return SessionBroken(Failure.RECORD_OVERFLOW, "the kernel refused a record")
    if error.errno == errno.EINVAL:
        return SessionBroken(Failure.GARBAGE, "the kernel refused a record header")
    return error
