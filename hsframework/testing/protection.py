"""Checks of the protection of messages and of a session's data, which is read, changed, repeated, lost or cut off on
its way.

They are for protocols on streams whose sessions are in user space: the kernel's records are its own, and so are a
library's datagrams.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

from hsframework.client.session import AsyncSession
from hsframework.errors import HsframeworkError
from hsframework.interface import AsyncStream
from hsframework.testing.framing import Framing, guess_framing
from hsframework.testing.network import BadNetwork
from hsframework.testing.sessions import attach
from hsframework.testing.stage import LIMIT, Stage
from hsframework.testing.verdicts import ConformanceFailure

_TEXT, _MORE = random.Random("text").randbytes(300), random.Random("more").randbytes(300)
_WINDOW = 48
"""Bytes that two ciphertexts have in common by a fault alone; headers are shorter."""
_MOST_FILL = 1 << 16
_WAYS = {"right": "the client's data", "left": "the server's data"}

Change = Callable[[bytes], bytes]
_CHANGES: dict[str, Change] = {
    "changed": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],
    "repeated": lambda data: data + data,
    "lost": lambda data: b"",
}


@dataclass(frozen=True)
class _Sessions:
    """Both streams of one connection, and its network."""

    stage: Stage
    network: BadNetwork
    client: AsyncStream
    server: AsyncStream

    def ends(self, way: str) -> tuple[AsyncStream, AsyncStream]:
        """Return the sender and the receiver of a direction."""
        return (self.client, self.server) if way == "right" else (self.server, self.client)

    async def sent(self, way: str, data: bytes) -> bytes:
        """Send data in a direction, let it arrive, and return the bytes on the wire."""
        sender, receiver = self.ends(way)
        before = len(self.network.passed[way])
        await sender.send(data)
        await _arrived(self.stage)
        received = bytearray()
        while len(received) < len(data):
            received += await receiver.receive()
        return b"".join(self.network.passed[way][before:])


@contextlib.asynccontextmanager
async def _established(stage: Stage) -> AsyncIterator[_Sessions | None]:
    """Run the handshakes of the pair, and give both streams; None: there are none, or the kernel's."""
    with stage.network() as network:
        requests = stage.submit(network, stage.pair)
        outcomes = [await request.outcome() for request in requests]
        await stage.idle()
        failed = [outcome for outcome in outcomes if not outcome.ok]
        if failed:
            raise ConformanceFailure(f"the handshake fails: {failed[0]}", "see test_handshake_succeeds")
        sessions = [
            outcome.session(sock) for outcome, sock in zip(outcomes, (network.left, network.right), strict=True)
        ]
        if any(session.in_kernel for session in sessions):
            if stage.scenario.protected:
                await _must_be_the_kernels(stage, network, sessions[0])
            yield None
            return
        client, server = (attach(session, stage.scenario.streams) for session in sessions)
        if client is None or server is None:
            yield None
            return
        try:
            yield _Sessions(stage, network, client, server)
        finally:
            for stream in (client, server):
                with contextlib.suppress(HsframeworkError, OSError):
                    await stream.close()


async def _must_be_the_kernels(stage: Stage, network: BadNetwork, session: AsyncSession) -> None:
    """Check that the kernel encrypts what is written to the socket of a session that is reported in the kernel."""
    before = len(network.passed["right"])
    session.socket.setblocking(False)
    with contextlib.suppress(OSError):
        session.socket.send(_TEXT)
    await _arrived(stage)
    if session.in_kernel and _TEXT in b"".join(network.passed["right"][before:]):
        raise ConformanceFailure(
            "the client's session is reported in the kernel, and what is written to its socket is on the wire as it is",
            "return in_kernel=True only after the keys are in the socket",
        )


