"""The yardstick: the C agent serves the kernel's consumers, so that what fails with ours is not the kernel's fault; and
its configuration, by which ours takes its place.
"""

from __future__ import annotations

import os

import pytest

from tests.kernel.consumers import (
    known_host,
    nfs_mount,
    nfs_server,
    nvme_connection,
    nvme_key,
    nvme_target,
    tlshd,
    tlshd_configuration,
    x509,
)
from tests.kernel.house import ROOT, house, tls_sessions
from tests.kernel.machine import DEBIAN

SUBSYSTEM = "nqn.2014-08.org.example:kernel-test"


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
        assert tls_sessions() == 4
        (mounted / "file").write_bytes(content)
        assert (exported / "file").read_bytes() == content


def test_its_place_is_taken() -> None:
    """`hsframework run --tlshd-config` with the file that tlshd had serves mtls on both ends, and NVMe's keys."""
    known_host("nfs.test", "127.0.0.1")
    path, content = DEBIAN / "etc" / "ours.conf", os.urandom(1 << 20)
    nvme_key(SUBSYSTEM, 1)
    sections = {
        f"authenticate.{role}": {
            # It reads them from here, and not from within the root.
            option: f"{DEBIAN}{value}"
            for option, value in x509(ROOT.issue([f"{name}.test"]), name).items()
        }
        for role, name in (("client", "client"), ("server", "nfs"))
    }
    tlshd_configuration(path, sections)
    with house(words=("--tlshd-config", str(path))):
        with nfs_server("xprtsec=mtls") as exported, nfs_mount("nfs.test", "xprtsec=mtls") as mounted:
            assert tls_sessions() == 4
            (mounted / "file").write_bytes(content)
            assert (exported / "file").read_bytes() == content
        with nvme_target(SUBSYSTEM, "127.0.0.1"), nvme_connection(SUBSYSTEM, "127.0.0.1"):
            assert tls_sessions() >= 8


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
        assert tls_sessions() >= 8  # admin queue and one I/O queue, both ends, both directions
        with open(device, "r+b", buffering=0) as disk:
            disk.write(block)
            os.fsync(disk.fileno())
        with open(backing, "rb", buffering=0) as disk:
            os.posix_fadvise(disk.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert disk.read(4096) == block
