"""Handshakers that break one rule each.  Made from the toy, so that everything else about them is right."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import logging
import os
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import structlog

from hsframework.errors import HandshakeError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Endpoint, PeerIdentity, Request, Result, Role, Secret
from tests.unit.testing.toy_exchange import NONCE, Exchange, body_size
from tests.unit.testing.toy_plugin import DatagramHandshaker, ToyHandshaker, ToySettings

kept: list[object] = []
"""Objects that plugins that leak hold on to."""


def forget() -> None:
    """Let go of what was leaked, so that the next test does not find it."""
    for item in kept:
        if isinstance(item, int):
            os.close(item)
        elif isinstance(item, socket.socket):
            item.close()
        elif isinstance(item, threading.Event):
            item.set()
    kept.clear()


class HasAFixedNonce(ToyHandshaker):
    """Makes no random value as a server."""

    def exchange(self, request: Request) -> Exchange:
        nonce = os.urandom(NONCE) if request.role is Role.CLIENT else bytes(NONCE)
        return Exchange(request.role, request.attributes["key"], nonce)


class KeepsItsFirstKey(ToyHandshaker):
    """Uses the key of its first client for all others."""

    _first: Secret | None = None

    def exchange(self, request: Request) -> Exchange:
        key: Secret = request.attributes["key"]
        if request.role is Role.CLIENT:
            key = self._first = self._first or key
        return Exchange(request.role, key, os.urandom(NONCE))


class ForgivesOnce(ToyHandshaker):
    """Takes another message after one that proves nothing."""

    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        output = exchange.begin()
        due = 50 if output else 34
        while True:
            if output:
                await endpoint.send(output)
            if exchange.finished:
                return
            message = await self.receive(endpoint)
            try:
                output = exchange.feed(message)
            except HandshakeFailed as error:
                if error.failure is not Failure.BAD_BINDER or len(message) != due:
                    raise
                output = exchange.feed(await self.receive(endpoint))


class Alike(Exchange):
    """A proof of either end is the same."""

    def proof(self, role: Role) -> bytes:
        return super().proof(Role.SERVER)


class ProvesAlike(ToyHandshaker):
    """Makes proofs that do not say who makes them."""

    def exchange(self, request: Request) -> Exchange:
        return Alike(request.role, request.attributes["key"], os.urandom(NONCE))


class Named(Exchange):
    """A client's random value begins with its name; who has no name here has a key of zeros."""

    known: Mapping[bytes, Secret]

    def feed(self, message: bytes) -> bytes:
        if self._role is Role.SERVER and not self.met:
            self._key = self.known.get(message[2:].split(b"\0")[0], Secret(bytes(32)))
        return super().feed(message)


class ZerosForStrangers(ToyHandshaker):
    """Goes on with a fixed key for a client that it does not know."""

    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        psk = request.psks[0] if request.psks else await request.psk_lookup(b"host")
        assert psk is not None
        nonce = psk.identity + b"\0" + os.urandom(NONCE)
        exchange = Named(request.role, psk.key, nonce[:NONCE])
        exchange.known = {psk.identity: psk.key}
        await self.converse(exchange, endpoint)
        return replace(self.result(exchange), peer=PeerIdentity(psk_identity=b"host"))


class BlamesItself(ToyHandshaker):
    """Takes what a peer sends for a fault of its own."""

    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        try:
            return await super().handshake(request, endpoint)
        except HandshakeFailed as error:
            if error.failure is Failure.GARBAGE:
                raise HandshakeFailed(Failure.NO_KEY) from None
            raise


class SaysNo(ToyHandshaker):
    """Succeeds with nobody."""

    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        raise HandshakeError("not today")


class ReturnsNonsense(ToyHandshaker):
    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        await super().handshake(request, endpoint)
        return 42  # type: ignore[return-value]


class ReturnsWhatCannotBeTold(ToyHandshaker):
    """A session attribute that the specification does not know."""

    def result(self, exchange: Exchange) -> Result:
        return Result(session={"colour": "blue"})


class EstablishesNothing(ToyHandshaker):
    """Success, and nothing for the consumer."""

    def result(self, exchange: Exchange) -> Result:
        return Result()


