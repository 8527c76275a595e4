"""The runtime directory that the default configuration file names, for programs that read nothing else of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

DEFAULT_PATH = Path("/etc/hsframework/hsframework.toml")


@cache
def configured_runtime_dir() -> Path | None:
    """Return ``runtime-dir`` of the file at the default path, None if there is none that this user may read.

    It is read once in each process.  A file that is wrong names none: the service reports what is wrong in it.
    """
    import tomllib

    try:
        value = tomllib.loads(DEFAULT_PATH.read_text("utf-8")).get("runtime-dir")
    except (OSError, ValueError):
        return None
    return DEFAULT_PATH.parent / Path(value).expanduser() if isinstance(value, str) and value else None
