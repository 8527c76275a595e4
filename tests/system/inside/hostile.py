"""A local user who attacks the service, in the guest: ``hostile.py UID ATTACK SUBMIT FOLDER``.

``SUBMIT``: in hexadecimal, a message of the consumers' socket that submits a request.  Tells the service manager once
the attack has had its effect, if it has one, and goes on until it is ended.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import resource
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable

sys.path.insert(0, "/run/host")

from tests.support.attacks import flooding, kept, leaving, link_to, send

DEVICE, SIZE = "/dev/nbd0", 16 << 20
HELD = 8 << 20
"""Offset from which on no page of the device is ever read."""

_NBD_SET_SOCK, _NBD_SET_BLKSIZE, _NBD_DO_IT, _NBD_SET_SIZE_BLOCKS = 0xAB00, 0xAB01, 0xAB03, 0xAB07
_REQUEST = struct.Struct(">IIQQI")
_REPLY = struct.Struct(">IIQ")
_REPLIES = 0x67446698


def _ready() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.connect(os.environ["NOTIFY_SOCKET"])
        manager.send(b"READY=1")


def hold_memory() -> None:
    """Attach, as root, a device of which some pages are never read, by a child that ends with this process."""
    subprocess.run(["modprobe", "nbd"], check=True)
    watched, _kept_open = os.pipe()
    kept.append(_kept_open)
    if os.fork():
        os.close(watched)
        return
    os.close(_kept_open)
    kernel, ours = socket.socketpair()
    device = os.open(DEVICE, os.O_RDWR)
    fcntl.ioctl(device, _NBD_SET_BLKSIZE, 4096)
    fcntl.ioctl(device, _NBD_SET_SIZE_BLOCKS, SIZE // 4096)
    fcntl.ioctl(device, _NBD_SET_SOCK, kernel.fileno())
    threading.Thread(target=fcntl.ioctl, args=(device, _NBD_DO_IT), daemon=True).start()
    threading.Thread(target=_answer, args=(ours,), daemon=True).start()
    os.read(watched, 1)
    os._exit(0)


def _answer(ours: socket.socket) -> None:
    while data := ours.recv(_REQUEST.size, socket.MSG_WAITALL):
        _, _, handle, offset, length = _REQUEST.unpack(data)
        if offset + length <= HELD or offset >= HELD + mmap.PAGESIZE * 64:
            ours.sendall(_REPLY.pack(_REPLIES, 0, handle) + bytes(length))


def locked(folder: str, submit: bytes) -> None:
    """Hand over a socket whose lock a thread of this process has, within a send() of memory that never comes."""
    device = os.open(DEVICE, os.O_RDONLY)
    memory = mmap.mmap(device, SIZE, mmap.MAP_SHARED, mmap.PROT_READ)
    memory.madvise(mmap.MADV_RANDOM)
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        kept.append(server.accept())
    view = memoryview(memory)[HELD : HELD + 65536]
    sender = threading.Thread(target=near.send, args=(view,), daemon=True)
    sender.start()
    sender.join(2)
    assert sender.is_alive()
    link = link_to(f"{folder}/consumer.sock")
    send(link, submit, near.fileno())
    _ready()
    sender.join()


ATTACKS: dict[str, Callable[[str, bytes], None]] = {
    "locked": locked,
    "lingering": lambda folder, submit: leaving(folder, submit, _ready),
    "flooding": lambda folder, submit: flooding(folder, _ready),
}


if __name__ == "__main__":
    _, uid, attack, submit, folder = sys.argv
    resource.setrlimit(resource.RLIMIT_NOFILE, (16384, 16384))
    if attack == "locked":
        hold_memory()
        while not os.access(DEVICE, os.R_OK) or int(open("/sys/block/nbd0/size").read()) == 0:
            os.sched_yield()
        os.chmod(DEVICE, 0o444)
    os.setgroups([])
    os.setgid(int(uid))
    os.setuid(int(uid))
    ATTACKS[attack](folder, bytes.fromhex(submit))
