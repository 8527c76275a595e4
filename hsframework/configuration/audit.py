"""Settings of the audit log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hsframework.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """Audit log: each handshake of the kernel and of root's programs as one line of JSON, in a file of its own."""

    file: Path | None = None
    """The file, which is made if it is not there; unset: none.  A file that has been moved away is made anew."""
    sync: bool = False
    """Write to the disk at once (fdatasync), not when the kernel does.  No handshake waits for it."""

    def __post_init__(self) -> None:
        if self.sync and self.file is None:
            raise ConfigurationError("sync: there is no file; name one")
