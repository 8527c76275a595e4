"""A handshaker under watch: what each handshake does to its socket, its tasks and its cancellation, in every check."""

from __future__ import annotations

import asyncio
import contextvars
import os
import socket
import traceback
from collections.abc import Coroutine, Iterator
from typing import Any

from hsframework.interface import Endpoint, Handshaker, Request, Result

_OPTIONS = {
    name: (level, getattr(socket, name))
    for level, names in (
        (
            socket.SOL_SOCKET,
            "SO_KEEPALIVE SO_OOBINLINE SO_PRIORITY SO_RCVLOWAT SO_LINGER SO_RCVTIMEO SO_SNDTIMEO SO_MARK SO_DONTROUTE "
            "SO_BROADCAST SO_REUSEADDR SO_REUSEPORT SO_PASSCRED SO_BUSY_POLL",
        ),
        (
            socket.IPPROTO_TCP,
            "TCP_NODELAY TCP_CORK TCP_KEEPIDLE TCP_KEEPINTVL TCP_KEEPCNT TCP_USER_TIMEOUT TCP_LINGER2 TCP_SYNCNT "
            "TCP_DEFER_ACCEPT TCP_CONGESTION TCP_NOTSENT_LOWAT",
        ),
        (socket.IPPROTO_IP, "IP_TOS IP_TTL IP_RECVTOS IP_MTU_DISCOVER"),
    )
    for name in names.split()
    if hasattr(socket, name)
}
"""Options of a socket that stay as they are, unless somebody sets them, by name: level and number."""
_SO_BUF_LOCK = 72
"""Linux: whether the sizes of the buffers were set; they grow by themselves otherwise."""
_LARGEST_VALUE = 32

_owned: contextvars.ContextVar[list[asyncio.Task[Any]] | None] = contextvars.ContextVar("_owned", default=None)


class Watch:
    """The problems of all handshakes of a check: what a plugin did, and how to mend it."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, str]] = []
        self.errors: list[str] = []
        """The exceptions of the handshakes, with those that they came from, as texts."""


class WatchedHandshaker(Handshaker):
    """A handshaker whose handshakes are watched.  ``inner``: the plugin's own."""

    def __init__(self, inner: Handshaker, watch: Watch) -> None:
        self.inner = inner
        self._watch = watch

    def close(self) -> None:
        """Close the plugin's handshaker."""
        self.inner.close()

    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        """Run the plugin's handshake, and note its problems."""
        before, owned = _options(endpoint.socket), []  # type: ignore[var-annotated]
        token = _owned.set(owned)
        role = request.role.name.lower()
        try:
            result = await self.inner.handshake(request, endpoint)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._watch.errors.append("".join(traceback.format_exception(error)))
            if _is_cancelled():
                self._note(
                    f"a handshake that is cancelled raises {type(error).__name__} in place of CancelledError ({role})",
                    "let asyncio.CancelledError pass: catch Exception, never BaseException",
                )
            raise
        else:
            if _is_cancelled():
                self._note(
                    f"a handshake that is cancelled returns a result in place of raising CancelledError ({role})",
                    "let asyncio.CancelledError pass: catch Exception, never BaseException",
                )
            return result
        finally:
            _owned.reset(token)
            for each in owned:
                if not each.done() and not each.cancelling():
                    self._note(
                        f"a handshake leaves a task that runs on when it has ended ({role}): {each.get_coro()!r}",
                        "await or cancel every task before the handshake returns or raises; never asyncio.shield it",
                    )
            self._note_options(before, _options(endpoint.socket), role)

    def _note_options(self, before: dict[str, bytes], after: dict[str, bytes], role: str) -> None:
        if before and not after:
            self._note(f"a handshake closes endpoint.socket ({role})", "leave it open: it is the consumer's")
            return
        changed = [name for name, value in before.items() if after.get(name, value) != value]
        if changed:
            self._note(
                f"a handshake changes the consumer's socket and leaves it so ({role}): {', '.join(changed)}",
                "leave the socket's options alone, or set them back in a finally block",
            )

    def _note(self, what: str, mend: str) -> None:
        self._watch.problems.append((what, mend))


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _options(sock: socket.socket) -> dict[str, bytes]:
    """Return the options of a socket by name; none of one that is closed."""
    return dict(_values(sock)) if sock.fileno() >= 0 else {}


def _values(sock: socket.socket) -> Iterator[tuple[str, bytes]]:
    for name, (level, number) in (*_OPTIONS.items(), ("SO_RCVBUF, SO_SNDBUF", (socket.SOL_SOCKET, _SO_BUF_LOCK))):
        try:
            yield name, sock.getsockopt(level, number, _LARGEST_VALUE)
        except OSError:  # not an option of this socket or kernel
            continue
    try:
        yield "O_NONBLOCK", b"blocking" if os.get_blocking(sock.fileno()) else b"non-blocking"
    except OSError:
        return


def make_task(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **kwargs: Any) -> asyncio.Task[Any]:
    """Make a task, and note it for the handshake that starts it; a task factory of asyncio."""
    task = asyncio.Task(coroutine, loop=loop, **kwargs)
    owned = _owned.get()
    if owned is not None:
        owned.append(task)
    return task
