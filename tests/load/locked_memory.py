"""A socket whose lock is held: send() has it while it waits for memory that nobody provides (userfaultfd(2))."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import select
import socket
import struct
import threading

_MACHINES = {"x86_64": 323, "aarch64": 282}
_UFFDIO_API = 0xC018AA3F
_UFFDIO_REGISTER = 0xC020AA00
_API = 0xAA
_MISSING = 1
_SIZE = 1 << 20


def userfaultfd() -> int:
    """Return a descriptor by which this process provides memory, also for system calls.

    Root alone may have one of this kind; to be used after a change of the user.  Raises OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    fd = int(libc.syscall(_MACHINES[os.uname().machine], os.O_CLOEXEC | os.O_NONBLOCK))
    if fd < 0:
        raise OSError(ctypes.get_errno(), "userfaultfd")
    return fd


def held_lock(fd: int) -> socket.socket:
    """Return a connected TCP socket; a thread of this process is within its send() until the process ends."""
    fcntl.ioctl(fd, _UFFDIO_API, bytearray(struct.pack("=QQQ", _API, 0, 0)))
    memory = mmap.mmap(-1, _SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    fcntl.ioctl(fd, _UFFDIO_REGISTER, bytearray(struct.pack("=QQQQ", address, _SIZE, _MISSING, 0)))
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    sender = threading.Thread(target=lambda: (far, near.send(memoryview(memory)[:65536])), daemon=True)
    sender.start()
    _wait_for_fault(fd)
    return near


def _wait_for_fault(fd: int) -> None:
    """Wait until the thread's system call waits for the memory: the kernel asks for it."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(30_000)
