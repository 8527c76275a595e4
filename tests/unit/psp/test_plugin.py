"""The plugin on real sockets, with the software device: both roles, and the session handed over."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from dataclasses import replace

import pytest

from hsframework.errors import StreamError
from hsframework.interface import AuthMode, PresharedKey, Request, Result, Role
from hsframework.testing.network import tcp_pair
from hsframework_psp import hooks
from hsframework_psp.keys import Grant, Key
from hsframework_psp.packet_device import PacketAssociation
from hsframework_psp.packets import PacketRefused
from hsframework_psp.per_process import PerProcess
from hsframework_psp.plugin import ALPN, PspHandshaker, _Run
from hsframework_psp.renewal import RenewalState
from hsframework_psp.settings import Settings
from hsframework_psp.streams import AsyncPspStream
from hsframework_psp.versions import Version
from hsframework_tls13.events import SessionBroken, SessionTruncated
from tests.unit.psp.handshakes import (
    AS_CLIENT,
    AS_SERVER,
    Outcome,
    both,
    established,
    exactly,
    outcomes,
    results,
    run,
    shake,
    streams,
)
from tests.unit.tls13.support import CLIENT, KEY_256, KEY_384, SERVER


def test_a_session() -> None:
    """Both know each other by certificate; what one sends under is what the other receives under."""
    client, server = results()
    assert client.peer.certificates[0] == SERVER.chain[0]
    assert server.peer.certificates[0] == CLIENT.chain[0]
    assert client.alpn == server.alpn == ALPN
    assert not client.in_kernel
    for one, other in ((client, server), (server, client)):
        assert one.session["tx-spi"] == other.session["rx-spi"]
        assert one.session["tx-key"] == other.session["rx-key"]
    assert client.session["rx-key"] != client.session["tx-key"]
    assert client.tags["version"] == "aes-gcm-256"
    assert client.tags["device"] == "software"


@pytest.mark.parametrize("version", ["aes-gcm-128", "aes-gcm-256", "aes-gmac-128", "aes-gmac-256"])
def test_every_version(version: str) -> None:
    """The server's only version is what both get."""
    offering = PspHandshaker(Settings(versions=("aes-gcm-256", "aes-gmac-256", "aes-gmac-128", "aes-gcm-128")))
    only = PspHandshaker(Settings(versions=(version,), device="software"))
    client, server = results(AS_CLIENT, AS_SERVER, offering, only)
    assert client.tags["version"] == server.tags["version"] == version


@pytest.mark.parametrize("key", [KEY_256, KEY_384], ids=["sha256", "sha384"])
def test_with_a_psk(key: PresharedKey) -> None:
    """An external PSK authenticates both sides as well."""

    async def look_up(identity: bytes) -> PresharedKey | None:
        return key if identity == key.identity else None

    client = replace(AS_CLIENT, auth_mode=AuthMode.PSK, identities=(), psks=(key,), peer_name=None, trust=None)
    server = replace(AS_SERVER, auth_mode=AuthMode.PSK, identities=(), psk_lookup=look_up, trust=None)
    first, second = results(client, server)
    assert first.peer.psk_identity == second.peer.psk_identity == key.identity


def test_the_streams() -> None:
    """Data both ways in any sizes, the end said properly, and nothing readable on the wire."""
    near, far = tcp_pair()
    with near, far:
        client, server = streams(near, far)
        data = bytes(range(256)) * 300
        client.send(data)
        client.send(b"")
        received = b""
        while len(received) < len(data):
            received += server.receive(1000)
        assert received == data
        server.send(b"answer")
        server.send_eof()
        assert client.receive() == b"answer"
        assert client.receive() == b""
        assert client.peer_closed
        client.close()
        assert server.receive() == b""
        server.close()


def test_the_streams_over_asyncio() -> None:
    """The same on a loop."""
    near, far = tcp_pair()

    async def scene() -> None:
        first, second = await both(near, far)
        ends = []
        for outcome, sock, role in ((first, near, Role.CLIENT), (second, far, Role.SERVER)):
            assert isinstance(outcome, Result), outcome
            ends.append(hooks.hsframework_attach_session(established(outcome, role), sock, True))
        client, server = ends
        assert isinstance(client, AsyncPspStream)
        assert isinstance(server, AsyncPspStream)
        async with client, server:
            await client.send(b"question")
            assert await server.receive() == b"question"
            await server.send(b"answer")
            assert await client.receive() == b"answer"
            assert client.renewal.state is RenewalState.FRESH

    with near, far:
        run(scene())


def test_packets_of_the_consumers_own() -> None:
    """Sealed by one end, opened by the other, with any header; not by the one who sealed it."""
    near, far = tcp_pair()
    with near, far:
        client, server = streams(near, far)
        assert client.packets is not None
        assert server.packets is not None
        packet = client.packets.seal(b"a TCP segment", next_header=6, crypt_offset=4, cookie=b"cookie!!")
        opened = server.packets.open(packet)
        assert (opened.payload, opened.cookie, opened.header.next_header) == (b"a TCP segment", b"cookie!!", 6)
        with pytest.raises(PacketRefused):
            client.packets.open(packet)
        client.send(b"and the stream goes on")
        assert server.receive() == b"and the stream goes on"


