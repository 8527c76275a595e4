"""Module of a broken plugin: protocol code that asks the clock."""

from __future__ import annotations

import time


def nonce() -> bytes:
    return str(time.time()).encode()
