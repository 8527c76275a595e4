"""A listening port of a datagram protocol: whose datagram is whose, with a gate of the test's own and real sockets."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import random
import select
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from hsframework.client import AsyncUdpListener, HandshakeOptions, Newcomer, UdpListener, connect_udp
from hsframework.client.newcomers import MAX_FIRST
from hsframework.client.udp import Arrival, Port
from hsframework.errors import ConfigurationError, HsframeworkError, PluginError
from hsframework.interface import AddressValidation, Admission, Gate, Role


class ToyGate:
    """A datagram is ``new CONNECTION DATA``, ``more CONNECTION DATA``, ``ask DATA`` or something else."""

    def __init__(self) -> None:
        self.busy: list[bool] = []

    def judge(self, datagram: bytes, address: str, *, now: float, busy: bool) -> Admission | bytes | None:
        self.busy.append(busy)
        match datagram.split(b" ", 2):
            case [b"new", connection, _]:
                return Admission(connection, {"from": address})
            case [b"ask", data]:
                return b"answer " + data
        return None

    def belongs(self, admission: Admission, datagram: bytes) -> bool:
        return datagram.split(b" ", 2)[1:2] == [admission.connection]

    def attributes(self, admission: Admission, datagrams: Sequence[bytes]) -> Mapping[str, Any]:
        return {**admission.attributes, "datagrams": tuple(datagrams)}


def registry(gate: Gate | None) -> Any:
    """Return a registry with one protocol whose clients pass this gate."""
    return SimpleNamespace(protocols={"toy": SimpleNamespace(protocol=SimpleNamespace(gate=lambda validation: gate))})


def listen(host: str = "127.0.0.1", gate: Gate | None = None, **options: Any) -> UdpListener:
    return UdpListener(host, 0, protocol="toy", registry=registry(gate or ToyGate()), **options)


@pytest.fixture
def listener() -> Iterator[UdpListener]:
    with listen() as one:
        yield one


def client(listener: UdpListener | AsyncUdpListener, host: str = "127.0.0.1") -> socket.socket:
    sock = connect_udp(host, listener.address[1])
    sock.settimeout(20)
    return sock


def test_a_client(listener: UdpListener) -> None:
    """Its own socket, connected both ways, and all that it has sent so far in order.

    What comes later is in the socket.
    """
    with client(listener) as sock:
        sock.send(b"new 1 a")
        sock.send(b"more 1 b")
        newcomer = listener.accept(20)
        with newcomer.socket as own:
            assert newcomer.attributes["datagrams"] == (b"new 1 a", b"more 1 b")
            assert newcomer.attributes["from"] == newcomer.address == "{}:{}".format(*sock.getsockname())
            sock.send(b"later")
            assert own.recv(100) == b"later"
            own.send(b"back")
            assert sock.recv(100) == b"back"


def test_two_hundred_clients_at_once(listener: UdpListener) -> None:
    """Their datagrams come interleaved while sockets are being made for others: none is lost, none is mixed up."""
    count, each = 200, 6
    clients = [client(listener) for _ in range(count)]
    order = [number for number in range(count) for _ in range(each)]
    random.Random(7).shuffle(order)
    sent = [0] * count
    room = threading.Semaphore(100)  # so that no receive buffer is full, however slowly the listener is let run

    def send() -> None:
        for number in order:
            room.acquire()
            word = b"more" if sent[number] else b"new"
            clients[number].send(b"%b %d %d" % (word, number, sent[number]))
            sent[number] += 1

    sender = threading.Thread(target=send)
    sender.start()
    got: dict[int, list[bytes]] = {}
    newcomers: list[Newcomer] = []
    while len(newcomers) < count:
        newcomers.append(listener.accept(20))
        room.release(each)
    sender.join()
    for newcomer in newcomers:
        datagrams = list(newcomer.attributes["datagrams"])
        newcomer.socket.setblocking(False)
        while True:
            try:
                datagrams.append(newcomer.socket.recv(100))
            except BlockingIOError:
                break
        got[int(datagrams[0].split()[1])] = datagrams
        newcomer.close()
    for number in range(count):
        expected = [b"%b %d %d" % (b"more" if index else b"new", number, index) for index in range(each)]
        # In any order: while sockets are made, the kernel may deliver on two processors.
        assert sorted(got[number]) == sorted(expected)
        clients[number].close()


def test_the_moment_before_a_clients_socket_is_connected(
    listener: UdpListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Datagrams of others that come then are not lost, also when they are more than a socket usually holds."""
    clients = [client(listener) for _ in range(22)]
    connect = socket.socket.connect

    def send_and_connect(sock: socket.socket, address: Any) -> None:
        if address == clients[1].getsockname():
            for number in range(2, len(clients)):
                for index in range(MAX_FIRST):
                    clients[number].send(b"%b %d %d" % (b"more" if index else b"new", number, index))
        connect(sock, address)

    monkeypatch.setattr(socket.socket, "connect", send_and_connect)
    newcomers = []
    for sock in clients[:2]:
        sock.send(b"new %d 0" % clients.index(sock))
        newcomers.append(listener.accept(20))
    newcomers += [listener.accept(20) for _ in clients[2:]]
    assert [len(newcomer.attributes["datagrams"]) for newcomer in newcomers] == [1, 1, *[MAX_FIRST] * 20]
    usual = clients[0].getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    for newcomer, sock in zip(newcomers, clients, strict=True):
        assert newcomer.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == usual
        newcomer.close()
        sock.close()


