"""The counters of devices: rotations that make a session due for renewal, and complaints."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

import pytest

from hsframework.interface import Result, Role
from hsframework.netlink.socket import NetlinkError
from hsframework.testing.network import tcp_pair
from hsframework_psp import hooks
from hsframework_psp.connection import ConnectionChannel
from hsframework_psp.kernel_device import KernelAssociation
from hsframework_psp.keys import Grant, Key
from hsframework_psp.plugin import PspHandshaker
from hsframework_psp.renewal import RenewalState, TimedRenewal
from hsframework_psp.rotation import RotationRenewal
from hsframework_psp.settings import Settings
from hsframework_psp.streams import AsyncPspStream, PspStream
from hsframework_psp.versions import Version
from tests.unit.psp.handshakes import PSP, both, established, run


def test_the_devices_complaints(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device's counters since the association, by the kernel's names; that it is gone is one, too."""
    family: Any = _Counting()
    near, far = tcp_pair()
    with near, far:
        association = KernelAssociation(
            family, 1, Version.AES_GCM_256, Grant(1, Key(bytes(32))), near, {"key-rotations": 5, "rx-auth-fail": 2}
        )
        assert association.complaints() == ""
        monkeypatch.setattr(_Counting, "more", {"rx-auth-fail": 5, "rx-bad": 1, "rx-packets": 9})
        assert association.complaints() == "rx-auth-fail 3, rx-bad 1"

        def gone(_: Any, device: int) -> dict[str, int]:
            raise NetlinkError("no such device", errno=errno.ENODEV)

        monkeypatch.setattr(_Counting, "statistics", gone)
        assert association.complaints() == "no such device"


class _Notices:
    def drain(self) -> None: ...

    def close(self) -> None: ...


class _Counting:
    """The family ``psp`` of a kernel whose device has rotated so often."""

    rotations = 5
    more: Mapping[str, int] = {}

    def rotation_notices(self) -> _Notices:
        return _Notices()

    def statistics(self, device: int) -> dict[str, int]:
        return {"key-rotations": self.rotations, **self.more}

    def close(self) -> None: ...


def test_what_the_counter_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Due after one rotation, stale after two or more; a counter that has gone back is another device's: stale."""
    monkeypatch.setattr("hsframework_psp.rotation.PspFamily", _Counting)
    renewal = RotationRenewal(1, 5)
    states = []
    for rotations in (5, 6, 7, 1000, 4, 0):
        monkeypatch.setattr(_Counting, "rotations", rotations)
        states.append(renewal.state)
    assert states == [RenewalState.FRESH, RenewalState.DUE, *[RenewalState.STALE] * 4]
    renewal.close()


def test_a_watch_ends_with_its_stream() -> None:
    """Also when the goodbye fails in a way that nobody has thought of."""
    closed: list[str] = []

    class Watch(TimedRenewal):
        def close(self) -> None:
            closed.append("watch")

    class Broken(ConnectionChannel):
        def queue_close(self) -> None:
            raise RuntimeError("nobody has thought of it")

    near, far = tcp_pair()
    with near, far:
        with pytest.raises(RuntimeError):
            PspStream(Broken(near), Watch(60), None).close()
        with pytest.raises(RuntimeError):
            run(AsyncPspStream(Broken(far), Watch(60), None).close())
    assert closed == ["watch", "watch"]


def test_rotation_of_the_software_device() -> None:
    """A session is due when its lifetime has passed."""
    handshaker = PspHandshaker(Settings(device="software", rotate_every=1))
    near, far = tcp_pair()
    with near, far:
        first, _ = run(both(near, far, handshakers=(handshaker, PSP)))
        assert isinstance(first, Result)
        stream = hooks.hsframework_attach_session(established(first, Role.CLIENT), near, False)
        assert isinstance(stream, PspStream)
        assert stream.renewal.wait(20) is RenewalState.DUE
        assert run(stream.renewal.wait_async()) is RenewalState.DUE
