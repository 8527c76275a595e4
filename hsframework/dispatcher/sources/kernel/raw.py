"""First published form of the service: a netlink family of its own, with a multicast group for every protocol.

A kernel has it where a module offers it, which may come and go while we run.  The module cannot be removed while any
process has a socket of the family open.  ``docs/design/raw-netlink.md`` has the bytes, and the choices that are ours.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from typing import Any

from hsframework.dispatcher.sources.kernel.wire import Wire
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
            super().__init__(requests, protocol, _SPECIFICATION, 0)
            self._spare = os.dup(self.fileno())
        except BaseException:
            requests.close()
            raise

    def _group(self, group: str) -> int:
        return self._protocols[group]

    def accept(self, group: str) -> Mapping[str, Any] | None:
        (answer,) = self._requests.request(self._codec, "accept", {"protocol": self._protocols[group]})
        if answer.values.get("msg-status") == _STATUS["notready"]:
            return None
        _check("ACCEPT", answer)
        return {**answer.values.get("accept-resp", {}), "sockfd": answer.values.get("sockfd", -1)}

    def done(self, fd: int, status: int, peers: Sequence[int]) -> None:
        # DONE closes the descriptor that it names: the spare one, which exists even if no further fd can be had.
        os.dup2(fd, self._spare, inheritable=False)
        try:
            values = {"sockfd": self._spare, "done-args": {"status": status, "remote-auth": peers}}
            for answer in self._requests.request(self._codec, "done", values, acknowledge=True):
                _check("DONE", answer)
        except BaseException:
            os.dup2(self.fileno(), self._spare, inheritable=False)
            raise
        self._spare = os.dup(self.fileno())

    def close(self) -> None:
        os.close(self._spare)
        super().close()


def _check(operation: str, answer: Message) -> None:
    status = answer.values.get("msg-status", _STATUS["ok"])
    if status != _STATUS["ok"]:
        names = {number: name for name, number in _STATUS.items()}
        raise NetlinkError(
            f"the module refuses {operation}: {names.get(status, status)}", errno=_ERRNO.get(status, errno.EIO)
        )
