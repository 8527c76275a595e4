"""In-kernel QUIC sockets for machines without the module: real QUIC packets over UDP, at the socket-option boundary.

Packets, loss recovery and packet protection are aioquic's; TLS is taken out of it, and what it would be given and asked
goes through options and messages, by the contract of docs/reference/kernel-quic.md.  The contract is enforced: what the
kernel refuses, or what would come out wrong there, is refused here with the same errno.

It lives on the running event loop, so that the far end can be any QUIC program, this process's own included.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections import deque
from typing import Any

from aioquic import tls
from aioquic.buffer import Buffer
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection, QuicConnectionError
from aioquic.quic.packet import pull_quic_header
from aioquic.tls import CipherSuite, Direction, Epoch, State

from hsframework_quic.kernel import structs as kernel
from hsframework_quic.kernel.socket import Received

CONFIG = struct.Struct("=IIII5B3xI")
EPOCHS = {0: Epoch.ONE_RTT, 1: Epoch.INITIAL, 2: Epoch.HANDSHAKE}
LEVELS = {epoch: level for level, epoch in EPOCHS.items()}
SUITES = {kind: CipherSuite(suite) for kind, suite in kernel.SUITES.items() if suite != 0x1304}
_UNUSED: Any = object()


def config(*, cipher: int = 0, ticket: int = 0, certificate: int = 0, version: int = 0) -> bytes:
    """Encode the option CONFIG as a socket's owner sets it."""
    return CONFIG.pack(version, 0, 0, cipher, 0, 0, 0, ticket, certificate, 0)