async def must_hide_data(stage: Stage) -> None:
    """Check that data is not on the wire as it is, and never twice in the same form; nor are an end's messages."""
    seen: list[tuple[int, str, set[bytes]]] = []
    said: dict[str, bytes] = {}
    for number in range(2):
        async with _established(stage) as made:
            if made is None:
                return
            for way, end in (("right", "client"), ("left", "server")):
                messages = b"".join(made.network.passed[way])
                if messages and said.get(way) == messages:
                    raise ConformanceFailure(
                        f"the {end} sends the same messages in two handshakes: nothing in them is fresh",
                        "make a new random value or key for each handshake, in its coroutine",
                    )
                said[way] = messages
            for way in ("right", "right", "left", "left"):
                seen.append((number, way, _windows(await made.sent(way, _TEXT))))
    plain = _windows(_TEXT)
    for at, (number, way, windows) in enumerate(seen):
        if windows & plain:
            raise ConformanceFailure(
                f"{_WAYS[way]} is on the wire as it was sent",
                "encrypt it; or say protected=False in the scenario, if sessions of this protocol protect nothing",
            )
        for other, direction, others in seen[:at]:
            if windows & others:
                raise _alike(number == other, way == direction)


async def _arrived(stage: Stage) -> None:
    """Wait until what was sent has been delivered: a piece takes the network a moment of virtual time."""
    await stage.quiet()
    await asyncio.sleep(0.01)
    await stage.quiet()


def _alike(one_session: bool, one_way: bool) -> ConformanceFailure:
    where = "in two sessions" if not one_session else "twice in one direction" if one_way else "in both directions"
    mend = {
        "in two sessions": "both ends add a fresh random value to what the keys are made of",
        "twice in one direction": "count the records, and make each one's nonce of its number",
        "in both directions": "derive a key for each direction, and use one for sending alone",
    }
    return ConformanceFailure(
        f"the same data, sent {where}, is the same on the wire: a key is used again with the same nonce", mend[where]
    )


def _windows(data: bytes) -> set[bytes]:
    return {data[at : at + _WINDOW] for at in range(len(data) - _WINDOW + 1)}


async def must_notice_changes(stage: Stage) -> None:
    """Check that a stream fails for data that was changed, repeated or lost on its way, and gives no other data."""
    for word, change in _CHANGES.items():
        for way, whose in _WAYS.items():
            async with _established(stage) as made:
                if made is None:
                    return
                sender, receiver = made.ends(way)
                made.network.tamper = _once(way, change)
                for data in (_TEXT, _MORE):
                    with contextlib.suppress(HsframeworkError, OSError):
                        await sender.send(data)
                    await _arrived(stage)
                with contextlib.suppress(HsframeworkError, OSError):
                    await sender.send_eof()
                received, failed = await _all_of(receiver, f"{whose} is {word} on its way")
                if not failed or not (_TEXT + _MORE).startswith(received):
                    raise ConformanceFailure(
                        f"{whose} is {word} on its way, and its receiver "
                        + ("reads other data" if failed else "reads on to the end without an error"),
                        "authenticate each record together with its number, and raise StreamError for every one that "
                        "does not verify",
                    )


