"""The runtime directory that the default configuration file names, for programs that read nothing else of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

DEFAULT_PATH = Path("/etc/hsframework/hsframework.toml")
MOST_BYTES = 1 << 22
"""Of a configuration file: 4 MiB, far more than 5,000 keys and 200 profiles need."""


@cache
def configured_runtime_dir() -> Path | None:
    """Return ``runtime-dir`` of the file at the default path, None if there is none that this user may read.

    It is read once in each process.  A file that is wrong names none: the service reports what is wrong in it.
    """
    import tomllib

    from hsframework.credentials.regular import read_regular
    from hsframework.errors import ConfigurationError

    try:
        value = tomllib.loads(read_regular(DEFAULT_PATH, MOST_BYTES).decode("utf-8")).get("runtime-dir")
    except (OSError, ValueError, ConfigurationError):
        return None
    return DEFAULT_PATH.parent / Path(value).expanduser() if isinstance(value, str) and value else None
