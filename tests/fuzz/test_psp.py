"""Input of a network peer to the PSP plugin: messages of the exchange, and packets."""

from __future__ import annotations

import contextlib
import os

import pytest
from hypothesis import given, strategies as st

from hsframework.failures import HandshakeFailed
from hsframework.interface import Role
from hsframework_psp.messages import decode
from hsframework_psp.packets import PacketOpener, PacketRefused, PacketSealer, decapsulate, encapsulate
from hsframework_psp.software import SoftwareDevice
from hsframework_psp.versions import Version
from tests.fuzz.conftest import Fuzz
from tests.fuzz.mutation import damaged
from tests.unit.psp.support import run, side

pytestmark = pytest.mark.fuzz


def messages() -> list[bytes]:
    """Return the messages of an exchange that goes well."""
    seen: list[bytes] = []

    def record(number: int, message: bytes) -> bytes:
        seen.append(message)
        return message

    run(side(Role.CLIENT), side(Role.SERVER), record)
    return seen


GOOD = messages()


def test_messages(fuzz: Fuzz) -> None:
    """A damaged message is HandshakeFailed, or one that encodes to the same meaning."""

    @given(st.one_of(*map(damaged, GOOD), st.binary(max_size=1100)))
    def target(data: bytes) -> None:
        with contextlib.suppress(HandshakeFailed):
            message = decode(data)
            assert decode(message.encode()) == message

    fuzz(target)


def test_exchanges(fuzz: Fuzz) -> None:
    """With anything in place of one message both never succeed, and an end that has failed holds no key."""

    @given(st.integers(0, 4), st.data())
    def target(number: int, choice: st.DataObject) -> None:
        bad = choice.draw(st.one_of(damaged(GOOD[number]), st.sampled_from(GOOD)))
        client, server = side(Role.CLIENT), side(Role.SERVER)
        try:
            run(client, server, lambda at, message: bad if at == number else message)
        except HandshakeFailed:
            assert not (client.done and server.done)
        else:
            assert bad == GOOD[number]
        for end in (client, server):
            if end.step is None or end.done:
                assert not end.exchange.keys

    fuzz(target)


def test_packets(fuzz: Fuzz) -> None:
    """A damaged packet is refused by who has the key and by the device, and by nothing but PacketRefused."""
    device = SoftwareDevice(os.urandom)
    grant = device.allocate(Version.AES_GCM_128)
    key = grant.key.reveal()
    good = PacketSealer(Version.AES_GCM_128, grant.spi, key).seal(b"payload" * 9, next_header=6, crypt_offset=8)
    opener = PacketOpener(Version.AES_GCM_128, grant.spi, key)

    @given(st.one_of(damaged(good), st.binary(max_size=100)).filter(lambda packet: packet != good))
    def target(packet: bytes) -> None:
        for receive in (opener.open, device.open):
            with pytest.raises(PacketRefused):
                receive(packet)

    fuzz(target)


def test_datagrams(fuzz: Fuzz) -> None:
    """A damaged datagram is refused, or holds a packet no longer than itself."""
    good = encapsulate(bytes(40), source_port=1)

    @given(damaged(good))
    def target(datagram: bytes) -> None:
        with contextlib.suppress(PacketRefused):
            assert len(decapsulate(datagram)) <= len(datagram) - 8

    fuzz(target)
