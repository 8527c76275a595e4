"""Streams over sessions, with methods that only some protocols' streams have.

``send_eof()``: close our direction only (TLS: close_notify, QUIC: FIN).  ``update_keys()``: change our sending keys
(TLS: KeyUpdate, RFC 8446 section 4.6.3; QUIC: RFC 9001 section 6).
"""

from __future__ import annotations

import errno
from typing import Any

from hsframework.client import AsyncSession
from hsframework.errors import StreamError
from hsframework.interface import AsyncStream


async def open_stream(session: AsyncSession, *, key_update: bool = False) -> AsyncStream:
    """Return the session's stream, with new keys if ``key_update``.

    Raises PluginError, and StreamError (EOPNOTSUPP) if the protocol has no key update.
    """
    stream = session.stream()
    if key_update:
        update: Any = getattr(stream, "update_keys", None)
        if update is None:
            raise StreamError(
                f"sessions of {session.protocol!r} cannot change their keys; leave --key-update out",
                errno=errno.EOPNOTSUPP,
            )
        await update()
    return stream


async def half_close(stream: AsyncStream) -> None:
    """Close our direction only, if the protocol can; else do nothing, and the peer ends the session."""
    send_eof: Any = getattr(stream, "send_eof", None)
    if send_eof is not None:
        await send_eof()
