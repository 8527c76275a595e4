"""Use of a session by its two consumers: bytes in both directions, and all texts that show it."""

from __future__ import annotations

import asyncio
import socket

from hsframework.client.session import AsyncSession
from hsframework.errors import HsframeworkError
from hsframework.interface import AsyncStream
from hsframework.testing.dispatcher import Submission
from hsframework.testing.leaks import forms_of
from hsframework.testing.verdicts import ConformanceFailure, role_of

_BULK = bytes(range(256)) * 800


async def use_session(request: Submission, sock: socket.socket, streams: bool) -> None:
    """Send bytes over a session as soon as it is established, and check the bytes of the other consumer.

    ``streams``: True if the session must have a stream.  Raises ConformanceFailure.
    """
    outcome = await request.outcome()
    if not outcome.ok:
        raise ConformanceFailure(f"the handshake fails: {outcome}", "see test_handshake_succeeds")
    stream = attach(outcome.session(sock), streams)
    if stream is None:
        return
    ours = outcome.options.role.name.encode() + _BULK
    sending = asyncio.ensure_future(_send_all(stream, ours))
    received = bytearray()
    while data := await stream.receive():
        received += data
    await sending
    await stream.close()
    theirs = (b"SERVER" if ours.startswith(b"CLIENT") else b"CLIENT") + _BULK
    if bytes(received) != theirs:
        raise ConformanceFailure(
            f"of {len(theirs)} bytes that were sent over the session {len(received)} arrived, or others "
            f"({role_of(outcome)})",
            "both ends number and protect from the first byte behind the handshake",
        )


async def _send_all(stream: AsyncStream, data: bytes) -> None:
    for start in range(0, len(data), 50_000):
        await stream.send(data[start : start + 50_000])
    await stream.send_eof()


def attach(session: AsyncSession, wanted: bool) -> AsyncStream | None:
    """Return the session's stream, or None if none is wanted and there is none.  Raises ConformanceFailure."""
    try:
        stream = session.stream()
    except HsframeworkError as error:
        if not wanted:
            return None
        raise ConformanceFailure(
            f"there is no stream over the session: {error}",
            "implement hsframework_attach_session; or say streams=False, if consumers use the parameters themselves",
        ) from error
    if wanted:
        return stream
    raise ConformanceFailure(
        "there is a stream over the session, and the scenario says streams=False", "say streams=True"
    )


async def everything_shown(session: AsyncSession, streams: bool) -> list[str]:
    """Return all representations of a session and of its stream."""
    shown = [repr(session), repr(session.established), repr(dict(session.tags))]
    stream = attach(session, streams)
    if stream is not None:
        shown += [repr(stream), repr(getattr(stream, "__dict__", {}))]
        await stream.close()
    return shown


def censored(text: str, secrets: set[bytes]) -> str:
    """Replace secrets in a text, and cut it to 400 characters."""
    forms = {form for secret in secrets for form in forms_of(secret) if form}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "<the secret>")
    return text[:400]
