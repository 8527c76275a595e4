"""The switch for logs, for commands whose own output already reports what the core would log."""

from __future__ import annotations

import logging

import structlog


def silence_logs() -> None:
    """Switch off all log lines of this process."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
