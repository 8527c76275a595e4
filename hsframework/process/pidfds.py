"""File descriptors of processes (pidfd_open(2), Linux 5.3), by which a process is waited for and ended safely."""

from __future__ import annotations

import errno
import os

from hsframework.errors import ConfigurationError


def open_pidfd(pid: int) -> int:
    """Return a descriptor of a process, which is the caller's.

    Raises ConfigurationError where the kernel or a sandbox does not allow it, OSError for a process that is not there.
    """
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOSYS, errno.EACCES):
            raise ConfigurationError(
                f"pidfd_open: {error.strerror}: allow the system calls pidfd_open and pidfd_send_signal in this "
                "sandbox, or use Linux 5.3 or later"
            ) from None
        raise
