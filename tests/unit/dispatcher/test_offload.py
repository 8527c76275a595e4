"""Protection of a session in the kernel: the look-up of the kernel's answers, event and metrics."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest
import structlog.testing

from hsframework.dispatcher import offload
from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.offload import (
    IN_A_DEVICE,
    IN_USER_SPACE,
    Offload,
    OffloadLookup,
    unknown,
)
from hsframework.netlink.socket import NetlinkError, RequestSocket, open_netlink
from hsframework.netlink.tcp_diag import Connection, KernelTls
from hsframework.telemetry.metrics import Metrics
from tests.support.house import REQUEST, connected_pair, house

IN_KERNEL = {"in-kernel": True}
SO_BINDTOIFINDEX, SOCK_DIAG = 62, 4
BOTH = Offload("software", "software")


class Kernel:
    """inet_diag, played: its answer, and what it was asked for, after the first question at the start."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer: KernelTls | NetlinkError | None = KernelTls(2, 2)
        self.asked: list[Connection] = []
        self.bound_to = 0
        monkeypatch.setattr(offload, "kernel_tls", self._kernel_tls)

    def _kernel_tls(self, diag: RequestSocket, connection: Connection) -> KernelTls | None:
        self.asked.append(connection)
        if isinstance(self.answer, NetlinkError):
            raise self.answer
        if len(self.asked) > 1 and connection.interface != self.bound_to:
            raise NetlinkError("no such connection", errno=errno.ENOENT)
        return self.answer


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


@pytest.fixture
def lookup(kernel: Kernel) -> Iterator[OffloadLookup]:
    made = OffloadLookup()
    yield made
    made.close()


@pytest.fixture
def custody() -> Iterator[Custody]:
    with connected_pair() as (ours, _):
        made = Custody(os.dup(ours.fileno()), os.close)
        yield made
        made.release()


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (KernelTls(2, 2), BOTH),
        (KernelTls(3, 3), Offload("device", "device")),
        (KernelTls(3, 2), Offload("device", "software")),
        (KernelTls(4, 4), Offload("device", "device")),
        (KernelTls(2, 1), Offload("software", "none")),
        (KernelTls(9, 2), unknown("the kernel names the states 9 and 2, not known here")),
        (None, unknown("the kernel names no TLS in the socket")),
        (NetlinkError("lost", errno=errno.EIO), unknown("lost")),
    ],
    ids=str,
)
def test_the_kernels_answer(
    kernel: Kernel, lookup: OffloadLookup, custody: Custody, answer: KernelTls | NetlinkError | None, found: Offload
) -> None:
    """Each state in each direction; a look-up that fails is unknown, and says why."""
    kernel.answer = answer
    assert lookup.of("tlshd", custody, IN_KERNEL) == found
    asked = kernel.asked[-1]
    assert f"{asked.local[0]}:{asked.local[1]}" == custody.local_address
    assert f"{asked.peer[0]}:{asked.peer[1]}" == custody.peer_address
    assert asked.cookie == custody.option(socket.SOL_SOCKET, 57, 8)


def test_what_is_not_looked_up(kernel: Kernel, lookup: OffloadLookup, custody: Custody) -> None:
    """A session in user space, one of PSP, which only devices have, and one of a socket that cannot be asked for."""

    class Datagrams:
        protocol = 261

    before = len(kernel.asked)
    assert lookup.of("tls13", custody, {"in-kernel": False}) is IN_USER_SPACE
    assert lookup.of("psp", custody, IN_KERNEL) is IN_A_DEVICE
    found = lookup.of("tlshd", cast(Custody, Datagrams()), IN_KERNEL)
    assert (found.summary, found.reason) == ("unknown", "the kernel does not say it of a socket of protocol 261")
    assert len(kernel.asked) == before


def test_a_kernel_that_cannot_be_asked(kernel: Kernel, custody: Custody) -> None:
    """After a failure at the start nothing is asked: the kernel would run modprobe, and the file system may hang."""
    kernel.answer = NetlinkError("no such module", errno=errno.ENOENT)
    made = OffloadLookup()
    try:
        kernel.answer = KernelTls(2, 2)
        found = made.of("tlshd", custody, IN_KERNEL)
        assert found.summary == "unknown"
        assert "no such module" in (found.reason or "")
        assert len(kernel.asked) == 1
    finally:
        made.close()


