"""Ctrl-C while the command is not there yet: the process ends without a word, with the status that Ctrl-C has later.

A KeyboardInterrupt in the middle of an import would be a traceback, or be swallowed by a callback of the importer's.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

EXIT_INTERRUPTED = 130


def leave_when_interrupted() -> None:
    """From now on SIGINT ends this process, which has nothing to clean up; one that is ignored stays ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def raise_when_interrupted() -> None:
    """From now on SIGINT is a KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(EXIT_INTERRUPTED)
