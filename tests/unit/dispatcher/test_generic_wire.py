"""The kernel's own form of the service, with a kernel that the test plays: it names groups that none has as yet."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from hsframework.configuration.settings import Configuration
from hsframework.dispatcher.sources.kernel import genl, groups, sources, wire
from hsframework.dispatcher.sources.kernel.genl import GenericWire
from hsframework.dispatcher.sources.kernel.wire import Accepted, Ending
from hsframework.netlink.control import Family
from hsframework.netlink.messages import Message
from hsframework.netlink.socket import Codec, NetlinkError

FAMILY = Family("handshake", 30, {"none": 12, "tlshd": 13, "quic": 14})


class Kernel:
    """The requests that it got, and its answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self.waits: list[Mapping[str, Any]] = []
        self.memberships: list[int] = []

    def request(
        self, codec: Codec, operation: str, values: Mapping[str, Any], *, acknowledge: bool = False
    ) -> list[Message]:
        """Stand for RequestSocket.request."""
        codec.encode(operation, values)
        self.asked.append((operation, values))
        if operation != "accept" or not values["handler-class"]:
            return []
        if not self.waits:
            raise NetlinkError("nothing waits", errno=errno.EAGAIN)
        return [Message(operation, dict(self.waits.pop()), 1)]

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    made = Kernel()

    class Notifications:
        """Stands for NotificationSocket."""

        def __init__(self, protocol: int) -> None:
            self._fd = os.open("/dev/null", os.O_RDONLY)

        def join(self, number: int) -> None:
            made.memberships.append(number)

        def leave(self, number: int) -> None:
            made.memberships.remove(number)

        def close(self) -> None:
            os.close(self._fd)

    monkeypatch.setattr(genl, "RequestSocket", lambda _: made)
    monkeypatch.setattr(genl, "find_family", lambda *_: FAMILY)
    monkeypatch.setattr(genl, "accepted_attributes", lambda *_: {"status", "sockfd"})
    monkeypatch.setattr(wire, "NotificationSocket", Notifications)
    monkeypatch.setattr(groups, "_named_by_the_kernel", lambda: FAMILY.groups)
    yield made
    assert not made.memberships


def test_a_group_that_the_kernel_names(kernel: Kernel) -> None:
    """A group that the kernel names is joined by its number, and its requests accepted by its handler class."""
    ours = GenericWire()
    ours.join("quic")
    assert kernel.memberships == [14]
    assert ours.accept("quic") is None
    kernel.waits = [{"sockfd": 7, "message-type": 1}]
    assert ours.accept("quic") == Accepted({"sockfd": 7, "message-type": 1})
    assert kernel.asked == [("accept", {"handler-class": 2})] * 2
    ours.leave("quic")
    ours.close()


@pytest.mark.parametrize("group", ["none", "psp"])
def test_a_group_without_requests(kernel: Kernel, group: str) -> None:
    """A group that the kernel does not name, or has for nobody, is refused."""
    ours = GenericWire()
    with pytest.raises(NetlinkError) as refused:
        ours.join(group)
    assert refused.value.errno == errno.EINVAL
    ours.close()


def test_done_has_what_the_kernel_takes(kernel: Kernel) -> None:
    """This one takes no peers, and none a mechanism's own attributes."""
    ours = GenericWire()
    ours.done(7, Ending(errno.EACCES, (5,), b"own"))
    assert kernel.asked == [("done", {"status": errno.EACCES, "sockfd": 7})]
    ours.close()


@pytest.mark.usefixtures("kernel")
def test_every_group_that_the_kernel_names_is_served() -> None:
    """No list of ours says which."""
    (form,) = sources.served_forms(Configuration())
    assert (form.name, set(form.groups)) == ("kernel", {"tlshd", "quic"})