def refuse(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class _Mailbox(tls.Context):
    """Stand-in for aioquic's TLS: puts what comes into the socket's queue."""

    def __init__(self, owner: StandIn, is_client: bool) -> None:
        super().__init__(is_client=is_client)
        self.owner = owner
        self.level = Epoch.INITIAL
        self.state = State.CLIENT_EXPECT_SERVER_HELLO if is_client else State.SERVER_EXPECT_CLIENT_HELLO
        self.received_extensions = []
        self.legacy_session_id = b""

    def handle_message(self, input_data: bytes, output_buf: dict[Epoch, Buffer]) -> None:
        if input_data:
            self.owner.on_crypto(LEVELS[self.level], input_data)


class _Connection(QuicConnection):
    owner: StandIn

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        self.tls = _Mailbox(self.owner, self._is_client)

    def _handle_crypto_frame(self, context: Any, frame_type: int, buf: Buffer) -> None:
        mailbox = self.tls
        assert isinstance(mailbox, _Mailbox)
        mailbox.level = context.epoch
        super()._handle_crypto_frame(context, frame_type, buf)

    def establish(self) -> None:
        """Establish the connection, as aioquic does when its own TLS has ended."""
        self._handshake_complete = True
        if not self._is_client:
            self._confirm_handshake()
            self._handshake_done_pending = True
        self._replenish_connection_ids()
        self._unblock_streams(is_unidirectional=False)
        self._unblock_streams(is_unidirectional=True)

    def write_crypto(self, epoch: Epoch, data: bytes) -> None:
        self._crypto_streams[epoch].sender.write(data)

    def can_send(self, epoch: Epoch) -> bool:
        return self._cryptos[epoch].send.is_valid()

    def install(self, direction: Direction, epoch: Epoch, suite: CipherSuite, secret: bytes) -> None:
        self._update_traffic_key(direction, epoch, suite, secret)

    def take_parameters(self, body: bytes) -> None:
        assert self.tls is not None
        self.tls.received_extensions = [(0x39, body)]
        self._alpn_handler("")

    def parameters(self) -> bytes:
        return self._serialize_transport_parameters()

    @property
    def wire_version(self) -> int:
        return self._version or 0


class StandIn(asyncio.DatagramProtocol):
    """One socket.  ``chunk``: bytes that one ``receive`` gives at most, as a short buffer would."""

    def __init__(self, *, is_client: bool, version: int = 1) -> None:
        self._is_client = is_client
        versions = [version, *({1, 0x6B3343CF} - {version})]
        self.configuration = QuicConfiguration(
            is_client=is_client, original_version=version, supported_versions=versions, max_datagram_frame_size=65535
        )
        if not is_client:
            self.configuration.certificate = self.configuration.private_key = _UNUSED
        self._loop = asyncio.get_running_loop()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._connection: _Connection | None = None
        self._transport: asyncio.DatagramTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._peer: Any = None
        self._queue: deque[tuple[int | None, bytes]] = deque()
        self._options: dict[int, bytes] = {kernel.CONFIG: config(), kernel.ALPN: b"", kernel.SESSION_TICKET: b""}
        self._levels: dict[int, set[bool]] = {}
        self._parameters_set = False
        self._new_tickets = b""
        self._close_code = 0
        self.chunk = 65536
        self.established = False
        self.closed = False
        self.secrets: dict[tuple[bool, int], bytes] = {}
        self.reads_after_establishment = 0
        self.application_data = bytearray()
        self.ready = asyncio.Event()
        """A server's: the first packet of its client has come."""

    # How its owner makes it.

    async def connect(self, address: tuple[str, int]) -> None:
        await self._loop.create_datagram_endpoint(lambda: self, remote_addr=address)
        self._peer = address
        self._start(_Connection(configuration=self.configuration))
        assert self._connection is not None
        self._connection.connect(address, now=self._loop.time())

    async def listen(self) -> tuple[str, int]:
        transport, _ = await self._loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        address: tuple[str, int] = transport.get_extra_info("sockname")
        return address

    def _start(self, connection: _Connection) -> None:
        connection.owner = self
        self._connection = connection

    def close(self) -> None:
        """Close it by the only abort: the peer sees 0x0c."""
        if self._timer is not None:
            self._timer.cancel()
        if self._connection is not None and not self.closed:
            self._connection.close(error_code=0x0C, frame_type=0x06)
            self.flush()
        self.closed = True
        if self._transport is not None:
            self._transport.close()
        if self._event >= 0:
            os.close(self._event)
            self._event = -1

    # Packets.

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if self.closed:
            return
        if self._connection is None:
            header = pull_quic_header(Buffer(data=data), host_cid_length=8)
            made = _Connection(
                configuration=self.configuration, original_destination_connection_id=header.destination_cid
            )
            self._peer = addr
            self._start(made)
        assert self._connection is not None
        self._connection.receive_datagram(data, self._peer, now=self._loop.time())
        self._take_events()
        self.flush()

    def flush(self) -> None:
        if self._connection is None or self._transport is None:
            return
        now = self._loop.time()
        for data, _ in self._connection.datagrams_to_send(now=now):
            self._transport.sendto(data, None if self._is_client else self._peer)
        if self._timer is not None:
            self._timer.cancel()
        due = self._connection.get_timer()
        self._timer = None if due is None else self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        assert self._connection is not None
        self._timer = None
        self._connection.handle_timer(now=self._loop.time())
        self._take_events()
        if not self.closed:
            self.flush()

    def _take_events(self) -> None:
        assert self._connection is not None
        while (event := self._connection.next_event()) is not None:
            if isinstance(event, events.ConnectionTerminated):
                self.closed = True
                self._close_code = event.error_code
                self._wake()
            elif isinstance(event, events.StreamDataReceived):
                self.application_data += event.data
                self._put(None, event.data)

    def on_crypto(self, level: int, data: bytes) -> None:
        self.ready.set()
        if level == kernel.APPLICATION:
            self._new_tickets += data  # kept in the option, and not given out
        else:
            self._put(level, data)

    def _put(self, level: int | None, data: bytes) -> None:
        self._queue.append((level, data))
        self._wake()

    def _wake(self) -> None:
        if self._event >= 0:
            os.eventfd_write(self._event, 1)

    # The socket-option boundary.

    def fileno(self) -> int:
        return self._event

    def get_option(self, option: int, size: int) -> bytes:
        value = self._get(option)
        if option == kernel.CONFIG:
            return value[:size]
        if size < len(value):
            raise refuse(errno.EINVAL)
        return value

    def _get(self, option: int) -> bytes:
        if option == kernel.TRANSPORT_PARAMETERS:
            self._must_be_establishing()
            if not self._is_client and not self._parameters_set:
                raise refuse(errno.EINVAL)  # they would not answer the client's
            assert self._connection is not None
            return self._connection.parameters()
        if option == kernel.SESSION_TICKET:
            return self._ticket()
        if option == kernel.CONNECTION_CLOSE:
            return struct.pack("=IB3x64s", self._close_code, 0, b"")
        if option == 4:
            if not self.established:
                raise refuse(errno.EINVAL)
            return bytes(12)
        if option not in self._options:
            raise refuse(errno.ENOPROTOOPT)
        return self._options[option]

    def _ticket(self) -> bytes:
        stored = self._options[kernel.SESSION_TICKET]
        if self._is_client:
            return stored if not self.established else (stored or self._new_tickets)
        if self.closed:
            raise refuse(errno.EPIPE)
        return stored or bytes(range(64))

    def set_option(self, option: int, value: bytes) -> None:
        if option == kernel.CRYPTO_SECRET:
            self._install(value)
        elif option == kernel.TRANSPORT_PARAMETERS:
            self._take_parameters(value)
        elif option == kernel.ALPN:
            self._store(option, value, 1, kernel.MAX_ALPN)
        elif option == kernel.SESSION_TICKET:
            self._store(option, value, kernel.MIN_TICKET, kernel.MAX_TICKET)
        elif option == kernel.CONFIG:
            if self.established or len(value) != kernel.CONFIG_SIZE:
                raise refuse(errno.EINVAL)
            self._options[option] = value
        else:
            raise refuse(errno.ENOPROTOOPT)

    def _store(self, option: int, value: bytes, least: int, most: int) -> None:
        if not least <= len(value) <= most:
            raise refuse(errno.EINVAL)
        self._options[option] = value

    def _must_be_establishing(self) -> None:
        if self.established or self.closed or self._connection is None:
            raise refuse(errno.EINVAL)

    def _take_parameters(self, value: bytes) -> None:
        self._must_be_establishing()
        if len(value) > kernel.MAX_TRANSPORT_PARAMETERS:
            raise refuse(errno.EINVAL)
        assert self._connection is not None
        try:
            self._connection.take_parameters(value)
        except QuicConnectionError:
            raise refuse(errno.EINVAL) from None
        self._parameters_set = True

    def _install(self, value: bytes) -> None:
        self._must_be_establishing()
        if len(value) != 56:
            raise refuse(errno.EINVAL)
        send, level, kind, secret = struct.unpack("=BBxxI48s", value)
        suite = SUITES.get(kind)
        if level not in (kernel.APPLICATION, kernel.HANDSHAKE) or suite is None or send > 1:
            raise refuse(errno.EINVAL)
        early = not self._is_client and not self._parameters_set
        if early or (level == kernel.APPLICATION and len(self._levels.get(kernel.HANDSHAKE, ())) < 2):
            raise refuse(errno.EINVAL)
        if self._is_client and level == kernel.APPLICATION and not self._parameters_set:
            raise refuse(errno.EINVAL)
        assert self._connection is not None
        size = tls.cipher_suite_hash(suite).digest_size
        direction = Direction.ENCRYPT if send else Direction.DECRYPT
        self._connection.install(direction, EPOCHS[level], suite, secret[:size])
        self.secrets[bool(send), level] = secret[:size]
        self._levels.setdefault(level, set()).add(bool(send))
        if len(self._levels.get(kernel.APPLICATION, ())) == 2:
            self.established = True
            if self._is_client:
                self._options[kernel.SESSION_TICKET] = b""
            self._connection.establish()
            self.flush()

    # Messages.

    def receive(self) -> Received:
        if self.established:
            self.reads_after_establishment += 1
        if not self._queue:
            if self.closed:
                raise refuse(errno.ENOTCONN)
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._event)
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        level, data = self._queue.popleft()
        if len(data) > self.chunk:
            self._queue.appendleft((level, data[self.chunk :]))
        return Received(level, data[: self.chunk])

    def send(self, level: int, data: bytes, *, more: bool) -> int:
        if self.closed:
            raise refuse(errno.EPIPE)
        epoch = EPOCHS.get(level)
        assert self._connection is not None
        if epoch is None or not self._connection.can_send(epoch):
            raise refuse(errno.EINVAL)
        if not data:
            raise refuse(errno.EMSGSIZE)
        self._connection.write_crypto(epoch, data)
        if not more:
            self.flush()
        return len(data)

    # As the consumer uses it afterwards.

    def send_application_data(self, data: bytes) -> None:
        assert self._connection is not None
        assert self.established
        self._connection.send_stream_data(self._connection.get_next_available_stream_id(), data, end_stream=True)
        self.flush()

    @property
    def version(self) -> int:
        assert self._connection is not None
        return self._connection.wire_version


def module_is_here() -> bool:
    """True if this kernel has the real module."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM, kernel.IPPROTO_QUIC).close()
    except OSError:
        return False
    return True
