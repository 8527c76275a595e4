"""The logs for finding faults: the secrets of connections in a key log, their events in qlogs.

Both are opened when the agent starts, and neither is there by default: they write during handshakes, and a qlog is a
new file for each, so that a handshake may wait for the file system they are on.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from aioquic.quic.logger import QuicLogger

from hsframework.errors import ConfigurationError

_TOKENS = frozenset({"stateless_reset_token", "reset_token", "token"})
"""By which whoever reads a qlog could end the connection, or pass for its client's address: a qlog is there to be shown
around, and has none."""


class KeyLog:
    """An NSS key log that Wireshark reads.  Raises ConfigurationError when the file cannot be opened."""

    def __init__(self, path: Path, setting: str) -> None:
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise ConfigurationError(_cannot(setting, path, error)) from None

    def write(self, line: str) -> None:
        """Write a line with its newline, whole, among those of other processes.  A disk that is full loses it."""
        with contextlib.suppress(OSError):
            os.write(self._fd, line.encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class QlogFolder:
    """A folder for qlogs, a file for each connection.  Raises ConfigurationError when it cannot be written to."""

    def __init__(self, path: Path, setting: str) -> None:
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigurationError(_cannot(setting, path, error)) from None
        if not os.access(path, os.W_OK | os.X_OK, effective_ids=True):
            os.close(self._fd)
            raise ConfigurationError(f"{setting}: {path}: the agent's user may not make files in it")

    def write(self, logger: QuicLogger, name: str) -> None:
        """Write the traces of a logger; a file of this name that is there already stays as it is."""
        data = json.dumps(_without_tokens(logger.to_dict())).encode()
        try:
            fd = os.open(f"{name}.qlog", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._fd)
        except OSError:
            return
        with open(fd, "wb") as file:
            file.write(data)

    def close(self) -> None:
        """Close the folder."""
        os.close(self._fd)


def _without_tokens(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_tokens(item) for name, item in value.items() if name not in _TOKENS}
    return [_without_tokens(item) for item in value] if isinstance(value, list) else value


def _cannot(setting: str, path: Path, error: OSError) -> str:
    return f"{setting}: {path}: {error.strerror}; name a place that the agent's user may write to"