def test_silence_and_answers(listener: UdpListener) -> None:
    """A datagram that the gate ignores gets nothing, one that it answers gets that; neither makes a client."""
    with client(listener) as sock:
        for junk in (b"", b"junk", os.urandom(1200)):
            sock.send(junk)
        sock.send(b"ask me")
        while not select.select([sock], [], [], 0)[0]:  # the machine may be too busy to deliver within one accept
            with pytest.raises(TimeoutError):
                listener.accept(0.05)
        assert sock.recv(100) == b"answer me"
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(100)


@pytest.mark.parametrize(
    ("host", "target"), [("::1", "::1"), ("::", "::1"), ("0.0.0.0", "127.0.0.7"), ("::", "127.0.0.9")]
)
def test_addresses(host: str, target: str) -> None:
    """Both families; on a wildcard the client is answered from the address that it wrote to, first and later."""
    with listen(host) as listener, client(listener, target) as sock:
        sock.send(b"ask me")
        sock.send(b"new 1 a")
        newcomer = listener.accept(20)
        assert sock.recv(100) == b"answer me"
        newcomer.socket.send(b"from there")
        assert sock.recv(100) == b"from there"
        newcomer.close()


def test_an_earlier_attempt_from_the_same_address(listener: UdpListener) -> None:
    """Datagrams of another connection of the same client do not get among those of the one that was let in."""
    with client(listener) as sock:
        for data in (b"new 1 a", b"new 2 b", b"more 1 c"):
            sock.send(data)
        newcomer = listener.accept(20)
        assert newcomer.attributes["datagrams"] == (b"new 1 a", b"more 1 c")
        newcomer.close()


def test_first_datagrams_are_bounded(listener: UdpListener) -> None:
    """A client that sends and sends before it is taken does not fill the memory."""
    with client(listener) as sock:
        for number in range(MAX_FIRST + 20):
            sock.send(b"%b 1 %d" % (b"more" if number else b"new", number))
        newcomer = listener.accept(20)
        assert len(newcomer.attributes["datagrams"]) == MAX_FIRST
        newcomer.close()


def test_half_open_clients_are_bounded() -> None:
    """The third of two is not answered.

    When one is done it gets in with its next attempt, and the gate knows the load.
    """
    gate = ToyGate()
    with listen(gate=gate, max_half_open=2) as listener:
        socks = [client(listener) for _ in range(3)]
        for number, sock in enumerate(socks):
            sock.send(b"new %d x" % number)
        first, second = listener.accept(20), listener.accept(20)
        with pytest.raises(TimeoutError):
            listener.accept(0.05)
        assert gate.busy == [False, True]
        first.close()
        socks[2].send(b"new 2 again")
        third = listener.accept(20)
        assert third.attributes["datagrams"] == (b"new 2 again",)
        second.socket.close()
        third.socket.close()
        del second, third
        gc.collect()
        socks[0].send(b"new 0 x")
        listener.accept(20).close()
        for sock in socks:
            sock.close()


