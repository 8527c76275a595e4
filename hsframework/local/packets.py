"""Packets of messages with file descriptors, over AF_UNIX SOCK_SEQPACKET.

The rules:

* A packet is one message, and carries at most one fd; or it is several messages, :data:`MAX_BATCH` at most, each with
  its length in its header.  Of several, those with :data:`HAS_FD` among their flags have one fd each, in their order.
* A packet that was cut off (MSG_TRUNC), whose fds were cut off (MSG_CTRUNC), or whose fds do not match its messages is
  refused: every fd of it is closed, and :class:`~hsframework.errors.MessageError` raised.  In a packet without fds the
  flag is ignored; the reader of the message reports the missing fd.  Where the fds find no room in this process, which
  is no fault of the sender, the packet is dropped with OSError (EMFILE).
* An fd that is sent stays the sender's.  An fd that is received belongs to the receiver, close-on-exec.
"""

from __future__ import annotations

import array
import errno
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Sequence

from hsframework.errors import MessageError

MAX_PACKET = 200 * 1024
"""Bytes of one packet: below Linux's default SO_SNDBUF (212,992) less its overhead."""

MAX_BATCH = 64
"""Messages in one packet."""

HAS_FD = 0x1000
"""Flag in ``nlmsg_flags``: one of the packet's fds belongs to this message.  Optional in a packet of one message."""

# As plain integers, because the operators of the enum cost more than the system call.
_TRUNC, _CTRUNC = int(socket.MSG_TRUNC), int(socket.MSG_CTRUNC)
_NOSIGNAL, _CLOEXEC = int(socket.MSG_NOSIGNAL), int(socket.MSG_CMSG_CLOEXEC)
_MOST_FDS = 253
_LEAST_MESSAGE = 16
# Room for all fds that the kernel allows in one packet: it would close those that do not fit, within our thread.
_CONTROL_SIZE = socket.CMSG_SPACE(_MOST_FDS * 4) + socket.CMSG_SPACE(12)

Item = tuple[bytes, int | None]
"""A message, and its fd or None."""


class _Buffer(threading.local):
    """The buffer into which packets are received, one for each thread; it is large, and all links share it."""

    def __init__(self) -> None:
        self.memory = bytearray(MAX_PACKET + 1)
        self.view = memoryview(self.memory)


_buffer = _Buffer()


def check_size(data: bytes) -> None:
    """Raise MessageError if ``data`` does not fit into a packet."""
    if len(data) > MAX_PACKET:
        raise MessageError(f"a message of {len(data)} bytes; at most {MAX_PACKET} go into one")


def send_packet(sock: socket.socket, data: bytes, *fds: int) -> None:
    """Send one packet with its fds.

    Raises MessageError if it is too long, BlockingIOError if the peer's queue is full, OSError if the peer has closed.
    """
    check_size(data)
    if fds:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        sock.sendmsg([data], rights, _NOSIGNAL)
    else:
        sock.send(data, _NOSIGNAL)


def receive_packet(sock: socket.socket, close_fd: Callable[[int], None] = os.close) -> tuple[bytes, list[int]]:
    """Receive one packet and its fds; ``(b"", [])`` if the peer has closed.

    ``close_fd``: closes the fds of a packet that is refused.  Raises MessageError (see the rules), OSError; with EMFILE
    the next packet may be received all the same.
    """
    size, control, flags, _ = sock.recvmsg_into([_buffer.memory], _CONTROL_SIZE, _CLOEXEC)
    if not control and not flags & (_TRUNC | _CTRUNC):
        return bytes(_buffer.view[:size]), []
    fds = _received_fds(control)
    if flags & _TRUNC:
        raise _refused(f"a message of more than {MAX_PACKET} bytes", fds, close_fd)
    if flags & _CTRUNC:
        refused = _refused("file descriptors were cut off a message", fds, close_fd)
        if _out_of_descriptors(sock):
            raise OSError(errno.EMFILE, "a message's file descriptors find no room in this process")
        raise refused
    return bytes(_buffer.view[:size]), fds


def _out_of_descriptors(sock: socket.socket) -> bool:
    """True if this process may have no further file descriptor."""
    try:
        os.close(os.dup(sock.fileno()))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    return False


def joined(items: Iterable[Item]) -> bytes:
    """Join messages into a packet; their fds are to be sent with it, in the same order."""
    return b"".join([data if fd is None else _marked(data) for data, fd in items])


def taken_apart(data: bytes, fds: Sequence[int], close_fd: Callable[[int], None] = os.close) -> Sequence[Item]:
    """Return the messages of a received packet, each with its fd.

    Raises MessageError (see the rules) after closing the fds with ``close_fd``.
    """
    whole = int.from_bytes(data[:4], sys.byteorder) >= len(data)
    messages = [data] if whole else messages_of(data)
    if len(messages) == 1:
        if len(fds) > 1:
            raise _refused(f"a message with {len(fds)} file descriptors; one is allowed", fds, close_fd)
        return ((data, fds[0] if fds else None),)
    if len(messages) > MAX_BATCH:
        raise _refused(f"a packet of {len(messages)} messages; {MAX_BATCH} are allowed", fds, close_fd)
    if not fds:
        return [(message, None) for message in messages]
    marked = [bool(_flags(message) & HAS_FD) for message in messages]
    if sum(marked) != len(fds):
        raise _refused(f"a packet with {len(fds)} file descriptors for {sum(marked)} messages", fds, close_fd)
    rest = iter(fds)
    return [(message, next(rest) if has_fd else None) for message, has_fd in zip(messages, marked, strict=True)]


def messages_of(data: bytes) -> list[bytes]:
    """Split a packet into its messages; from the first with an impossible length on, the rest is one message."""
    messages = []
    offset = 0
    while offset < len(data):
        length = int.from_bytes(data[offset : offset + 4], sys.byteorder)
        if length < _LEAST_MESSAGE or offset + length > len(data):
            length = len(data) - offset
        messages.append(data[offset : offset + length])
        offset += length
    return messages


def _flags(message: bytes) -> int:
    return int.from_bytes(message[6:8], sys.byteorder)


def _marked(message: bytes) -> bytes:
    return message[:6] + (_flags(message) | HAS_FD).to_bytes(2, sys.byteorder) + message[8:]


def _received_fds(control: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return fds.tolist()


def _refused(problem: str, fds: Sequence[int], close_fd: Callable[[int], None]) -> MessageError:
    for fd in fds:
        close_fd(fd)
    return MessageError(problem)
