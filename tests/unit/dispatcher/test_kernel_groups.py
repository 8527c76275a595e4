"""Groups of the kernel: one answer to which there are, for sources, members, doctor and grants."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

import pytest

from hsframework.configuration.settings import AgentSettings, Configuration, KernelSettings, RawSettings
from hsframework.dispatcher.sources.kernel import genl, groups, sources
from hsframework.dispatcher.sources.kernel.groups import FormGroups, form_groups, form_of, handler_classes
from hsframework.dispatcher.sources.kernel.wire import Accepted
from hsframework.netlink.control import Family
from hsframework.netlink.messages import Message
from hsframework.netlink.socket import NETLINK_GENERIC, NetlinkError
from hsframework.supervisor.grants import refused_groups

TODAY = {"none": 13, "tlshd": 14}
"""As Linux 7.2 names them; the numbers depend on what was registered before."""

LATER = {**TODAY, "drbd": 15, "smb": 16}
RAW = KernelSettings(raw=RawSettings(enabled=True, protocols={"tlshd": 1, "quic": 2}))


def named(monkeypatch: pytest.MonkeyPatch, found: Mapping[str, int]) -> None:
    """Let the running kernel name these groups."""
    monkeypatch.setattr(groups, "_named_by_the_kernel", lambda: found)


def test_a_handler_class_is_the_place_of_its_group() -> None:
    """The handler class holds with any number for the kernel's first group, which is of no requests."""
    assert handler_classes({}) == {}
    assert handler_classes(TODAY) == {"tlshd": 1}
    assert handler_classes(LATER) == {"tlshd": 1, "drbd": 2, "smb": 3}


def test_what_the_kernel_names_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further groups have a source without a change of code, and their members are looked at."""
    named(monkeypatch, LATER)
    monkeypatch.setattr(sources, "refusal", lambda: None)
    served = {"tlshd": 14, "drbd": 15, "smb": 16}
    assert form_groups(Configuration()) == [FormGroups("kernel", NETLINK_GENERIC, served)]
    (form,) = sources.served_forms(Configuration())
    assert (form.name, set(form.groups)) == ("kernel", set(served))


class Requests:
    """The kernel's side of ACCEPT: what it was asked."""

    def __init__(self, protocol: int) -> None:
        self.asked: list[Mapping[str, Any]] = []

    def request(self, codec: object, operation: str, values: Mapping[str, Any]) -> list[Message]:
        self.asked.append(values)
        return [Message(operation, {"sockfd": 9}, 1)]

    def close(self) -> None:
        """Do nothing."""


def test_accept_names_the_class_of_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group that no spec lists is accepted from by the class that it has in this kernel, and by no other name."""
    monkeypatch.setattr(genl, "RequestSocket", Requests)
    monkeypatch.setattr(genl, "find_family", lambda *_: Family("handshake", 30, LATER))
    monkeypatch.setattr(genl, "accepted_attributes", lambda *_: frozenset())
    monkeypatch.setattr("hsframework.dispatcher.sources.kernel.wire.NotificationSocket", Requests)
    wire = genl.GenericWire()
    assert wire.accept("smb") == Accepted({"sockfd": 9})
    assert wire._requests.asked == [{"handler-class": 3}]  # type: ignore[attr-defined]
    assert wire._group("smb") == 16
    with pytest.raises(NetlinkError) as unknown:
        wire._group("nfs")
    assert unknown.value.errno == errno.EINVAL


def test_the_form_that_has_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups that the kernel names, that the spec lists even if the kernel cannot be asked, or configured; no other."""
    named(monkeypatch, LATER)
    raw = Configuration(kernel=RAW)
    assert [form_of(name, raw) for name in ("tlshd", "none", "smb", "quic", "noise")] == [
        "kernel", "kernel", "kernel", "kernel-raw", None
    ]  # fmt: skip
    assert form_of("quic", Configuration()) is None

    def not_asked() -> Mapping[str, int]:
        raise NetlinkError("no socket", errno=errno.EPERM)

    monkeypatch.setattr(groups, "_named_by_the_kernel", not_asked)
    assert [form_of(name, raw) for name in ("tlshd", "smb", "quic")] == ["kernel", None, "kernel-raw"]


def test_who_may_join_what_the_kernel_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group that this kernel has is the kernel's for grants too: even the plugin of its name must be listed."""
    named(monkeypatch, LATER)
    listed = Configuration(kernel=KernelSettings(plugins=("smb",)))
    assert refused_groups("smb", ["smb"], Configuration(), ["smb"]).keys() == {"smb"}
    assert refused_groups("smb", ["smb", "drbd"], listed, ["smb"]) == {}
    written = Configuration(agents={"smb": AgentSettings(groups=("smb",))})
    assert refused_groups("smb", ["smb"], written, ["smb"]) == {}
    named(monkeypatch, TODAY)
    assert refused_groups("smb", ["smb"], Configuration(), ["smb"]) == {}
