"""The watch for members of the kernel's groups that are not ours: what is logged, and how often."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import structlog.testing

from hsframework.configuration.settings import Configuration, KernelSettings, RawSettings
from hsframework.dispatcher.sources.kernel import others
from hsframework.dispatcher.sources.kernel.groups import FormGroups, form_groups
from hsframework.dispatcher.sources.kernel.others import Member, Watch, members
from hsframework.netlink.holders import Holder, Process, Unnamed
from hsframework.netlink.members import NetlinkSocket
from hsframework.probes import NotSeen

FORM = FormGroups("kernel", 16, {"tlshd": 14})
OURS, TLSHD, PROGRAM = 1, 2, 3
NAMELESS = Unnamed("its netlink port names no process")
HOLDERS = {
    TLSHD: Holder(Process(812, 0, "tlshd"), certain=True),
    PROGRAM: NAMELESS,
}
Answer = set[int] | NotSeen


class Host:
    """The members in each namespace of a host, by their inodes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: dict[str | None, Answer] = {None: {OURS}}
        self.looks = 0
        self.clock = 0.0
        monkeypatch.setattr(others, "LOOK_INTERVAL", 0)
        monkeypatch.setattr(others, "members", self._members)
        monkeypatch.setattr(others, "holder_by_port", lambda inode, port: HOLDERS.get(inode, Unnamed("nobody")))

    def _members(self, forms: list[FormGroups], namespace: str | None, *, most: int | None) -> list[Member] | NotSeen:
        assert (forms, most) == ([FORM], others.MOST_SOCKETS)
        self.looks += 1
        answer = self.answers[namespace]
        if isinstance(answer, NotSeen):
            return answer
        return [Member("kernel", "tlshd", NetlinkSocket(0, inode, 1 << 13)) for inode in sorted(answer)]

    async def looked(self) -> None:
        """Wait for two whole looks from now on."""
        enough = self.looks + 2 * len(self.answers)
        async with asyncio.timeout(5):
            while self.looks < enough:
                await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def watched(host: Host) -> AsyncIterator[Callable[[], list[Any]]]:
    """Watch a host; the function returns the events since it was called last."""
    with structlog.testing.capture_logs() as events:

        def new() -> list[Any]:
            found, events[:] = list(events), []
            return found

        loop = asyncio.get_running_loop()
        watch = Watch([FORM], lambda: {OURS}, lambda: list(host.answers), loop=loop, clock=lambda: host.clock)
        try:
            await host.looked()
            yield new
        finally:
            watch.close()
            looks = host.looks
            await asyncio.sleep(0)
            assert host.looks == looks


async def test_ours_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is logged."""
    async with watched(Host(monkeypatch)) as new:
        assert not new()


async def test_each_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members at the start, later ones, and those that go and come again are each named, not at every look."""
    host = Host(monkeypatch)
    host.answers[None] = {OURS, TLSHD}
    async with watched(host) as new:
        (event,) = new()
        assert event["event"].startswith("another process is a member of the kernel's group")
        assert event["log_level"] == "warning"
        named = {name: event[name] for name in ("source", "group", "process", "uid", "program", "certain")}
        assert named == {
            "source": "kernel", "group": "tlshd", "process": 812, "uid": 0, "program": "tlshd", "certain": True
        }  # fmt: skip
        host.answers[None] = {OURS, TLSHD, PROGRAM}
        await host.looked()
        (event,) = new()
        assert (event["process"], event["reason"]) == (None, NAMELESS.reason)
        host.answers[None] = {OURS}
        await host.looked()
        host.answers[None] = {OURS, TLSHD}
        await host.looked()
        assert [event["process"] for event in new()] == [812]


async def test_a_look_that_fails_is_not_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reason is logged once; who was there before is still known afterwards, and a new reason is logged."""
    host = Host(monkeypatch)
    host.answers[None] = {OURS, TLSHD}
    async with watched(host) as new:
        assert [event["process"] for event in new()] == [812]
        host.answers[None] = NotSeen("this kernel has no CONFIG_NETLINK_DIAG")
        await host.looked()
        (event,) = new()
        assert event["event"] == "the members of the kernel's groups cannot be looked up"
        assert event["reason"] == "this kernel has no CONFIG_NETLINK_DIAG"
        host.answers[None] = {OURS, TLSHD}
        await host.looked()
        assert not new()
        host.answers[None] = NotSeen("another")
        await host.looked()
        assert [event["reason"] for event in new()] == ["another"]


async def test_each_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the name of its source; one that goes is forgotten, and another of its name is new."""
    host = Host(monkeypatch)
    host.answers["blue"] = {TLSHD}
    async with watched(host) as new:
        assert [event["source"] for event in new()] == ["kernel:blue"]
        del host.answers["blue"]
        await host.looked()
        host.answers["blue"] = {TLSHD}
        await host.looked()
        assert [event["source"] for event in new()] == ["kernel:blue"]


async def test_a_flood_of_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that joins a thousand times fills no log: some are named, the others are counted."""
    host = Host(monkeypatch)
    host.answers[None] = {OURS, *range(1000, 2000)}
    async with watched(host) as new:
        events = new()
    assert len(events) == others.MOST_REPORTS + 1
    assert events[-1]["number"] == 1000 - others.MOST_REPORTS


async def test_a_program_that_joins_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the lines of a minute it is counted, and so are looks that it makes fail; the next minute begins with the
    number."""
    host = Host(monkeypatch)
    async with watched(host) as new:
        for number in range(others.MOST_REPORTS + 5):
            host.answers[None] = {OURS, 1000 + number}
            await host.looked()
        host.answers[None] = NotSeen("the family has more than 1024 sockets")
        await host.looked()
        host.answers[None] = {OURS}
        await host.looked()
        events = new()
        assert len(events) == others.MOST_REPORTS
        host.clock += others.REPORT_TIME
        await host.looked()
        (event,) = new()
        assert (event["event"], event["number"]) == ("further members of the kernel's groups", 5)
        host.answers[None] = {OURS, TLSHD}
        await host.looked()
        assert [event["process"] for event in new()] == [812]


def test_nothing_to_watch() -> None:
    """No group is looked at where the kernel is not served."""
    assert form_groups(Configuration(kernel=KernelSettings(enabled=False))) == []


def test_the_raw_form() -> None:
    """Its groups have the numbers of the configuration."""
    raw = RawSettings(enabled=True, protocols={"tls": 1, "quic": 2})
    assert FormGroups("kernel-raw", 23, {"tls": 1, "quic": 2}) in form_groups(
        Configuration(kernel=KernelSettings(raw=raw))
    )


def test_a_namespace_that_is_not_there() -> None:
    """Not seen, with the reason."""
    found = members([FORM], "no-such-namespace")
    assert isinstance(found, NotSeen)
    assert "no-such-namespace" in found.reason
