"""SIGINT while the command is still being imported: the process ends silently, with the exit status of an interrupt.

A KeyboardInterrupt in the middle of an import would print a traceback, or be swallowed by a callback of the importer.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

EXIT_INTERRUPTED = 130
"""Exit status after SIGINT: 128 + 2, as shells report it."""


def leave_when_interrupted() -> None:
    """Make SIGINT end this process at once, without clean-up.  An ignored SIGINT stays ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def raise_when_interrupted() -> None:
    """Make SIGINT raise KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(EXIT_INTERRUPTED)
