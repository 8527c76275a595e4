"""Local users who attack the service keep no mount of the kernel's from its handshakes."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.consumers import known_host, nfs_mount, nfs_server
from tests.kernel.hostile import ATTACKS
from tests.kernel.house import ROOT, End, House, house

STRANGER, USER = 65534, 1000
SECURITY = "xprtsec=mtls"


@pytest.fixture(scope="module")
def service() -> Iterator[House]:
    known_host("nfs.test", "127.0.0.1")
    client, server = End(ROOT.issue(["client.test"])), End(ROOT.issue(["nfs.test"]))
    with house(client=client, server=server, more=f'[[allow]]\nusers = ["{USER}"]') as made:
        yield made


@contextlib.contextmanager
def attacked(uid: int, attack: str, folder: Path) -> Iterator[None]:
    """Run an attack that has begun to have its effect, for the length of the block."""
    command = [sys.executable, "-m", "tests.kernel.hostile", str(uid), attack, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield
            assert process.poll() is None
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("uid", "attack"), [(STRANGER, "lingering"), (STRANGER, "flooding"), (USER, "lingering"), (USER, "submitting")]
)
def test_a_mount_beside_an_attack(service: House, uid: int, attack: str) -> None:
    """Two mounts with mutual TLS while it goes on, and one when it is over."""
    assert attack in ATTACKS
    with nfs_server(SECURITY):
        with attacked(uid, attack, service.runtime_dir):
            for _ in range(2):
                with nfs_mount("nfs.test", SECURITY) as mounted:
                    assert mounted.is_dir()
        with nfs_mount("nfs.test", SECURITY):
            pass