@pytest.mark.parametrize("what", ["flipped", "repeated", "dropped", "cut off", "oversized"])
def test_a_stream_that_is_tampered_with(what: str) -> None:
    """Each ends with an error, after the good data before it, and again when asked again."""
    near, far = tcp_pair()
    with near, far:
        client, server = streams(near, far)
        for data in (b"first", b"second"):
            client.send(data)
        wire = exactly(far, sum(2 + 16 + 9 + len(data) + 16 for data in (b"first", b"second")))
        size = 2 + int.from_bytes(wire[:2], "big")
        first, second = wire[:size], wire[size:]
        changed = {
            "flipped": first + second[:-1] + bytes([second[-1] ^ 1]),
            "repeated": first + first,
            "dropped": second,
            "cut off": first + second[:-1],
            "oversized": first + b"\xff\xff" + second,
        }[what]
        near.sendall(changed)
        near.shutdown(socket.SHUT_WR)
        if what != "dropped":
            assert server.receive() == b"first"
        for _ in range(2):
            with pytest.raises(SessionTruncated if what == "cut off" else SessionBroken):
                server.receive()


def test_what_follows_the_exchange_is_the_consumers() -> None:
    """Each side's last message is read to its end and no further, also when the consumer's data is right behind."""
    near, far = tcp_pair()

    async def scene() -> None:
        async def eager(sock: socket.socket, request: Request) -> Outcome:
            outcome = await shake(sock, request)
            await asyncio.get_running_loop().sock_sendall(sock, b"the consumer's first byte")
            return outcome

        await asyncio.gather(eager(near, AS_CLIENT), eager(far, AS_SERVER))

    with near, far:
        run(scene())
        for sock in (near, far):
            sock.settimeout(10)
            assert sock.recv(100) == b"the consumer's first byte"


def test_a_session_that_makes_no_sense() -> None:
    """Parameters that are missing or contradict each other: StreamError, and no stream."""
    client, _ = results()
    whole = established(client, Role.CLIENT)
    near, far = tcp_pair()
    with near, far:
        changes = ({"rx-key": None}, {"version": 9}, {"tx-spi": 0}, {"carrier": 1}, {"carrier": 3}, {"next-iv": None})
        for change in changes:
            parameters = {**whole.parameters, **change}
            with pytest.raises(StreamError):
                hooks.hsframework_attach_session(replace(whole, parameters=parameters), near, False)
    assert hooks.hsframework_attach_session(replace(whole, protocol="tls13"), near, False) is None


def test_forked_workers_share_no_device() -> None:
    """A key that a worker grants, another never does: after a fork the device is another one, with other keys."""
    handshaker = PspHandshaker(Settings(device="software"))
    ours = handshaker._packets.get().associate(Version.AES_GCM_256).grant
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        grant = handshaker._packets.get().associate(Version.AES_GCM_256).grant
        os.write(writing, grant.spi.to_bytes(4, "big") + grant.key.reveal())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 100)
    os.close(reading)
    os.close(writing)
    assert len(theirs) == 36
    assert theirs[4:] != ours.key.reveal()
    assert int.from_bytes(theirs[:4], "big") != ours.spi + 1
    handshaker.close()


def test_each_process_has_one_value_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made at the first call in it, and the same at each further one."""
    values = PerProcess(itertools.count(1).__next__)
    assert values.existing is None
    assert [values.get(), values.get(), values.existing] == [1, 1, 1]
    monkeypatch.setattr(os, "getpid", lambda: 0)
    assert values.existing is None
    assert [values.get(), values.get(), values.existing] == [2, 2, 2]


def test_a_value_that_cannot_be_made_is_tried_again() -> None:
    """The error is raised, and the next call makes it."""
    answers = iter([False, True])

    def make() -> str:
        if not next(answers):
            raise LookupError
        return "made"

    values = PerProcess(make)
    with pytest.raises(LookupError):
        values.get()
    assert values.existing is None
    assert values.get() == "made"


@pytest.mark.parametrize("role", list(Role), ids=lambda role: role.name)
def test_a_cancelled_handshake_leaves_no_key(role: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its deadline the host cancels it, here while the proof of a session that has switched is awaited."""
    kept: list[Key] = []
    read = _Run._read_proof

    async def never(self: _Run) -> bytes:
        if self._session.role is not role:
            return await read(self)
        association = self._association
        assert isinstance(association, PacketAssociation)
        kept.extend((association.grant.key, association._rx_key, association._tx_key))
        waiting.set()
        await asyncio.Event().wait()
        return b""

    monkeypatch.setattr(_Run, "_read_proof", never)
    near, far = tcp_pair()

    async def scene() -> None:
        client, server = (asyncio.ensure_future(shake(*it)) for it in ((near, AS_CLIENT), (far, AS_SERVER)))
        await waiting.wait()
        mine, other = (client, server) if role is Role.CLIENT else (server, client)
        mine.cancel()
        with pytest.raises(asyncio.CancelledError):
            await mine
        await other

    with near, far:
        waiting = asyncio.Event()
        run(scene())
    assert len(kept) == 3
    assert all(key.wiped for key in kept)


@pytest.mark.parametrize("succeeds", [True, False])
def test_the_agent_keeps_no_key(succeeds: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a session that it has given to its consumer, and of one that came to nothing behind the switch."""
    kept: list[Key] = []
    switch = PacketAssociation.switch

    def keep(self: PacketAssociation, grant: Grant) -> None:
        switch(self, grant if succeeds else Grant(grant.spi, Key(bytes(len(grant.key)))))
        kept.extend((self.grant.key, grant.key, self._rx_key, self._tx_key))

    monkeypatch.setattr(PacketAssociation, "switch", keep)
    client, server = outcomes()
    assert isinstance(client, Result) is isinstance(server, Result) is succeeds
    assert len(kept) == 8
    assert all(key.wiped for key in kept)
