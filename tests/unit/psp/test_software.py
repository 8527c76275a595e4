"""The software device: phases, rotation, SPIs, and what receiving costs."""

from __future__ import annotations

import itertools
import os
import tracemalloc

import pytest

from hsframework_psp.keys import Grant
from hsframework_psp.packets import PacketRefused, PacketSealer
from hsframework_psp.software import SoftwareDevice
from hsframework_psp.spis import SpiAllocator, SpisUsedUp
from hsframework_psp.versions import PHASE_BIT, SPI_MASK, Version

each_version = pytest.mark.parametrize("version", list(Version), ids=lambda version: version.label)


def sealed(version: Version, grant: Grant, payload: bytes = b"payload") -> bytes:
    return PacketSealer(version, grant.spi, grant.key.reveal()).seal(payload, next_header=6)


@each_version
def test_a_grant_is_all_that_a_sender_needs(version: Version) -> None:
    """Sealed under SPI and key, opened by the device alone."""
    device = SoftwareDevice(os.urandom)
    grant = device.allocate(version)
    assert len(grant.key) == version.key_size
    assert device.open(sealed(version, grant)).payload == b"payload"
    assert device.statistics()["rx_packets"] == 1


def test_rotation() -> None:
    """The phase flips; what is older by one goes on, what is older by two is dead; new SPIs are another key's."""
    device = SoftwareDevice(os.urandom)
    grants = [device.allocate(Version.AES_GCM_128)]
    for _ in range(5):
        device.rotate()
        grants.append(device.allocate(Version.AES_GCM_128))
        assert (grants[-1].spi ^ grants[-2].spi) & PHASE_BIT
        for grant in grants[-2:]:
            device.open(sealed(Version.AES_GCM_128, grant))
        for grant in grants[:-2]:
            with pytest.raises(PacketRefused, match="does not authenticate"):
                device.open(sealed(Version.AES_GCM_128, grant))
    assert device.rotations == 5


def test_100_000_spis_without_a_repeat() -> None:
    """Within a device key no SPI is given twice, none is zero, and all have its phase."""
    device = SoftwareDevice(os.urandom)
    spis = {device.allocate(Version.AES_GCM_128).spi for _ in range(100_000)}
    assert len(spis) == 100_000
    assert all(spi & SPI_MASK and not spi & PHASE_BIT for spi in spis)


def test_spis_wrap_around() -> None:
    """Counting goes on at 1 behind the last one, with the phase kept."""
    allocator = SpiAllocator(SPI_MASK - 2, phase=True)
    assert [allocator.allocate() ^ PHASE_BIT for _ in range(4)] == [SPI_MASK - 1, SPI_MASK, 1, 2]


def test_the_last_spi(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device rotates by itself when a device key has no SPI left."""
    allocator = SpiAllocator(5, phase=False)
    monkeypatch.setattr(allocator, "_left", 1)
    assert allocator.allocate() == 6
    with pytest.raises(SpisUsedUp):
        allocator.allocate()
    device = SoftwareDevice(os.urandom)
    monkeypatch.setattr(device, "_spis", allocator)
    assert device.allocate(Version.AES_GCM_128).spi & PHASE_BIT
    assert device.rotations == 1


def test_receiving_keeps_nothing_per_connection() -> None:
    """Memory after a packet from each of 20,000 connections is what it is after 200: that is PSP's point."""
    device = SoftwareDevice(os.urandom)

    def serve(connections: int) -> int:
        for _ in range(connections):
            grant = device.allocate(Version.AES_GCM_128)
            assert device.open(sealed(Version.AES_GCM_128, grant)).payload == b"payload"
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        few = serve(200)
        many = serve(20_000)
    finally:
        tracemalloc.stop()
    assert many - few < 4096


def test_versions_that_are_not_enabled() -> None:
    """Neither given out nor taken."""
    device = SoftwareDevice(os.urandom, frozenset({Version.AES_GCM_256}))
    with pytest.raises(ValueError, match="not enabled"):
        device.allocate(Version.AES_GMAC_128)
    packet = PacketSealer(Version.AES_GMAC_128, 1, bytes(16)).seal(b"", next_header=6)
    with pytest.raises(PacketRefused, match="not enabled"):
        device.open(packet)
    assert device.statistics()["rx_bad"] == 1


def test_closing_wipes_the_device_keys() -> None:
    """A closed device can no longer open or grant anything."""
    device = SoftwareDevice(os.urandom)
    packet = sealed(Version.AES_GCM_128, device.allocate(Version.AES_GCM_128))
    device.close()
    with pytest.raises(ValueError, match="wiped"):
        device.open(packet)


def test_devices_differ() -> None:
    """Two devices with the same SPI have other keys for it."""
    numbers = itertools.count()

    def random(size: int) -> bytes:
        return bytes([next(numbers)]) * size if size > 4 else bytes(size)

    first, second = SoftwareDevice(random), SoftwareDevice(random)
    one, other = first.allocate(Version.AES_GCM_256), second.allocate(Version.AES_GCM_256)
    assert one.spi == other.spi
    assert one.key != other.key