def test_a_socket_bound_to_an_interface(
    kernel: Kernel, lookup: OffloadLookup, custody: Custody, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket that is bound to an interface is not found without it, and is asked for again with it."""
    kernel.bound_to = 7
    assert lookup.of("tlshd", custody, IN_KERNEL).summary == "unknown"
    monkeypatch.setattr(offload, "_interface", lambda _: 7)
    assert lookup.of("tlshd", custody, IN_KERNEL) == BOTH
    assert [asked.interface for asked in kernel.asked[-2:]] == [0, 7]


def test_the_interface_is_the_one_that_the_socket_is_bound_to(custody: Custody) -> None:
    """0: it is bound to none."""
    loopback = socket.if_nametoindex("lo")
    assert offload._interface(custody) == 0
    with socket.socket(fileno=os.dup(custody.fileno())) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, loopback)
        assert offload._interface(custody) == loopback


def test_a_socket_is_looked_up_in_its_own_namespace(
    lookup: OffloadLookup, custody: Custody, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another namespace is asked through a socket that is opened there for the question; ours, through the one kept."""
    opened: list[tuple[int, int]] = []

    def beside(fd: int, family: int) -> socket.socket:
        opened.append((fd, family))
        return open_netlink(family)

    monkeypatch.setattr(offload, "netlink_beside", beside)
    assert lookup.of("tlshd", custody, IN_KERNEL) == BOTH
    assert not opened
    lookup._here = b"another "
    assert lookup.of("tlshd", custody, IN_KERNEL) == BOTH
    assert opened == [(custody.fileno(), SOCK_DIAG)]


def test_the_question_at_the_start_takes_a_port_that_is_free(kernel: Kernel, lookup: OffloadLookup) -> None:
    """Its connection is over loopback, at a port of the kernel's choice."""
    assert kernel.asked[0].peer[0] == "127.0.0.1"
    assert kernel.asked[0].peer[1] >= 1024


@pytest.mark.parametrize(
    ("found", "fields"),
    [
        (BOTH, {"offload": "software", "transmit": "software", "receive": "software"}),
        (Offload("device", "software"), {"offload": "device", "transmit": "device", "receive": "software"}),
        (IN_USER_SPACE, {"offload": "none", "transmit": "none", "receive": "none"}),
        (
            unknown("why"),
            {"offload": "unknown", "transmit": "unknown", "receive": "unknown", "offload_reason": "why"},
        ),
    ],
    ids=str,
)
def test_fields(found: Offload, fields: dict[str, str]) -> None:
    """One word for both directions, and each direction by itself."""
    assert found.fields() == fields


class Looked(OffloadLookup):
    """Finds what the test wants."""

    def __init__(self, found: Offload) -> None:
        self.found = found
        self.asked: list[tuple[str, bool]] = []

    def of(self, group: str, custody: Custody, outcome: Mapping[str, object]) -> Offload:
        self.asked.append((group, bool(outcome.get("in-kernel"))))
        return self.found


async def _finished(lookup: Looked, **done: Any) -> tuple[dict[str, Any], Metrics]:
    """Finish a request so, and return its event and the metrics."""
    with structlog.testing.capture_logs() as events:
        async with house() as home:
            home.dispatcher.offload = lookup
            with connected_pair() as (ours, _):
                agent, consumer = await home.agent("toy"), await home.consumer()
                consumer.send("submit", REQUEST, ours.fileno())
                request = await agent.take_message("toy")
                agent.send("done", {"request-id": request.values["request-id"], **done})
                await consumer.expect("result")
                metrics = home.dispatcher.metrics
    (event,) = [event for event in events if event["event"] == "handshake"]
    return dict(event), metrics


async def test_event_and_metrics() -> None:
    """The place of each direction is in the event of a session, and counted."""
    lookup = Looked(Offload("device", "software"))
    event, metrics = await _finished(lookup, status=0, session=b"s")
    assert {name: event[name] for name in ("status", "offload", "transmit", "receive")} == {
        "status": "OK", "offload": "device", "transmit": "device", "receive": "software"
    }  # fmt: skip
    assert lookup.asked == [("toy", False)]
    assert metrics.kernel_sessions == {("transmit", "device"): 1, ("receive", "software"): 1}


async def test_a_session_in_user_space() -> None:
    """A session in user space is in the event, and not among the kernel's sessions."""
    event, metrics = await _finished(Looked(IN_USER_SPACE), status=0, session=b"s")
    assert event["offload"] == "none"
    assert not metrics.kernel_sessions


async def test_a_failure_has_no_place() -> None:
    """There is no session, and nothing is looked up."""
    lookup = Looked(BOTH)
    event, metrics = await _finished(lookup, status=errno.EACCES)
    assert "offload" not in event
    assert not lookup.asked
    assert not metrics.kernel_sessions


def test_exposition() -> None:
    """The counter's name and labels, as Prometheus reads them."""
    from prometheus_client import CollectorRegistry, generate_latest

    metrics, registry = Metrics(), CollectorRegistry()
    metrics.session("device", "software")
    metrics.session("unknown", "unknown")
    metrics.session("none", "none")
    registry.register(metrics)
    lines = [line for line in generate_latest(registry).decode().splitlines() if "kernel_sessions_total{" in line]
    assert sorted(lines) == [
        'hsframework_kernel_sessions_total{direction="receive",where="software"} 1.0',
        'hsframework_kernel_sessions_total{direction="receive",where="unknown"} 1.0',
        'hsframework_kernel_sessions_total{direction="transmit",where="device"} 1.0',
        'hsframework_kernel_sessions_total{direction="transmit",where="unknown"} 1.0',
    ]
