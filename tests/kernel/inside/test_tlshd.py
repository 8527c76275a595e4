"""The yardstick: the C agent serves the kernel's consumers, so that what fails with ours is not the kernel's fault."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hsframework.testing.certificates import Authority
from tests.kernel.consumers import (
    known_host,
    nfs_mount,
    nfs_server,
    nvme_connection,
    nvme_key,
    nvme_target,
    tlshd,
    x509,
)

ROOT = Authority("Kernel Test Root")
SUBSYSTEM = "nqn.2014-08.org.example:kernel-test"


def _tls_sessions() -> int:
    """The directions of kTLS that are in use, in this network namespace."""
    lines = (line.split() for line in Path("/proc/net/tls_stat").read_text().splitlines())
    return sum(int(value) for name, value in lines if name in ("TlsCurrTxSw", "TlsCurrRxSw"))


@pytest.mark.parametrize("security", ["tls", "mtls"])
def test_nfs(security: str) -> None:
    """NFS 4.2 with certificates on both ends: a file written through the mount is on the server."""
    known_host("nfs.test", "127.0.0.1")
    server, client = (x509(ROOT.issue([f"{name}.test"]), name) for name in ("nfs", "client"))
    content = os.urandom(1 << 20)
    with (
        tlshd({"authenticate.client": client, "authenticate.server": server}),
        nfs_server(f"xprtsec={security}") as exported,
        nfs_mount("nfs.test", f"xprtsec={security}") as mounted,
    ):
        assert _tls_sessions() == 4
        (mounted / "file").write_bytes(content)
        assert (exported / "file").read_bytes() == content


@pytest.mark.parametrize("hash_number", [1, 2], ids=["sha256", "sha384"])
def test_nvme(hash_number: int) -> None:
    """NVMe/TCP with a key: a block written through the connection is on the target's disk."""
    block = os.urandom(4096)
    nvme_key(SUBSYSTEM, hash_number)
    with (
        tlshd({"authenticate.client": {}, "authenticate.server": {}}),
        nvme_target(SUBSYSTEM, "127.0.0.1") as backing,
        # Each tlshd child that ends may take .nvme out of the keyring that the next one searches.
        nvme_connection(SUBSYSTEM, "127.0.0.1", attempts=10) as device,
    ):
        assert _tls_sessions() >= 8  # admin queue and one I/O queue, both ends, both directions
        with open(device, "r+b", buffering=0) as disk:
            disk.write(block)
            os.fsync(disk.fileno())
        with open(backing, "rb", buffering=0) as disk:
            os.posix_fadvise(disk.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert disk.read(4096) == block
