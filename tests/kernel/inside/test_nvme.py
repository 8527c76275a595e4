"""NVMe/TCP over TLS with pre-shared keys: the kernel's host and target, with our agents on either end or on both."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.kernel.consumers import nvme_connection, nvme_drop, nvme_key, nvme_target
from tests.kernel.inside.conftest import Arrangement
from tests.kernel.machine import add_key, debian, describe_key

SUBSYSTEM = "nqn.2014-08.org.example:ours"
both_ends_ours = pytest.mark.parametrize("arrangement", ["ours-ours"], indirect=True)


def block_both_ways(device: Path, backing: str) -> None:
    """Check that a block written through the connection is on the target's disk, and comes back."""
    block = os.urandom(4096)
    with open(device, "r+b", buffering=0) as disk:
        disk.write(block)
        os.fsync(disk.fileno())
    for path in (backing, str(device)):
        with open(path, "rb", buffering=0) as disk:
            os.posix_fadvise(disk.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert disk.read(4096) == block


def key_in_use(device: Path) -> str:
    """Return the description of the key that the connection's controller uses by its own account."""
    serial = Path("/sys/class/nvme", device.name.removesuffix("n1"), "tls_key").read_text()
    return describe_key(int(serial, 16))[-1]


@pytest.mark.parametrize("hash_number", [1, 2], ids=["sha256", "sha384"])
def test_a_block_both_ways(arrangement: Arrangement, hash_number: int) -> None:
    """Written and read through an admin and an I/O queue, with a key of each hash."""
    nvme_key(SUBSYSTEM, hash_number)
    address, client = arrangement.server_address, arrangement.client
    # Each child of tlshd that ends may take .nvme out of the keyring that the next one searches.
    attempts = 1 if arrangement.all_ours else 10
    with (
        nvme_target(SUBSYSTEM, address, namespace=arrangement.server) as backing,
        nvme_connection(SUBSYSTEM, address, attempts=attempts, namespace=client) as device,
    ):
        assert key_in_use(device).startswith(f"NVMe0R0{hash_number} ")
        block_both_ways(device, backing)


@both_ends_ours
def test_a_dropped_connection_comes_back(arrangement: Arrangement) -> None:
    """The target drops every queue; the host connects again, with new handshakes, and the device works on."""
    nvme_key(SUBSYSTEM, 1)
    address, log = arrangement.server_address, arrangement.house.log
    with (
        nvme_target(SUBSYSTEM, address, namespace=arrangement.server) as backing,
        nvme_connection(SUBSYSTEM, address, "--reconnect-delay=1") as device,
    ):
        block_both_ways(device, backing)
        mark = log.mark
        nvme_drop(SUBSYSTEM, namespace=arrangement.server)
        log.wait("handshake", status="OK", since=mark, number=4)
        block_both_ways(device, backing)


@both_ends_ours
def test_an_unknown_key_is_refused(arrangement: Arrangement) -> None:
    """The host's key is where the target does not look: ENOKEY there, EKEYREJECTED at the host, and no device."""
    nvme_key(SUBSYSTEM, 1)
    (serial,) = debian("keyctl", "rlist", "%:.nvme").split()
    description = describe_key(int(serial))[-1]
    debian("keyctl", "clear", "%:.nvme")
    ring = debian("keyctl", "newring", "host-keys", "@u").strip()
    own = add_key("psk", description, os.urandom(32), int(ring))
    address, log = arrangement.server_address, arrangement.house.log
    mark = log.mark
    try:
        with nvme_target(SUBSYSTEM, address, namespace=arrangement.server):
            with pytest.raises(AssertionError, match="ended with"):
                nvme_connection(SUBSYSTEM, address, f"--keyring={ring}", f"--tls-key={own}").__enter__()
            log.wait("handshake", status="ENOKEY", since=mark)
            log.wait("handshake", status="EKEYREJECTED", peer=f"{address}:4420", since=mark)
        assert not log.events("handshake", status="OK", since=mark)
    finally:
        debian("keyctl", "unlink", ring, "@u")
