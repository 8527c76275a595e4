"""The raw-netlink form of the service by hand, for tests that must not rest on the code that they test: an agent, and
the device by which a test is a consumer.

The numbers are those of ``modules/include/uapi/hsframework/handshake.h``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.kernel import uml
from tests.kernel.genl import Attributes, attribute, attributes
from tests.kernel.machine import debian, load

MODULE = "hsframework_handshake"
GREETER = "hsframework_greeter"
NETLINK_HANDSHAKE = 23
SOL_NETLINK, ADD_MEMBERSHIP, DROP_MEMBERSHIP = 270, 1, 2
NLMSG_ERROR, NLA_F_NESTED = 2, 0x8000
READY, ACCEPT, DONE = 0x11, 0x12, 0x13
MSG_STATUS, SOCKFD, PROTOCOL, ACCEPT_RESP, DONE_ARGS = 1, 2, 3, 4, 5
OK, INVAL, BADF, NOTREADY, SYSTEMFAULT = range(5)
TLSHD, QUIC, PSP = 1, 2, 3
CLIENT, SERVER = 1, 2
UNAUTH, PSK, X509 = 1, 2, 3
RAW, KERNEL_TLS = 0, 1
_SUBMISSION = struct.Struct("=iIIIIIIIiiiI5i256s256s")
_OUTCOME = struct.Struct("=iI5i")
_SUBMIT = 1 << 30 | _SUBMISSION.size << 16 | ord("h") << 8 | 1
_CANCEL = ord("h") << 8 | 2


def inserted() -> None:
    """Load the module unless it is loaded."""
    if not present():
        insert()


def insert(module: str = MODULE, **parameters: int) -> None:
    """Load the module anew, with these parameters."""
    remove(module)
    words = [f"{name}={value}" for name, value in parameters.items()]
    debian("insmod", str(uml.CHECKOUT / "build/kernel/ko" / f"{module}.ko"), *words)


def remove(module: str = MODULE) -> None:
    """Unload the module, if it is there.  Raises AssertionError with rmmod's words: it is in use."""
    if present(module):
        debian("rmmod", module)


@contextlib.contextmanager
def loaded(module: str = MODULE, **parameters: int) -> Iterator[None]:
    """Have the module loaded anew, with these parameters, within the block."""
    insert(module, **parameters)
    try:
        yield
    finally:
        remove(module)


@contextlib.contextmanager
def published(*, protocols: int) -> Iterator[None]:
    """Have the module, and kTLS, in the published dialect, with few that may wait."""
    load("tls")
    with loaded(protocols=protocols, limit=8, dialect=1):
        yield


@contextlib.contextmanager
def with_greeter(protocol: int, *, limit: int = 8, **parameters: int) -> Iterator[None]:
    """Have the module with the greeter on it, whose ``parameters`` are the further ones."""
    with loaded(protocols=protocol, limit=limit), loaded(GREETER, protocol=protocol, **parameters):
        yield


def present(module: str = MODULE) -> bool:
    """Return True if the module is loaded."""
    return Path("/sys/module", module).exists()


def set_limit(number: int, what: str = "limit") -> None:
    """Set how many requests of a group may wait in a namespace, or ("lent") how many sockets its agents may have."""
    Path("/sys/module", MODULE, "parameters", what).write_text(str(number))


@contextlib.contextmanager
def returned() -> Iterator[None]:
    """Give back, after the block, the sockets and open files of the device that it leaves open.

    A test that fails leaves them in its traceback, and the module would count them for as long.  Their numbers stay
    taken: somebody may yet close them.
    """
    before = _open_files()
    try:
        yield
    finally:
        for fd, what in _open_files().items():
            if before.get(fd) != what and what.startswith(("socket:", f"/dev/{MODULE}", f"/dev/{GREETER}")):
                _replace(fd)


def _open_files() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def _replace(fd: int) -> None:
    nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    os.dup2(nothing, fd, inheritable=False)
    os.close(nothing)


def users() -> int:
    """Return the module's count of agents' sockets, lent sockets, requests and open files of the device."""
    return int(Path("/sys/module", MODULE, "refcnt").read_text())


@dataclass(frozen=True)
class Outcome:
    """The end of a request: 0 or a positive errno, and who the peer is."""

    status: int
    peers: tuple[int, ...] = ()


