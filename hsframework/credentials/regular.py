"""Reading of regular files alone, up to a size: whatever else a path names keeps nobody waiting."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from hsframework.errors import ConfigurationError


def read_regular(
    path: str | os.PathLike[str], most: int, check: Callable[[os.stat_result], object] | None = None
) -> bytes:
    """Read a whole file of up to ``most`` bytes.  ``check``: called with its status before anything is read of it.

    Raises OSError if it cannot be opened or read, and ConfigurationError for a pipe, a socket, a device, a folder, and
    for a file that is larger.
    """
    # Without O_NONBLOCK the opening of a pipe would wait for a writer, and O_NOCTTY keeps a terminal from being ours.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(f"{path} is not a regular file; name one")
        if status.st_size > most:
            raise ConfigurationError(f"{path} has {status.st_size} bytes, more than the {most} that are read")
        if check is not None:
            check(status)
        with open(fd, "rb", closefd=False) as file:
            return file.read(most)
    finally:
        os.close(fd)