async def must_tell_the_end(stage: Stage) -> None:
    """Check that a connection that ends without the peer's goodbye is an error, behind a record and within one."""
    for word, change in (("behind its data", None), ("within its data", lambda data: data[: len(data) // 2])):
        for way, whose in (("right", "the client"), ("left", "the server")):
            async with _established(stage) as made:
                if made is None:
                    return
                sender, receiver = made.ends(way)
                if change is not None:
                    made.network.tamper = _once(way, change)
                await sender.send(_TEXT)
                await _arrived(stage)
                made.network.hang_up(way)
                received, failed = await _all_of(receiver, f"{whose} is cut off {word}")
                if not failed or not _TEXT.startswith(received):
                    raise ConformanceFailure(
                        f"{whose} is cut off {word}, without a goodbye, and its peer reads a good end",
                        "raise StreamError in receive_eof unless the peer has closed its direction by a message that "
                        "is protected as data is",
                    )


@contextlib.asynccontextmanager
async def _framed(stage: Stage, way: str) -> AsyncIterator[tuple[_Sessions, Framing] | None]:
    """Give both streams, and the framing of the records that one way has; None: there are none, or it is not known."""
    async with _established(stage) as made:
        framing = None
        if made is not None:
            framing = guess_framing([await made.sent(way, bytes(size)) for size in (1, 300, 5000)])
        yield None if made is None or framing is None else (made, framing)


async def must_not_end_by_a_stranger(stage: Stage) -> None:
    """Check that a record without a body, which anybody can send, is no goodbye."""
    for way, whose in _WAYS.items():
        async with _framed(stage, way) as found:
            if found is None:
                return
            made, framing = found
            made.network.inject(way, framing.with_body(await made.sent(way, _TEXT), b""))
            await _arrived(stage)
            made.network.hang_up(way)
            if not (await _all_of(made.ends(way)[1], f"{whose} is ended by a record without a body"))[1]:
                raise ConformanceFailure(
                    f"{whose} is ended by a record without a body, which is protected by nothing, and its receiver "
                    "reads a good end",
                    "end a direction by a message that is authenticated as data is",
                )


async def must_refuse_the_largest_length(stage: Stage) -> None:
    """Check that a stream fails for a record that announces the largest length there is, and does not wait for it."""
    for way, whose in _WAYS.items():
        async with _framed(stage, way) as found:
            if found is None:
                return
            made, framing = found
            fill = framing.largest if framing.largest <= _MOST_FILL else _WINDOW
            header = framing.with_length(await made.sent(way, _TEXT), framing.largest)[: framing.header]
            made.network.inject(way, header + b"\xa5" * fill)
            await _arrived(stage)
            received, failed = await _all_of(
                made.ends(way)[1], f"{whose} has a record that announces {framing.largest} bytes"
            )
            if received or not failed:
                raise ConformanceFailure(
                    f"{whose} has a record that announces {framing.largest} bytes, and its receiver takes it",
                    "raise StreamError for a length above the protocol's largest record, before its body is there",
                )


def _once(way: str, change: Change) -> Callable[[str, bytes], bytes]:
    """Return a fault: the next data in a direction is changed."""
    left = [change]
    return lambda direction, data: left.pop()(data) if left and direction == way else data


async def _all_of(stream: AsyncStream, what: str) -> tuple[bytes, bool]:
    """Read to the end, and return the data and True if the end is an error.  ``what``: for messages."""
    received = bytearray()
    try:
        async with asyncio.timeout(LIMIT):
            while data := await stream.receive():
                received += data
    except TimeoutError:
        raise ConformanceFailure(f"{what}, and its receiver waits for ever", "raise StreamError") from None
    except (HsframeworkError, OSError):
        return bytes(received), True
    except Exception as error:
        raise ConformanceFailure(
            f"{what}, and the stream fails with an exception of its own: {type(error).__name__}: {error}",
            "raise StreamError",
        ) from error
    return bytes(received), False


async def must_leave_sessions_of_others(stage: Stage) -> None:
    """Check that ``hsframework_attach_session`` gives nothing for a session of another protocol."""
    with stage.network() as network:
        outcomes = [await request.outcome() for request in stage.submit(network, stage.pair)]
        for outcome, sock in zip(outcomes, (network.left, network.right), strict=True):
            if not outcome.ok:
                return
            other = replace(outcome.session(sock).established, protocol="a protocol of another plugin")
            for asynchronous in (True, False):
                try:
                    found = outcome.registry.hook.hsframework_attach_session(
                        session=other, socket=sock, asynchronous=asynchronous
                    )
                except Exception as error:
                    raise _attached(f"raises {type(error).__name__}") from error
                if found is not None:
                    raise _attached("gives a stream")


def _attached(what: str) -> ConformanceFailure:
    return ConformanceFailure(
        f"hsframework_attach_session {what} for a session of another protocol",
        "return None unless session.protocol is the name of your protocol",
    )