class Submission:
    """An open file of the device: one request."""

    def __init__(self) -> None:
        self.fd = os.open(f"/dev/{MODULE}", os.O_RDWR | os.O_CLOEXEC)

    def submit(
        self,
        fd: int,
        *,
        protocol: int = TLSHD,
        service: int = RAW,
        role: int = CLIENT,
        auth: int = UNAUTH,
        timeout: int = 0,
        urgency: int = 0,
        handshake_type: int = 0,
        keyring: int = 0,
        certificate: int = 0,
        private_key: int = 0,
        peers: Sequence[int] = (),
        peername: str = "",
        priorities: str = "",
    ) -> None:
        """Ask for a handshake on a socket.  Raises OSError: ESRCH, EAGAIN, EBUSY …"""
        serials = [*peers, 0, 0, 0, 0, 0][:5]
        numbers = (protocol, role, auth, timeout, urgency, handshake_type)
        keys = (keyring, certificate, private_key, len(peers), *serials)
        texts = (os.fsencode(peername), os.fsencode(priorities))
        fcntl.ioctl(self.fd, _SUBMIT, _SUBMISSION.pack(fd, service, *numbers, *keys, *texts))

    def cancel(self) -> None:
        """Withdraw the request.  Raises OSError: EALREADY, it is over."""
        fcntl.ioctl(self.fd, _CANCEL)

    @property
    def waits(self) -> bool:
        return not select.select([self.fd], [], [], 0)[0]

    def outcome(self, timeout: float = 20) -> Outcome:
        """Wait for the outcome."""
        assert select.select([self.fd], [], [], timeout)[0], "the request does not end"
        return self.read()

    def read(self) -> Outcome:
        """Read the outcome of a request that is over."""
        status, number, *serials = _OUTCOME.unpack(os.read(self.fd, _OUTCOME.size))
        return Outcome(-status, tuple(serials[:number]))

    def close(self) -> None:
        """Withdraw the request unless it is over."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Submission:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def submitted(sock: socket.socket, **values: object) -> Iterator[Submission]:
    """Submit a request on this socket."""
    with Submission() as made:
        made.submit(sock.fileno(), **values)  # type: ignore[arg-type]
        yield made


@dataclass(frozen=True)
class Taken:
    """ACCEPT's answer.  ``arguments``: of the nest, in their order."""

    fd: int
    protocol: int
    arguments: Attributes

    @property
    def peer(self) -> object:
        """The address of the connection's other end."""
        with socket.socket(fileno=os.dup(self.fd)) as sock:
            return sock.getpeername()

    def number(self, kind: int) -> int | None:
        """Return an argument that is a number, or None."""
        found = [int.from_bytes(payload, "little") for number, payload in self.arguments if number == kind]
        return found[0] if found else None


class Agent:
    """A socket of the family.  A refusal by the service is :class:`Refused`, one by netlink an OSError.

    Closed, it closes what it was lent, too.
    """

    def __init__(self, *groups: int) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_HANDSHAKE)
        self.socket.bind((0, 0))
        self.socket.settimeout(20)
        self._sequence = 0
        self._ready = 0
        self._lent: set[int] = set()
        for group in groups:
            self.join(group)

    def join(self, group: int) -> None:
        self.socket.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, group)

    def leave(self, group: int) -> None:
        self.socket.setsockopt(SOL_NETLINK, DROP_MEMBERSHIP, group)

    def await_ready(self) -> None:
        """Wait for one announcement."""
        while not self._ready:
            self._receive()
        self._ready -= 1

    @property
    def hears_nothing(self) -> bool:
        """No announcement waits."""
        return not self._ready and not select.select([self.socket], [], [], 0)[0]

    def accept(self, protocol: int = TLSHD) -> Taken | None:
        """Take the next request of the protocol; None: none waits."""
        fields = self.ask(ACCEPT, attribute(PROTOCOL, struct.pack("=I", protocol)))
        if _number(fields, MSG_STATUS) == NOTREADY:
            return None
        if _number(fields, MSG_STATUS) != OK:
            raise Refused(_number(fields, MSG_STATUS))
        nest = attributes(dict(fields)[ACCEPT_RESP])
        fd = _number(fields, SOCKFD)
        self._lent.add(fd)
        return Taken(fd, _number(fields, PROTOCOL), nest)

    def take(self, protocol: int = TLSHD) -> Taken:
        """Take the next request of the protocol, which must be there."""
        found = self.accept(protocol)
        assert found is not None, "no request waits"
        return found

    def done(
        self, fd: int, status: int | None = 0, peers: Sequence[int] = (), further: bytes = b"", **values: int
    ) -> None:
        """End a request.  ``further``: attributes behind the others in the nest.  ``values``: ``protocol``."""
        arguments = b"" if status is None else attribute(1, struct.pack("=I", status))
        arguments += b"".join(attribute(3, struct.pack("=I", peer)) for peer in peers)
        body = attribute(SOCKFD, struct.pack("=I", fd)) + attribute(DONE_ARGS | NLA_F_NESTED, arguments + further)
        if "protocol" in values:
            body += attribute(PROTOCOL, struct.pack("=I", values["protocol"]))
        fields = self.ask(DONE, body, acknowledge=True)
        if fields:
            raise Refused(_number(fields, MSG_STATUS))
        self._lent.discard(fd)

    def let_go(self, fd: int) -> None:
        """Close what was lent, without a word."""
        self._lent.discard(fd)
        os.close(fd)

    def ask(self, kind: int, body: bytes, *, acknowledge: bool = False) -> Attributes:
        """Send a message and return the attributes of the answer; none where it is an acknowledgement."""
        self._sequence += 1
        header = struct.pack("=IHHII", 16 + len(body), kind, 5 if acknowledge else 1, self._sequence, 0)
        self.socket.send(header + body)
        found: Attributes = []
        while True:
            kind_of_answer, payload = self._receive()
            if kind_of_answer == NLMSG_ERROR:
                code = -struct.unpack_from("=i", payload)[0]
                if code:
                    raise OSError(code, os.strerror(code))
                return found
            if kind_of_answer in (ACCEPT, DONE):
                found = attributes(payload)
                if not acknowledge:
                    return found

    def _receive(self) -> tuple[int, bytes]:
        data = self.socket.recv(1 << 16)
        length, kind = struct.unpack_from("=IH", data)
        assert length == len(data)
        if kind == READY:
            assert length == 16
            self._ready += 1
        return kind, data[16:]

    def close(self) -> None:
        self.socket.close()
        while self._lent:
            os.close(self._lent.pop())

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Refused(OSError):
    """MSG_STATUS says so."""

    def __init__(self, status: int) -> None:
        super().__init__(errno.EPROTO, f"MSG_STATUS {status}")
        self.status = status


def _number(fields: Attributes, kind: int) -> int:
    return int.from_bytes(dict(fields)[kind], "little")
