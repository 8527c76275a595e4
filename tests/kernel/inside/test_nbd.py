"""NBD over kTLS by the example in examples/nbd: user space makes the socket, and gives it to the kernel.

The server is nbdkit, whose TLS is GnuTLS.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.house import ROOT, House, house, tls_sessions
from tests.kernel.machine import DEBIAN, load
from tests.support.running import until

NAME = "disk.test"
ADDRESS, PORT = "127.0.0.1", 10809
SIZE = 8 << 20
FOLDER = Path("/tmp/nbd")
DISK, TRUST = FOLDER / "disk", FOLDER / "ca-cert.pem"
EXAMPLE = Path(__file__).parents[3] / "examples" / "nbd"


@pytest.fixture(scope="module")
def service() -> Iterator[House]:
    load("nbd")
    FOLDER.mkdir()
    files = ROOT.issue([NAME]).write(FOLDER, "server")
    for written, name in ((files.certificate, "server-cert.pem"), (files.private_key, "server-key.pem")):
        written.rename(FOLDER / name)
    ROOT.write(FOLDER, "ca").rename(TRUST)
    with house() as running:
        yield running


@contextlib.contextmanager
def nbdkit(*options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run nbdkit with a file of SIZE bytes, which stays as it is."""
    if not DISK.exists():
        DISK.touch()
        os.truncate(DISK, SIZE)
    place = [f"--ipaddr={ADDRESS}", f"--port={PORT}", f"--tls-certificates={FOLDER}"]
    pid = FOLDER / "pid"
    pid.unlink(missing_ok=True)
    command = ["nbdkit", "--foreground", f"--pidfile={pid}", *place, *options, "file", str(DISK)]
    with subprocess.Popen(["chroot", str(DEBIAN), *command]) as server:
        try:
            until(pid.exists, "nbdkit listens")
            yield server
        finally:
            server.kill()


class Attached:
    """The example's command, as a process."""

    def __init__(self, service: House, *options: str) -> None:
        place = [ADDRESS, f"--port={PORT}", f"--trust={TRUST}", f"--runtime-dir={service.folder / 'run'}"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hsframework_nbd.main", "attach", *place, *options],
            env={**os.environ, "PYTHONPATH": str(EXAMPLE)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        """Return the next line of its output."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@contextlib.contextmanager
def attached(service: House, *options: str) -> Iterator[tuple[Attached, Path]]:
    """Run the command; yield it and the device that it has made."""
    command = Attached(service, f"--peer-name={NAME}", *options)
    with command.process as process:
        try:
            device = Path(command.line())
            assert device.is_block_device(), process.communicate()
            yield command, device
            detach = [sys.executable, "-m", "hsframework_nbd.main", "detach", device.name.removeprefix("nbd")]
            subprocess.run(detach, env={**os.environ, "PYTHONPATH": str(EXAMPLE)}, check=True)
        finally:
            if process.poll() is None and sys.exc_info()[0]:
                process.kill()


def write(device: Path, offset: int, data: bytes) -> None:
    """Write to the server, past our own caches."""
    with open(device, "r+b", buffering=0) as file:
        os.pwrite(file.fileno(), data, offset)
        os.fsync(file.fileno())


def read(device: Path, offset: int, size: int) -> bytes:
    """Read from the server, and not from our own caches."""
    with open(device, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return os.pread(file.fileno(), size, offset)


def test_a_disk_over_tls(service: House) -> None:
    """The kernel reads and writes in the session after the command has ended, and the server has what was written."""
    with nbdkit("--tls=require"):
        with attached(service) as (command, device):
            assert command.process.wait() == 0
            assert tls_sessions() == 2
            data = os.urandom(1 << 20)
            write(device, SIZE // 2, data)
            assert DISK.read_bytes()[SIZE // 2 :][: len(data)] == data
            assert read(device, SIZE // 2, len(data)) == data
        until(lambda: not tls_sessions(), "the session has ended")


def test_a_lost_connection_comes_back(service: House) -> None:
    """With --keep: reads wait until there is a new session, and the command ends with the device."""
    with contextlib.ExitStack() as stack:
        with nbdkit("--tls=require"):
            command, device = stack.enter_context(attached(service, "--keep"))
            data = os.urandom(4096)
            write(device, 0, data)
        with nbdkit("--tls=require"):
            assert command.line() == f"{device} is connected again"
            assert read(device, 0, len(data)) == data
            stack.close()
            assert command.process.wait() == 0


@pytest.mark.parametrize(
    ("tls", "name", "reason"),
    [("off", NAME, "refuses option 5"), ("require", "other.test", "other.test")],
    ids=["no TLS", "another name"],
)
def test_a_server_that_is_not_trusted(service: House, tls: str, name: str, reason: str) -> None:
    """It gives no device."""
    with nbdkit(f"--tls={tls}"):
        command = Attached(service, f"--peer-name={name}")
        output, errors = command.process.communicate(timeout=60)
    assert (command.process.returncode, output) == (1, "")
    assert reason in errors
    assert not list(Path("/sys/block").glob("nbd*/pid"))
