"""Trusts that a dispatcher has sent, by number, and one object for one content.

Verifiers of certificates cache by the object, so equal trusts are the same object, also across links and after
the dispatcher was started anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import structlog

from hsframework.errors import MessageError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Trust
from hsframework.local.trustfile import read_trust_file

if TYPE_CHECKING:
    from hsframework.netlink.messages import Message

_log = structlog.get_logger("hsframework.agent")
_interned: WeakValueDictionary[bytes, Trust] = WeakValueDictionary()


class Trusts:
    """The trusts of one link; a number that comes again has a new content."""

    def __init__(self) -> None:
        self._trusts: dict[int, Trust] = {}

    def received(self, messages: Iterable[tuple[Message, int | None]]) -> Sequence[bytes]:
        """Handle trust messages; owns their fds.  One that is not understood leaves its number without a meaning."""
        for message, fd in messages:
            self._take(message.values, fd)
        return ()

    def _take(self, values: Mapping[str, Any], fd: int | None) -> None:
        number = values.get("trust-id", 0)
        # Gone until it has been read: a request must not be served with the content that the number had before.
        self._trusts.pop(number, None)
        if fd is None:
            _log.error("a trust message without its file", trust=number)
            return
        try:
            trust = read_trust_file(fd, values.get("size", 0))
            self._trusts[number] = _interned.setdefault(trust.digest, trust)
        except (MessageError, OSError, ValueError) as error:
            _log.error("a trust file is not understood", trust=number, reason=str(error))
        finally:
            os.close(fd)

    def named_by(self, values: Mapping[str, Any]) -> Trust | None:
        """Return the trust of a request, None if it names none.  Raises HandshakeFailed (EIO) for an unknown number."""
        number = values.get("trust-id")
        if number is None:
            return None
        trust = self._trusts.get(number)
        if trust is None:
            raise HandshakeFailed(Failure.INTERNAL, f"the request names trust {number}, which did not come")
        return trust

    def clear(self) -> None:
        """Forget all, since the link is gone."""
        self._trusts.clear()
