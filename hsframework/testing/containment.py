"""Containment of a check of the conformance suite: a child process with a limit of time.

A plugin may hang so that nothing inside its process can end it (a wait that swallows every exception, a blocking call
in a library), may end its process, and may leave things behind.  Therefore each check runs in a fork of its own, and
the process of the tests waits for it from outside.

``HSFRAMEWORK_TEST_IN_PROCESS=1`` in the environment runs checks in the process of the tests, without a limit; so does a
debugger that traces it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import gc
import os
import pickle
import select
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from hsframework.testing.verdicts import ConformanceFailure

LIMIT_OF_A_CHECK = 60.0
"""Seconds that a check may take, without those in which it waits for a processor; a check of a good plugin takes under
ten."""
LIMIT_AFTER_A_HANG = 15.0
"""The same, once a check has reached its limit."""
IN_PROCESS = "HSFRAMEWORK_TEST_IN_PROCESS"

_DUMP = signal.SIGRTMIN + 4
_TIME_FOR_A_DUMP = 1.0
_POLL = 0.25
_SHOWN = 40
_hung = False

Check = TypeVar("Check", bound=Callable[[Any], None])


class CheckBroke(RuntimeError):
    """An exception of a check that its process cannot pass on as it is."""


def contained(check: Check) -> Check:
    """Run a method without arguments in a child process, and raise here what it raised there.

    Raises ConformanceFailure for a check that reaches its limit, or whose process ends.
    """

    @functools.wraps(check)
    def run(self: Any) -> None:
        if os.environ.get(IN_PROCESS) or sys.gettrace() is not None:
            check(self)
        else:
            run_contained(lambda: check(self), LIMIT_AFTER_A_HANG if _hung else LIMIT_OF_A_CHECK)

    return run  # type: ignore[return-value]


def run_contained(body: Callable[[], None], limit: float) -> None:
    """Run ``body`` in a child process for at most ``limit`` seconds, and raise what it raised."""
    reader, writer = os.pipe()
    with tempfile.TemporaryFile() as dump, warnings.catch_warnings():
        # Other threads of the tests do not exist in the child, which needs none of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
        if not child:
            os.close(reader)
            _run_and_exit(body, writer, dump.fileno())
        os.close(writer)
        try:
            said = _result_of(child, reader, limit)
            if said is None:
                raise _hangs(child, limit, dump.fileno())
        finally:
            os.close(reader)
            status = _ended(child)
    if not said:
        raise ConformanceFailure(
            f"the plugin ends the process that serves it: {_described(status)}",
            "raise HandshakeError for one handshake; the process is that of all others too",
        )
    error = pickle.loads(said)
    if error is not None:
        raise error


def _run_and_exit(body: Callable[[], None], writer: int, dump: int) -> None:
    """Run ``body`` and end this process; its exception goes into the pipe."""
    said = pickle.dumps(CheckBroke("the check ended in a way that cannot be told"))
    try:
        faulthandler.register(_DUMP, file=dump, all_threads=True)
        # A collection walks over what is the tests' own in no check: it would take a callback's time.
        gc.freeze()
        error: BaseException | None = None
        try:
            body()
        except BaseException as raised:
            error = raised
        said = _portable(error)
    finally:
        with contextlib.suppress(OSError), open(writer, "wb") as out:
            out.write(said)
        os._exit(0)


def _portable(error: BaseException | None) -> bytes:
    """Return an exception as bytes that the parent can read; its traceback becomes a note."""
    if error is not None:
        text = "".join(traceback.format_exception(error))
        if not isinstance(error, ConformanceFailure):
            return pickle.dumps(CheckBroke(text[-30_000:]))
        error = error.with_traceback(None)
        error.__cause__ = error.__context__ = None
    return pickle.dumps(error)


def _result_of(child: int, reader: int, limit: float) -> bytes | None:
    """Return the bytes that the child wrote before it ended; None: it has reached its limit."""
    begun = time.monotonic()
    parts: list[bytes] = []
    while True:
        if select.select([reader], [], [], _POLL)[0]:
            data = os.read(reader, 1 << 16)
            if not data:
                return b"".join(parts)
            parts.append(data)
        elif time.monotonic() - begun - _waited_for_a_processor(child) > limit:
            return None


def _waited_for_a_processor(child: int) -> float:
    try:
        with open(f"/proc/{child}/schedstat", "rb") as table:
            return int(table.read().split()[1]) / 1e9
    except (OSError, IndexError):  # a kernel without the table
        return 0.0


def _hangs(child: int, limit: float, dump: int) -> ConformanceFailure:
    """Have the child say where it hangs, kill it, and return the failure."""
    global _hung
    _hung = True
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, _DUMP)
    over = time.monotonic() + _TIME_FOR_A_DUMP
    while not os.fstat(dump).st_size and time.monotonic() < over:
        time.sleep(0.05)
    time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    where = os.pread(dump, 1 << 16, 0).decode(errors="replace").splitlines()
    return ConformanceFailure(
        f"the plugin hangs: the check has not ended after {limit:.0f} seconds, and nothing inside its process ends it. "
        "Here it was:\n" + "\n".join(where[:_SHOWN]),
        "wait through the endpoint alone, let CancelledError pass (never catch BaseException and go on), and leave "
        "endpoint.socket non-blocking",
    )


def _ended(child: int) -> int:
    """Wait for the child's end, and return its status."""
    with contextlib.suppress(ChildProcessError):
        return os.waitpid(child, 0)[1]
    return 0


def _described(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"exit status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
