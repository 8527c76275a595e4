"""Logs of commands whose output is for people: what the core logs would say the same things again."""

from __future__ import annotations

import logging

import structlog


def silence_logs() -> None:
    """No log lines from this process."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