class SharesItsExchange(ToyHandshaker):
    """Works for one client and one server at a time."""

    def __init__(self, settings: ToySettings) -> None:
        super().__init__(settings)
        self.current: dict[Role, Exchange] = {}

    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        role = request.role
        self.current[role] = self.exchange(request)
        await endpoint.send(self.current[role].begin())
        while not self.current[role].finished:
            message = await self.receive(endpoint)
            await endpoint.send(self.current[role].feed(message))
        return self.result(self.current[role])


class WaitsInFinally(ToyHandshaker):
    """Cancelled, it takes its time."""

    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        try:
            return await super().handshake(request, endpoint)
        finally:
            await asyncio.sleep(5)


class SwallowsCancellation(ToyHandshaker):
    async def receive(self, endpoint: Endpoint) -> bytes:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                return await super().receive(endpoint)


class BlocksTheLoop(ToyHandshaker):
    """Reads the socket by itself, blocking."""

    async def receive(self, endpoint: Endpoint) -> bytes:
        endpoint.socket.setblocking(True)
        header = endpoint.socket.recv(2)
        return header + endpoint.socket.recv(body_size(header))


class Sleeps(ToyHandshaker):
    """Not for long enough to be noticed by hand."""

    async def receive(self, endpoint: Endpoint) -> bytes:
        time.sleep(0.01)  # noqa: ASYNC251
        return await super().receive(endpoint)


class LosesPatience(ToyHandshaker):
    """A peer that is silent will be who it says."""

    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await super().converse(exchange, endpoint)

    def result(self, exchange: Exchange) -> Result:
        return Result(session={"key": exchange.session_key()})


class ReadsAhead(ToyHandshaker):
    """Takes all that there is, and looks only at its message."""

    async def receive(self, endpoint: Endpoint) -> bytes:
        waiting = await endpoint.peek(4096)
        if len(waiting) < 2 or len(waiting) < 2 + body_size(waiting[:2]):
            return await super().receive(endpoint)
        endpoint.take(len(waiting))
        return waiting[: 2 + body_size(waiting[:2])]


class ExpectsWholeMessages(ToyHandshaker):
    """Handshaker that expects to receive at once what one end sends at once, as on the author's machine."""

    async def receive(self, endpoint: Endpoint) -> bytes:
        waiting = await endpoint.peek(4096)
        message = waiting[: 2 + body_size(waiting[:2])]
        endpoint.take(len(message))
        return message


class SaysGoodbye(ToyHandshaker):
    """Sends one message more than its peer reads."""

    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        await super().converse(exchange, endpoint)
        await endpoint.send(b"\x00\x01!")


class ReadsOn(DatagramHandshaker):
    """Goes on reading, for repeats of the peer's."""

    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        await super().converse(exchange, endpoint)
        copy = endpoint.socket.dup()
        kept.append(copy)
        asyncio.get_running_loop().add_reader(copy, copy.recv, 65535, socket.MSG_DONTWAIT)


class LeaksTheFd(ToyHandshaker):
    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        kept.append(os.dup(endpoint.socket.fileno()))
        await super().converse(exchange, endpoint)


class LeaksOnFailure(ToyHandshaker):
    """Closes what it opened, unless the handshake fails."""

    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        reader, writer = os.pipe()
        kept.extend((reader, writer))
        await super().converse(exchange, endpoint)
        for fd in (reader, writer):
            kept.remove(fd)
            os.close(fd)


class LeavesATask(ToyHandshaker):
    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        kept.append(asyncio.ensure_future(asyncio.Event().wait()))
        await super().converse(exchange, endpoint)


class LeavesAThread(ToyHandshaker):
    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        over = threading.Event()
        kept.append(over)
        threading.Thread(target=over.wait, name="forgotten", daemon=True).start()
        await super().converse(exchange, endpoint)


class ForgetsATask(ToyHandshaker):
    """Its error is nobody's."""

    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        async def fail() -> None:
            raise KeyError("lost")

        task = asyncio.ensure_future(fail())
        await super().converse(exchange, endpoint)
        del task


class RaisesItsOwn(ToyHandshaker):
    """An exception of a library's, as it came."""

    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        try:
            await super().converse(exchange, endpoint)
        except HandshakeFailed as error:
            raise ValueError("bad signature") from error


class SaysNothing(ToyHandshaker):
    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        try:
            await super().converse(exchange, endpoint)
        except HandshakeFailed as error:
            raise HandshakeError("", errno=error.errno) from None


