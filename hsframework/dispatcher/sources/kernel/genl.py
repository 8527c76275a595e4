"""Kernel's own form of the service: the ``handshake`` family of generic netlink (Linux 6.4)."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from hsframework.dispatcher.sources.kernel.wire import Accepted, Ending, Wire
from hsframework.netlink.control import accepted_attributes, find_family
from hsframework.netlink.handler_classes import NO_CLASS, handler_classes
from hsframework.netlink.kernel_codec import KernelCodec
from hsframework.netlink.socket import NETLINK_GENERIC, NetlinkError, RequestSocket
from hsframework.netlink.spec import builtin_specification

_SPECIFICATION = builtin_specification("handshake")


class GenericWire(Wire):
    """The kernel's own form.  Raises NetlinkError: EOPNOTSUPP where the kernel has no such family."""

    def __init__(self) -> None:
        requests = RequestSocket(NETLINK_GENERIC)
        try:
            family = find_family(requests, _SPECIFICATION.name)
            if family is None:
                raise NetlinkError(
                    "this kernel has no handshake family (Linux 6.4, CONFIG_NET_HANDSHAKE)", errno=errno.EOPNOTSUPP
                )
            # Asked of the running kernel: one unknown attribute makes it refuse a DONE, and nothing completes.
            self._done_takes = accepted_attributes(requests, family, _SPECIFICATION, "done")
            self._groups = family.groups
            self._classes = handler_classes(family)
            codec = KernelCodec(_SPECIFICATION, message_type=family.number)
            super().__init__(requests, NETLINK_GENERIC, codec)
        except BaseException:
            requests.close()
            raise

    def _group(self, group: str) -> int:
        if group not in self._classes:
            raise NetlinkError(f"the kernel's family has no group {group!r}", errno=errno.EINVAL)
        return self._groups[group]

    def accept(self, group: str) -> Accepted | None:
        try:
            answers = self._requests.request(self._codec, "accept", {"handler-class": self._classes[group]})
        except NetlinkError as error:
            if error.errno == errno.EAGAIN:
                return None
            raise
        return Accepted(answers[0].values)

    def done(self, fd: int, ending: Ending) -> None:
        values = {"status": ending.status, "sockfd": fd, "remote-auth": ending.peers}
        accepted = {name: value for name, value in values.items() if name in self._done_takes}
        self._requests.request(self._codec, "done", accepted, acknowledge=True)


@dataclass(frozen=True)
class Refusal:
    """A reason not to serve this form.  ``forbidden``: True if the reason holds for every form."""

    reason: str
    forbidden: bool = False


def refusal() -> Refusal | None:
    """Return the reason for which we cannot serve the kernel, or None if we can.

    Any process can join the group, and the kernel then counts it as an agent, so this is asked before.
    """
    try:
        requests = RequestSocket(NETLINK_GENERIC)
    except NetlinkError as error:
        return Refusal(str(error))
    try:
        family = find_family(requests, _SPECIFICATION.name)
        if family is None:
            return Refusal("this kernel has no handshake family")
        codec = KernelCodec(_SPECIFICATION, message_type=family.number)
        requests.request(codec, "accept", {"handler-class": NO_CLASS})
    except NetlinkError as error:
        if error.errno == errno.EPERM:
            return Refusal("CAP_NET_ADMIN in the initial user namespace is missing; start as root", forbidden=True)
    finally:
        requests.close()
    return None


def kernel_groups() -> frozenset[str]:
    """Return the groups that the running kernel has; none where it has no such family.  Raises NetlinkError."""
    requests = RequestSocket(NETLINK_GENERIC)
    try:
        family = find_family(requests, _SPECIFICATION.name)
    finally:
        requests.close()
    return frozenset() if family is None else frozenset(handler_classes(family))