def test_close() -> None:
    """It ends an accept of another thread, gives back what nobody took, and leaves no descriptor."""
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    listener = listen()
    errors: list[HsframeworkError] = []

    def accept() -> None:
        try:
            listener.accept()
        except HsframeworkError as error:
            errors.append(error)

    thread = threading.Thread(target=accept)
    thread.start()
    listener.close()
    listener.close()
    thread.join(20)
    assert [error.errno for error in errors] == [errno.EBADF]
    listener = listen()
    with client(listener) as one, client(listener) as other:
        one.send(b"new 1 a")
        other.send(b"new 2 b")
        listener.accept(20).close()
        listener.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("127.0.0.1", ("127.0.0.1", 0)),
        ("127.0.0.1", ("0.0.0.0", 9)),
        ("::1", ("::1", 0, 0, 0)),
        ("::1", ("::", 9, 0, 0)),
    ],
)
def test_a_source_that_is_nobodys_makes_no_client(host: str, source: tuple[Any, ...]) -> None:
    """A socket connected to port 0 would get every client's datagrams of that address, and nobody else theirs."""
    port = Port(host, 0)
    try:
        with pytest.raises(OSError, match="nobody sends from there"):
            port.connect(Arrival(b"new 1 a", source, host, 0)).close()
        with connect_udp(host, port.address[1]) as sock:
            sock.send(b"mine")
            assert select.select([port], [], [], 20)[0]
            arrival = port.receive()
        assert arrival is not None
        assert arrival.data == b"mine"
    finally:
        port.close()


@pytest.mark.parametrize(("host", "target"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "127.0.0.9")])
def test_no_datagram_is_fragmented(host: str, target: str) -> None:
    """RFC 9000 section 14: both ends send with "don't fragment", by either family."""
    probe = 3
    with listen(host) as listener, client(listener, target) as sock:
        sock.send(b"new 1 a")
        newcomer = listener.accept(20)
        for each in (sock, newcomer.socket):
            assert each.getsockopt(socket.IPPROTO_IP, 10) == probe
            assert each.family == socket.AF_INET or each.getsockopt(socket.IPPROTO_IPV6, 23) == probe
        newcomer.close()


def test_accept_ends_in_time_beside_another_thread(listener: UdpListener) -> None:
    """Of several threads that accept, one with a timeout does not wait for one without."""
    waiting = threading.Event()
    taken: list[Newcomer] = []

    def accept() -> None:
        waiting.set()
        taken.append(listener.accept(20))

    thread = threading.Thread(target=accept)
    with client(listener) as sock:
        thread.start()
        waiting.wait(20)
        with pytest.raises(TimeoutError):
            listener.accept(0.05)
        assert thread.is_alive()
        sock.send(b"new 1 a")
        thread.join(20)
    taken[0].close()


def test_a_port_that_is_taken(listener: UdpListener) -> None:
    """EADDRINUSE with what to do, rather than half of the other's clients."""
    with pytest.raises(HsframeworkError, match="choose another") as caught:
        UdpListener("127.0.0.1", listener.address[1], protocol="toy", registry=registry(ToyGate()))
    assert caught.value.errno == errno.EADDRINUSE


def test_wrong_use() -> None:
    """A protocol that is not there, one without datagrams, no room for anybody, attributes that are encoded already."""
    with pytest.raises(PluginError, match="install hsframework-other"):
        UdpListener("127.0.0.1", 0, protocol="other", registry=registry(None))
    with pytest.raises(ConfigurationError, match="TCP"):
        UdpListener("127.0.0.1", 0, protocol="toy", registry=registry(None))
    with pytest.raises(ConfigurationError, match="at least one"):
        listen(max_half_open=0)
    with listen() as listener, client(listener) as sock:
        sock.send(b"new 1 a")
        newcomer = listener.accept(20)
        with pytest.raises(ConfigurationError, match="mapping"):
            newcomer.options(HandshakeOptions(role=Role.SERVER, attributes=b"x"))
        newcomer.close()


def test_asyncio() -> None:
    """Clients are let in while nobody accepts; closing ends an accept."""

    async def main() -> None:
        with AsyncUdpListener(
            "127.0.0.1", 0, protocol="toy", registry=registry(ToyGate()), validation=AddressValidation.NEVER
        ) as listener:
            with client(listener) as one, client(listener) as other:
                one.send(b"new 1 a")
                other.send(b"new 2 b")
                got = [await listener.accept(), await listener.accept()]
                assert [item.attributes["datagrams"] for item in got] == [(b"new 1 a",), (b"new 2 b",)]
                for item in got:
                    assert not item.socket.getblocking()
                    item.close()
            waiting = asyncio.create_task(listener.accept())
            await asyncio.sleep(0)
            listener.close()
            with pytest.raises(HsframeworkError, match="closed"):
                await waiting

    asyncio.run(main())


def test_connect_udp() -> None:
    """A name that is none says so; a socket is connected without a packet."""
    with pytest.raises(HsframeworkError, match="cannot be found") as caught:
        connect_udp("no such host.invalid", 1)
    assert caught.value.errno == errno.EHOSTUNREACH
    with connect_udp("127.0.0.1", 9) as sock:
        assert sock.getpeername() == ("127.0.0.1", 9)