class ChecksNothing(ToyHandshaker):
    """Accepts every proof."""

    def exchange(self, request: Request) -> Exchange:
        exchange = super().exchange(request)
        exchange.check = lambda role, proof: None  # type: ignore[method-assign]
        return exchange


class RefusesByWaiting(ToyHandshaker):
    """A wrong proof is answered by silence, until the deadline."""

    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        try:
            await super().converse(exchange, endpoint)
        except HandshakeFailed:
            await asyncio.Event().wait()


class HopesForMore(ToyHandshaker):
    """A connection that has ended may come back."""

    async def receive(self, endpoint: Endpoint) -> bytes:
        while True:
            try:
                return await super().receive(endpoint)
            except HandshakeFailed:
                await asyncio.sleep(0.5)


class TrustsLengths(ToyHandshaker):
    """Looks into a message before it knows how much of it there is."""

    last_version = 0

    async def receive(self, endpoint: Endpoint) -> bytes:
        message = await endpoint.receive_record(2, lambda header: int.from_bytes(header, "big"))
        self.last_version = message[2 + NONCE - 1]
        return message


class BelievesAnything(ToyHandshaker):
    """Two bytes are a handshake."""

    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        await endpoint.send(b"hi")
        await endpoint.receive_exactly(1)
        await endpoint.receive_exactly(1)

    def result(self, exchange: Exchange) -> Result:
        return Result(session={"key": exchange.session_key()})

    def exchange(self, request: Request) -> Exchange:
        exchange = super().exchange(request)
        exchange.feed = lambda message: b""  # type: ignore[method-assign]
        return exchange


class BearsAGrudge(ToyHandshaker):
    """After ten failures everybody is refused."""

    failures = 0

    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        if self.failures > 10:
            raise HandshakeError("too many failures")
        try:
            await super().converse(exchange, endpoint)
        except HandshakeFailed:
            self.failures += 1
            raise


class SendsOnce(DatagramHandshaker):
    """Networks lose nothing, on the author's machine."""

    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        await ToyHandshaker.converse(self, exchange, endpoint)

    async def receive(self, endpoint: Endpoint) -> bytes:
        return await endpoint.receive_datagram()


class OpensAFile(ToyHandshaker):
    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        Path(__file__).read_bytes()  # noqa: ASYNC240
        await super().converse(exchange, endpoint)


class RunsAProgram(ToyHandshaker):
    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        subprocess.run(["true"], check=True)  # noqa: ASYNC221
        await super().converse(exchange, endpoint)


class Forks(ToyHandshaker):
    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)  # noqa: ASYNC222
        await super().converse(exchange, endpoint)


class ImportsLate(ToyHandshaker):
    """An import in a function opens files when it comes to it."""

    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        import tests.unit.testing.imported_late  # noqa: F401

        await super().converse(exchange, endpoint)


class LogsTheKey(ToyHandshaker):
    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        structlog.get_logger("toy").info("a handshake", using=request.attributes["key"].reveal().hex())
        return await super().handshake(request, endpoint)


class PrintsTheKey(ToyHandshaker):
    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        print("key:", request.attributes["key"].reveal())
        return await super().handshake(request, endpoint)


class LogsTheKeyAtDebug(ToyHandshaker):
    """By a library's logger, below what is shown without being asked for."""

    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        logging.getLogger("a library").debug("key %s", request.attributes["key"].reveal().hex())
        return await super().handshake(request, endpoint)


class BelievesServers(ToyHandshaker):
    """A server's proof is not looked at; the client's is, which is enough for pairs of which one has another key."""

    def exchange(self, request: Request) -> Exchange:
        exchange = super().exchange(request)
        if request.role is Role.CLIENT:
            exchange.check = lambda role, proof: None  # type: ignore[method-assign]
        return exchange


class SaysItAgain(ToyHandshaker):
    """Its random values are no such."""

    def exchange(self, request: Request) -> Exchange:
        return Exchange(request.role, request.attributes["key"], bytes([request.role]) * NONCE)


class ClaimsTheKernel(ToyHandshaker):
    """Success in the kernel for a session in user space: the socket of a consumer that goes by it is plain."""

    def result(self, exchange: Exchange) -> Result:
        return replace(super().result(exchange), in_kernel=True)


class AuthorizesFirst(ToyHandshaker):
    """Asks whether a peer may have its session that has proved nothing yet."""

    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        request.authorize(PeerIdentity())
        return await super().handshake(request, endpoint)


