"""Virtual time: waiting costs nothing, order is kept, and code that blocks is found."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time

import pytest

from hsframework.testing import virtual_time
from hsframework.testing.virtual_time import LoopBlocked, VirtualTimeLoop, run


def test_waiting_costs_nothing() -> None:
    """A year passes on the loop's clock, and timers fire in their order."""

    async def scene() -> list[str]:
        heard: list[str] = []

        async def say(word: str, after: float) -> None:
            await asyncio.sleep(after)
            heard.append(word)

        begun = asyncio.get_running_loop().time()
        await asyncio.gather(say("year", 31_536_000), say("day", 86_400), say("second", 1))
        assert asyncio.get_running_loop().time() - begun == pytest.approx(31_536_000)
        return heard

    assert run(scene()) == ["second", "day", "year"]


def test_time_stands_still_while_anything_happens() -> None:
    """Data in a socket is read before any timer, and a thread's work is waited for."""

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        near, far = socket.socketpair()
        with near, far:
            near.setblocking(False)
            far.setblocking(False)
            begun = loop.time()
            async with asyncio.timeout(0.001):
                for _ in range(100):
                    await loop.sock_sendall(near, b"x")
                    await loop.sock_recv(far, 1)
            released = threading.Event()
            loop.call_soon(released.set)
            async with asyncio.timeout(0.001):
                assert await loop.run_in_executor(None, released.wait, 30)
            assert loop.time() - begun < 0.001

    run(scene())


def test_idle_comes_before_time_moves() -> None:
    """First what can happen at this moment, then who waits for idleness, then the clock."""

    async def scene() -> list[str]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        heard: list[str] = []
        loop.call_later(0.001, heard.append, "timer")
        loop.call_when_idle(lambda: heard.append("idle"))
        loop.call_soon(heard.append, "soon")
        await asyncio.sleep(1)
        return heard

    assert run(scene()) == ["soon", "idle", "timer"]


@pytest.mark.parametrize("wait", [time.sleep, lambda seconds: threading.Event().wait(seconds), lambda _: _read()])
def test_what_blocks_is_interrupted(wait: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that blocks is interrupted where it hangs, with the place in ``blocked``."""
    monkeypatch.setattr(virtual_time, "BLOCKED_AFTER", 0.2)
    loop = VirtualTimeLoop()

    async def blocks() -> None:
        assert callable(wait)
        wait(60)

    with pytest.raises(LoopBlocked):
        run(blocks(), loop=loop)
    assert "blocks" in loop.blocked[0]


def test_waiting_for_a_processor_blocks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a callback that is short takes long: that is not the plugin's."""
    begin = time.monotonic()
    monkeypatch.setattr(virtual_time, "BLOCKED_AFTER", 0.6)
    monkeypatch.setattr(virtual_time, "_queue", lambda: contextlib.nullcontext(lambda: time.monotonic() - begin))
    loop = VirtualTimeLoop()

    async def is_not_let_in() -> None:
        threading.Event().wait(1)

    run(is_not_let_in(), loop=loop)
    assert not loop.blocked


def _read() -> None:
    near, far = socket.socketpair()
    with near, far:
        near.recv(1)


def test_errors_that_nobody_handles() -> None:
    """They are kept for who asks."""
    loop = VirtualTimeLoop()

    async def scene() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 // 0)
        await asyncio.sleep(1)

    run(scene(), loop=loop)
    assert "ZeroDivisionError" in loop.problems[0]


def test_tasks_are_not_left() -> None:
    """A task that still runs at the end is cancelled, also one that has to be told twice."""
    told: list[bool] = []

    async def stubborn() -> None:
        while len(told) < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                told.append(True)

    async def scene() -> asyncio.Task[None]:
        task = asyncio.ensure_future(stubborn())
        await asyncio.sleep(0)
        return task

    assert run(scene()).done()
    assert len(told) == 2


def test_other_threads_are_refused() -> None:
    """A blocking call there could not be interrupted."""
    refused = []

    async def scene() -> None:
        raise AssertionError

    def work() -> None:
        coroutine = scene()
        with pytest.raises(RuntimeError, match="main thread"):
            run(coroutine)
        coroutine.close()
        refused.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert refused
