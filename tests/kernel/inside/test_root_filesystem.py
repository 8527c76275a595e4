"""Once the service is ready it serves the kernel while the root filesystem hangs: whoever touches a file is killed."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from OpenSSL import SSL

from tests.kernel import raw
from tests.kernel.consumers import nvme_key
from tests.kernel.house import ROOT, ConfinedHouse, End, house_of
from tests.kernel.machine import members, nvme_keyring
from tests.kernel.requests import Ask, Device, make_requests, silent
from tests.kernel.scripted import SUBSYSTEM
from tests.support.running import await_end, status_of

NAME = "server.test"
CIPHERS = (
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_CCM_SHA256",
)


@contextlib.contextmanager
def no_module_is_loaded() -> Iterator[None]:
    """Keep the kernel from loading modules on anybody's behalf."""
    path = Path("/proc/sys/kernel/modprobe")
    before = path.read_text()
    path.write_text("\n")
    try:
        yield
    finally:
        path.write_text(before)


@pytest.fixture
def service() -> Iterator[ConfinedHouse]:
    credential = ROOT.issue([NAME, "client.test"])
    nvme_key(SUBSYSTEM, 1)
    with house_of(ConfinedHouse, client=End(credential), server=End(credential)) as running, no_module_is_loaded():
        running.confine()
        try:
            yield running
        finally:
            print(running.log.text)


def test_the_filter_kills(service: ConfinedHouse) -> None:
    """The ground of this file: every process is confined, and a confined one that opens a file dies."""
    assert {status_of(pid)["Seccomp"] for pid in service.confined()} == {"2"}
    pid = os.fork()
    if not pid:
        from tests.kernel.confined import confine

        confine(0, None)
        os.open("/proc/version", os.O_RDONLY)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGSYS


def test_served_without_files(service: ConfinedHouse) -> None:
    """Certificates, keys, all four ciphers, failures; and all of it by the replacement of an agent that was killed."""
    with Device() as device:
        _serve_all(service, device)
        (agent,) = service.workers()
        others, mark = set(service.processes()) - {agent}, service.log.mark
        os.kill(agent, signal.SIGKILL)
        await_end(agent)
        service.wait_for_agents(since=mark)
        (replacement,) = service.workers()
        assert status_of(replacement)["Seccomp"] == "2"
        _serve_all(service, device)
        assert set(service.processes()) == others | {replacement}
    assert not service.log.events("ended and is started again")


def _serve_all(service: ConfinedHouse, device: Device) -> None:
    (key,) = members(nvme_keyring())
    for ask in (
        Ask(NAME),
        Ask(NAME, client=raw.X509),
        Ask(client=raw.PSK, server=raw.PSK, psk=key),
    ):
        tally = make_requests(device, 8, 4, ask)
        assert (tally.served, dict(tally.failed)) == (8, {}), ask
    for cipher in CIPHERS:
        assert _served_with(device, cipher) == 0
    _fail(service, device)


def _served_with(device: Device, cipher: str) -> int:
    """Return the status of a server's request; its peer has one cipher and reads what the kernel encrypts by it."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_tls13_ciphersuites(cipher.encode())
    context.set_alpn_protos([b"sunrpc"])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with near, far:
        device.submit(far, 1, role=raw.SERVER)
        connection = SSL.Connection(context, near)
        connection.set_connect_state()
        connection.do_handshake()
        (ended,) = device.ended(20)
        if not ended.status:
            far.sendall(b"by the kernel")
            assert connection.recv(100) == b"by the kernel"
        assert connection.get_cipher_name() == cipher
        return ended.status


def _fail(service: ConfinedHouse, device: Device) -> None:
    """Fail by a wrong name, an unknown authority, nonsense, a hang-up, silence until the deadline."""
    wrong = make_requests(device, 2, 2, Ask("wrong.test"))
    assert wrong.lost == wrong.served == 0
    assert wrong.failed["EACCES"] >= 1
    for speech, timeout, status in ((b"none of TLS", 20.0, errno.EPROTO), (b"", 0.3, errno.ETIMEDOUT)):
        with silent(device) as peers:
            peers.add(1, speech, timeout)
            assert [item.status for item in peers.ended(1)] == [status]
    with silent(device) as peers:
        peers.add(1)
        peers.hang_up()
        assert [item.status for item in peers.ended(1)] == [errno.ETIMEDOUT]
