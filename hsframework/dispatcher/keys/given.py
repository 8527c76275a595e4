"""Trusts that consumers bring in files of their own, because they are too large for a submit.

A file is a sealed memfd, so that nobody changes it; only the heads of its records are read here, and it is handed to
agents as it is.  One memfd that comes over several links is one trust.  A file is closed when neither a link nor a
request names it.
"""

from __future__ import annotations

import errno
import itertools
import os
import weakref
from collections.abc import Callable
from weakref import WeakValueDictionary

from hsframework.errors import MessageError, RequestRefused
from hsframework.local.trustfile import check_given

MAX_GIVEN = 64
"""Files of all users at once; they count among the file descriptors in reserve."""
MAX_GIVEN_PER_USER = 8
"""Files of one user at once."""

_numbers = itertools.count()


class GivenTrust:
    """A trust in a consumer's file.  ``fd``: a sealed memfd, which is closed with the object."""

    def __init__(self, fd: int, size: int, user: int) -> None:
        self.fd = fd
        self.size = size
        self.user = user
        self.digest = b"given %d" % next(_numbers)
        """Name of the content, which is not read here."""
        weakref.finalize(self, os.close, fd)


class GivenTrusts:
    """The files of all consumers.  ``close_fd`` closes what is no memfd, without blocking."""

    def __init__(self, close_fd: Callable[[int], None]) -> None:
        self._close_fd = close_fd
        self._files: WeakValueDictionary[tuple[int, int], GivenTrust] = WeakValueDictionary()
        """By device and inode, which nothing else has while the file is open."""

    def take(self, fd: int, size: int, user: int) -> GivenTrust:
        """Return the trust in a file of ``user``; owns the fd.

        Raises RequestRefused: EINVAL for a file that is not as it must be, EAGAIN for one too many.
        """
        try:
            check_given(fd, size)
            status = os.fstat(fd)
            found = self._files.get((status.st_dev, status.st_ino))
            if found is None:
                self._check_room(user)
        except MessageError as error:
            self._close_fd(fd)
            raise RequestRefused(str(error), errno=errno.EINVAL) from None
        except BaseException:
            self._close_fd(fd)
            raise
        if found is not None:
            os.close(fd)
            return found
        given = self._files[status.st_dev, status.st_ino] = GivenTrust(fd, size, user)
        return given

    def _check_room(self, user: int) -> None:
        users = [given.user for given in self._files.values()]
        if len(users) >= MAX_GIVEN or users.count(user) >= MAX_GIVEN_PER_USER:
            raise RequestRefused(
                f"{MAX_GIVEN_PER_USER} large trusts of one user are in use, or {MAX_GIVEN} in all: use fewer, or name "
                "a profile that has them",
                errno=errno.EAGAIN,
            )
