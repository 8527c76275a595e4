"""First published form of the service: a netlink family of its own, with a multicast group for every protocol.

A kernel has it where a module offers it, which may come and go while we run.  The module cannot be removed while any
process has a socket of the family open.  ``docs/design/raw-netlink.md`` has the bytes, and the choices that are ours.
The contents of the nests are in :mod:`~hsframework.dispatcher.sources.kernel.raw_dialects`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Mapping

import structlog

from hsframework.dispatcher.sources.kernel.raw_codec import RawCodec
from hsframework.dispatcher.sources.kernel.raw_dialects import MECHANISM, UNKNOWN, Dialect, dialect_named, dialect_of
from hsframework.dispatcher.sources.kernel.wire import Accepted, Ending, Wire
from hsframework.errors import MessageError
from hsframework.netlink.attributes import MAX_PAYLOAD, attributes_from
from hsframework.netlink.messages import Message
from hsframework.netlink.socket import NetlinkError, RequestSocket, has_family
from hsframework.netlink.spec import builtin_specification

_SPECIFICATION = builtin_specification("handshake-raw")
_STATUS = _SPECIFICATION.enums["status"]
_ERRNO = {
    _STATUS["inval"]: errno.EINVAL,
    _STATUS["badf"]: errno.EBADF,
    _STATUS["notready"]: errno.EAGAIN,
    _STATUS["systemfault"]: errno.EIO,
}

_log = structlog.get_logger("hsframework.dispatcher")


class RawWire(Wire):
    """The first published form.  ``protocols``: numbers by group; a protocol and its group have the same number.

    Raises NetlinkError: EPROTONOSUPPORT where no module offers the service.
    """

    def __init__(self, protocols: Mapping[str, int]) -> None:
        protocol = _SPECIFICATION.protonum
        assert protocol is not None
        if not has_family(protocol):
            raise NetlinkError(f"netlink family {protocol}: no module offers it", errno=errno.EPROTONOSUPPORT)
        self._protocols = protocols
        requests = RequestSocket(protocol)
        try:
            super().__init__(requests, protocol, RawCodec(_SPECIFICATION))
            self._spare = os.dup(self.fileno())
        except BaseException:
            requests.close()
            raise

    def _group(self, group: str) -> int:
        return self._protocols[group]

    def join(self, group: str) -> None:
        """Join the group.  Raises NetlinkError; EINVAL: the module has no such protocol."""
        try:
            super().join(group)
        except NetlinkError as error:
            if error.errno != errno.EINVAL:
                raise
            number = self._protocols[group]
            raise NetlinkError(
                f"the module has no protocol {number}: load it with protocols={number} or more, or correct "
                f"{group!r} in [kernel.raw] protocols",
                errno=errno.EINVAL,
            ) from None

    def accept(self, group: str) -> Accepted | None:
        (answer,) = self._requests.request(self._codec, "accept", {"protocol": self._protocols[group]})
        if answer.values.get("msg-status") == _STATUS["notready"]:
            return None
        _check("ACCEPT", answer)
        return _accepted(answer)

    def done(self, fd: int, ending: Ending) -> None:
        dialect = dialect_named(ending.dialect)
        # DONE closes the descriptor that it names: the spare one, which exists even if no further fd can be had.
        os.dup2(fd, self._spare, inheritable=False)
        try:
            values = {"sockfd": self._spare, "done-args": _done_args(dialect, ending)}
            for answer in self._requests.request(self._codec, "done", values, acknowledge=True):
                _check("DONE", answer)
        except BaseException:
            if ending.status and dialect.closing_may_succeed:
                _shut_down(fd)
            os.dup2(self.fileno(), self._spare, inheritable=False)
            raise
        self._spare = os.dup(self.fileno())

    def close(self) -> None:
        os.close(self._spare)
        super().close()


def _accepted(answer: Message) -> Accepted:
    """Return the request of an ACCEPT.  One that cannot be read has its socket alone, and so is refused."""
    fd, nest = answer.values.get("sockfd", -1), answer.values.get("accept-resp", b"")
    try:
        dialect = dialect_of(nest)
        return Accepted({**dialect.accepted(nest), "sockfd": fd}, attributes_from(nest, MECHANISM), dialect.name)
    except MessageError as error:
        _log.error("ACCEPT brought a request that cannot be read", error=str(error))
        return Accepted({"sockfd": fd})


def _done_args(dialect: Dialect, ending: Ending) -> bytes:
    """Encode DONE_ARGS.  A success whose attributes make no nest is a failure."""
    try:
        nest = dialect.done(ending) + attributes_from(ending.mechanism, MECHANISM)
        if len(nest) <= MAX_PAYLOAD:
            return nest
        problem = f"{len(nest)} bytes are more than a nest's {MAX_PAYLOAD}"
    except MessageError as error:
        problem = str(error)
    _log.error("a session's attributes cannot be told to a kernel consumer", error=problem)
    return UNKNOWN.done(ending)


def _shut_down(fd: int) -> None:
    """End the connection of a request that failed, and whose socket is about to be closed without DONE."""
    with contextlib.suppress(OSError):
        sock = socket.socket(fileno=fd)
        try:
            sock.shutdown(socket.SHUT_RDWR)
        finally:
            sock.detach()


def _check(operation: str, answer: Message) -> None:
    status = answer.values.get("msg-status", _STATUS["ok"])
    if status != _STATUS["ok"]:
        names = {number: name for name, number in _STATUS.items()}
        raise NetlinkError(
            f"the module refuses {operation}: {names.get(status, status)}", errno=_ERRNO.get(status, errno.EIO)
        )
