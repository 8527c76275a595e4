"""Trusts that a dispatcher has sent, by number, and one object for one content.

Equal trusts are the same object, also across links and after the dispatcher was started anew; and so are certificates
and lists that several trusts have.

A trust file is sent once over each link.  One that cannot be read for want of memory is kept, and read again for
each request that names it, until that succeeds.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import structlog

from hsframework.errors import MessageError, is_shortage
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Trust
from hsframework.local.trustfile import read_trust_file

if TYPE_CHECKING:
    from hsframework.netlink.messages import Message

_log = structlog.get_logger("hsframework.agent")
_interned: WeakValueDictionary[bytes, Trust] = WeakValueDictionary()
_items: dict[bytes, tuple[bytes, int]] = {}
"""Certificates and lists of these trusts, each with the number of trusts that have it."""


class Trusts:
    """The trusts of one link; a number that comes again has a new content."""

    def __init__(self) -> None:
        self._trusts: dict[int, Trust] = {}
        self._unread: dict[int, tuple[int, int]] = {}
        """The fd and the size of each file that was not read for want of memory."""

    def received(self, messages: Iterable[tuple[Message, int | None]]) -> Sequence[bytes]:
        """Handle trust messages; owns their fds.  One that is not understood leaves its number without a meaning."""
        for message, fd in messages:
            self._take(message.values, fd)
        return ()

    def _take(self, values: Mapping[str, Any], fd: int | None) -> None:
        number = values.get("trust-id", 0)
        # Gone until it has been read: a request must not be served with the content that the number had before.
        self._forget(number)
        if fd is None:
            _log.error("a trust message without its file", trust=number)
            return
        self._unread[number] = fd, values.get("size", 0)
        with contextlib.suppress(HandshakeFailed):
            self._read(number)

    def named_by(self, values: Mapping[str, Any]) -> Trust | None:
        """Return the trust of a request, None if it names none.

        Raises HandshakeFailed: INTERNAL for an unknown number, SHORTAGE for a file that cannot be read now.
        """
        number = values.get("trust-id")
        if number is None:
            return None
        if number in self._unread:
            self._read(number)
        trust = self._trusts.get(number)
        if trust is None:
            raise HandshakeFailed(Failure.INTERNAL, f"the request names trust {number}, which did not come")
        return trust

    def clear(self) -> None:
        """Forget all, since the link is gone."""
        for number in [*self._trusts, *self._unread]:
            self._forget(number)

    def _read(self, number: int) -> None:
        """Read a file.  One that is not understood leaves its number without a meaning.

        Raises HandshakeFailed (SHORTAGE) for want of memory; the file stays unread then.
        """
        try:
            trust = read_trust_file(*self._unread[number])
            self._trusts[number] = _interned.get(trust.digest) or _keep(trust)
        except (MessageError, OSError, ValueError, MemoryError) as error:
            if isinstance(error, MemoryError) or is_shortage(error):
                _log.warning("a trust file cannot be read now", trust=number, reason=str(error))
                raise HandshakeFailed(Failure.SHORTAGE, f"trust {number} cannot be read: {error}") from None
            _log.error("a trust file is not understood", trust=number, reason=str(error))
        os.close(self._unread.pop(number)[0])

    def _forget(self, number: int) -> None:
        self._trusts.pop(number, None)
        fd, _ = self._unread.pop(number, (None, 0))
        if fd is not None:
            os.close(fd)


def _keep(trust: Trust) -> Trust:
    """Return a trust with the items of others where they are the same bytes, and intern it."""
    digest = trust.digest
    trust = replace(trust, anchors=tuple(map(_shared, trust.anchors)), crls=tuple(map(_shared, trust.crls)))
    vars(trust)["digest"] = digest  # of a long list it takes as long as reading it
    weakref.finalize(trust, _release, (*trust.anchors, *trust.crls)).atexit = False
    _interned[digest] = trust
    return trust


def _shared(item: bytes) -> bytes:
    kept, number = _items.get(item, (item, 0))
    _items[item] = kept, number + 1
    return kept


def _release(items: Iterable[bytes]) -> None:
    for item in items:
        kept, number = _items[item]
        if number > 1:
            _items[item] = kept, number - 1
        else:
            del _items[item]
