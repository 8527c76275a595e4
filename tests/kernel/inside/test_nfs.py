"""NFS 4.2 over TLS (RFC 9289): the kernel's client and server, with our agents on either end or on both."""

from __future__ import annotations

import os

import pytest

from tests.kernel.consumers import nfs_mount, nfs_server
from tests.kernel.inside.conftest import Arrangement


@pytest.mark.parametrize("security", ["tls", "mtls"])
def test_a_file_both_ways(arrangement: Arrangement, security: str) -> None:
    """Written through the mount it is on the server, and comes back through it; the export takes no other kind."""
    content = os.urandom(1 << 20)
    option = f"xprtsec={security}"
    name = "far.test" if arrangement.server else "near.test"
    with (
        nfs_server(option, namespace=arrangement.server) as exported,
        nfs_mount(name, option, namespace=arrangement.client) as mounted,
    ):
        (mounted / "file").write_bytes(content)
        assert (exported / "file").read_bytes() == content
        descriptor = os.open(mounted / "file", os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        with open(descriptor, "rb") as file:
            assert file.read() == content