class TellsTheKeyInATag(ToyHandshaker):
    def result(self, exchange: Exchange) -> Result:
        key = exchange.session_key()
        return Result(session={"key": key}, tags={"fingerprint": key.reveal().hex(":")})


class TellsTheKeyInAnError(ToyHandshaker):
    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        try:
            return await super().handshake(request, endpoint)
        except HandshakeFailed:
            raise HandshakeError(f"no luck with {request.attributes['key'].reveal()!r}") from None


class KeepsTheKey(ToyHandshaker):
    """Bytes that are not in a Secret are in every repr."""

    def __init__(self, settings: ToySettings) -> None:
        super().__init__(settings)
        self.cache: dict[Role, bytes] = {}

    def exchange(self, request: Request) -> Exchange:
        self.cache[request.role] = request.attributes["key"].reveal()
        return super().exchange(request)


class TakesAnEndForConsent(ToyHandshaker):
    """A client that hangs up has said all that it has to say."""

    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        try:
            await super().converse(exchange, endpoint)
        except HandshakeFailed as error:
            if error.failure is not Failure.PEER_GONE or not exchange.met:
                raise

    def result(self, exchange: Exchange) -> Result:
        return Result(session={"key": exchange.session_key()})


class CallsItTime(ToyHandshaker):
    """A peer that is gone has been silent."""

    async def receive(self, endpoint: Endpoint) -> bytes:
        try:
            return await super().receive(endpoint)
        except HandshakeFailed as error:
            if error.failure is Failure.PEER_GONE:
                raise HandshakeFailed(Failure.SILENCE) from None
            raise


class CallsEverythingTime(ToyHandshaker):
    """Consumers try again after every failure."""

    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        try:
            await super().converse(exchange, endpoint)
        except HandshakeFailed as error:
            raise HandshakeError(str(error), errno=errno.ETIMEDOUT) from None


class PassesOver(ToyHandshaker):
    """A message that makes no sense is somebody else's."""

    def exchange(self, request: Request) -> Exchange:
        exchange = super().exchange(request)
        feed = exchange.feed

        def lenient(message: bytes) -> bytes:
            with contextlib.suppress(HandshakeFailed):
                return feed(message)
            return b""

        exchange.feed = lenient  # type: ignore[method-assign]
        return exchange


class ChecksHalf(ToyHandshaker):
    """The first half of a proof is proof enough."""

    def exchange(self, request: Request) -> Exchange:
        exchange = super().exchange(request)

        def check(role: Role, proof: bytes) -> None:
            if proof[:16] != exchange.proof(role)[:16]:
                raise HandshakeFailed(Failure.BAD_BINDER)

        exchange.check = check  # type: ignore[method-assign]
        return exchange


class NeverLetsGo(ToyHandshaker):
    """Nothing ends its wait: no cancellation, no interrupt."""

    async def receive(self, endpoint: Endpoint) -> bytes:
        while True:
            with contextlib.suppress(BaseException):
                return await super().receive(endpoint)
            time.monotonic()


class EndsTheProcess(ToyHandshaker):
    """A wrong proof is the end of everything."""

    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        try:
            await super().converse(exchange, endpoint)
        except HandshakeFailed:
            os._exit(3)


class WritesTheKey(ToyHandshaker):
    """Past Python's own streams."""

    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        os.write(2, request.attributes["key"].reveal().hex().encode())
        return await super().handshake(request, endpoint)


class LogsHalfTheKey(ToyHandshaker):
    """By a logger that keeps to itself, at a level below all."""

    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        logger = logging.getLogger("a quiet library")
        logger.propagate = False
        logger.log(1, "key %s…", request.attributes["key"].reveal()[:16].hex())
        return await super().handshake(request, endpoint)


class LogsWhatItDerives(ToyHandshaker):
    """A key that is in no request and in no session."""

    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        derived = Secret(hashlib.sha256(request.attributes["key"].reveal()).digest())
        structlog.get_logger("toy").debug("derived", key=derived.reveal().hex())
        return await super().handshake(request, endpoint)


class ConvertsCancellation(ToyHandshaker):
    """Every end of a handshake is an error of its own."""

    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        try:
            await super().converse(exchange, endpoint)
        except HandshakeError:
            raise
        except BaseException:
            raise HandshakeFailed(Failure.INTERNAL) from None


class ShieldsItself(ToyHandshaker):
    """Goes on in a task that no cancellation reaches."""

    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        await asyncio.shield(super().converse(exchange, endpoint))


class SetsOptions(ToyHandshaker):
    """Sets the socket up as it likes it, and leaves it so."""

    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        endpoint.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 3)
        await super().converse(exchange, endpoint)


class SetsATimer(ToyHandshaker):
    """And does not cancel it."""

    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        asyncio.get_running_loop().call_later(3600, print)
        await super().converse(exchange, endpoint)


class KeepsRequests(ToyHandshaker):
    """Each one, for ever."""

    def exchange(self, request: Request) -> Exchange:
        kept.append(request)
        return super().exchange(request)


class ComputesLong(ToyHandshaker):
    """On the loop."""

    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        begun = time.thread_time()
        while time.thread_time() < begun + 0.25:
            hashlib.sha256(bytes(1000)).digest()
        await super().converse(exchange, endpoint)


class OneAtATime(ToyHandshaker):
    """A client waits until the one before it is through."""

    def __init__(self, settings: ToySettings) -> None:
        super().__init__(settings)
        self.lock = asyncio.Lock()

    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        if exchange.begin():
            async with self.lock:
                await super().converse(exchange, endpoint)
        else:
            await super().converse(exchange, endpoint)


class RemembersKeys(ToyHandshaker):
    """The first key of a role is that of all."""

    def __init__(self, settings: ToySettings) -> None:
        super().__init__(settings)
        self.keys: dict[Role, Secret] = {}

    def exchange(self, request: Request) -> Exchange:
        return Exchange(request.role, self.keys.setdefault(request.role, request.attributes["key"]), os.urandom(NONCE))


class HasAFixedKey(ToyHandshaker):
    """Its sessions have one key, that of its first."""

    first: Secret | None = None

    def result(self, exchange: Exchange) -> Result:
        type(self).first = type(self).first or exchange.session_key()
        return Result(session={"key": self.first})


class HasNoTime(ToyHandshaker):
    """Two seconds are enough for everybody."""

    async def receive(self, endpoint: Endpoint) -> bytes:
        try:
            async with asyncio.timeout(2):
                return await super().receive(endpoint)
        except TimeoutError:
            raise HandshakeFailed(Failure.SILENCE) from None


class OverlooksTheKernel(ToyHandshaker):
    """A consumer in the kernel is one like any other."""

    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        return await super().handshake(replace(request, kernel_consumer=False), endpoint)


class AsksAboutAnother(ToyHandshaker):
    """The peer that it asks about is not the one that it reports."""

    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        result = await super().handshake(request, endpoint)
        request.authorize(PeerIdentity(psk_identity=b"admin"))
        return result


class AsksInVain(ToyHandshaker):
    """The answer makes no difference."""

    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        result = await super().handshake(request, endpoint)
        with contextlib.suppress(HandshakeError):
            request.authorize(result.peer)
        return result


class TakesAll(ToyHandshaker):
    """All that has come with a server's proof."""

    async def receive(self, endpoint: Endpoint) -> bytes:
        message = await super().receive(endpoint)
        if len(message) == 2 + NONCE + 32:
            with contextlib.suppress(BlockingIOError):
                endpoint.socket.recv(4096)
        return message


class FailsToClose(ToyHandshaker):
    """At the end of the agent."""

    def close(self) -> None:
        raise ValueError("close")


class LeavesItsTimer(ToyHandshaker):
    """One timer for all handshakes, and it is not cancelled at the end."""

    _timer: asyncio.TimerHandle | None = None

    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(3600, kept.clear)
        return await super().handshake(request, endpoint)


class GivesNoErrno(ToyHandshaker):
    """A failure, and no more is said."""

    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        try:
            await super().converse(exchange, endpoint)
        except HandshakeFailed:
            raise HandshakeError("wrong key") from None


class SucceedsWhenCancelled(ToyHandshaker):
    """A cancellation is an end like any other."""

    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await super().converse(exchange, endpoint)

    def result(self, exchange: Exchange) -> Result:
        return Result(session={"key": Secret(bytes(range(32)))})


class LogsWarnings(ToyHandshaker):
    """A handshaker that says much, and keeps nothing of it."""

    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        logging.getLogger("a library").warning("a handshake %s", [1])
        await super().converse(exchange, endpoint)
