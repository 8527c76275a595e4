"""Reload of the running service: certificates, lists and rules change while peers of OpenSSL connect."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from hsframework.cli.main import main
from hsframework.client import Client, HandshakeOptions, Session
from hsframework.client.groups import reload_service, served_groups, service_status
from hsframework.errors import HsframeworkError
from hsframework.interface import Role
from hsframework.testing.certificates import Authority, Credential, to_pem
from tests.support.running import Service, only, short_folder, tcp_pairs, until

pytestmark = pytest.mark.peers

IN_FORCE = "configuration and credentials were read again and are in force"
NOTHING_TAKEN = "nothing is taken of what was read; all stays as it is"
SERVER = HandshakeOptions(role=Role.SERVER, profile="web", timeout=60)
NAME = "server.example"


class House:
    """A service whose profile ``web`` demands certificates, and the files that it is made of."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority("Reload Root")
        self.first, self.second = self.authority.issue([NAME]), self.authority.issue([NAME])
        self.visitor = self.authority.issue(["client.example"])
        self.visitors = self.visitor.write(folder, "visitor")
        self.files = self.first.write(folder, "web")
        self.anchors = self.authority.write(folder)
        self.list = folder / "list.crl"
        self.list.write_text(_pem_list(self.authority.crl()))
        self.service = Service(folder, only("tls13") + self.tables())
        self.service.wait_for_agents()

    def tables(self) -> str:
        """Return what the configuration says of the profile."""
        return f"""
[identities.web]
certificate = "{self.files.certificate}"
private-key = "{self.files.private_key}"
[trust.web]
bundle = ["{self.anchors}"]
crl = ["{self.list}"]
[profiles.web]
identities = ["web"]
trust = "web"
client-certificate = "require"
"""

    def replace(self, path: Path, text: str) -> None:
        """Replace a file as a whole."""
        new = path.with_name(f"{path.name}.new")
        new.write_text(text)
        new.chmod(0o600)
        new.rename(path)

    def renew(self, credential: Credential) -> None:
        """Replace certificate and key, one after the other."""
        self.replace(self.files.private_key, credential.private_key_pem.decode())
        self.replace(self.files.certificate, credential.certificate_pem.decode())

    def met(self) -> bytes:
        """Let a client in, and return the certificate that it was shown."""
        with self.waiting() as (peer, ours), self.visit(peer) as shown:
            ours.result(60)
            return shown

    @contextlib.contextmanager
    def waiting(self) -> Iterator[tuple[socket.socket, Future[Session]]]:
        """Begin a handshake whose client has not said anything yet."""
        with tcp_pairs() as ((near, far),), ThreadPoolExecutor(1) as pool, Client(self.service.runtime_dir) as client:
            yield far, pool.submit(client.handshake, near, SERVER)

    @contextlib.contextmanager
    def visit(self, sock: socket.socket) -> Iterator[bytes]:
        """Connect as the visitor for the length of the block: the server's certificate."""
        context = ssl.create_default_context(cafile=str(self.anchors))
        context.load_cert_chain(self.visitors.certificate, self.visitors.private_key)
        with context.wrap_socket(sock, server_hostname=NAME) as peer:
            shown = peer.getpeercert(binary_form=True)
            assert shown is not None
            yield shown

    def refuses_the_visitor(self) -> bool:
        """True if the visitor is refused."""
        with self.waiting() as (peer, ours), self.visit(peer):
            try:
                ours.result(60)
            except HsframeworkError:
                return True
        return False

    def close(self) -> None:
        self.service.clean_up()


@pytest.fixture
def house() -> Iterator[House]:
    with short_folder() as folder:
        made = House(folder)
        try:
            yield made
            assert made.service.process.poll() is None
            assert made.service.stop() == 0
        finally:
            made.close()


ORDERS: dict[str, Callable[[Service], object]] = {
    "hangup": lambda service: os.kill(service.pid, signal.SIGHUP),
    "hangup-of-the-dispatcher": lambda service: os.kill(service.dispatcher, signal.SIGHUP),
    "command": lambda service: main(["reload", "--runtime-dir", str(service.runtime_dir)]),
    "itself": lambda service: None,
}


@pytest.mark.parametrize("order", ORDERS)
def test_a_certificate_is_renewed(house: House, order: str) -> None:
    """New handshakes show the new certificate; one that was under way ends with the old one, and nobody dies."""
    assert house.met() == house.first.certificate
    dispatcher, keeper, mark = house.service.dispatcher, house.service.keeper(), house.service.log.mark
    with house.waiting() as (peer, ours):
        until(lambda: served_groups(house.service.runtime_dir)[0].in_flight, "the handshake is under way")
        house.renew(house.second)
        ORDERS[order](house.service)
        house.service.log.wait(IN_FORCE, since=mark)
        assert house.met() == house.second.certificate
        house.service.wait_for_agents(since=mark)
        with house.visit(peer) as shown:
            assert shown == house.first.certificate
            ours.result(60)
    house.service.log.wait("a worker that was replaced has ended", since=mark)
    assert (house.service.dispatcher, house.service.keeper()) == (dispatcher, keeper)


def test_a_peer_is_revoked(house: House) -> None:
    """Soon after its list was replaced, by the file alone, a peer that was let in is refused."""
    house.met()
    mark = house.service.log.mark
    house.replace(house.list, _pem_list(house.authority.crl([house.visitor])))
    house.service.log.wait(IN_FORCE, since=mark)
    assert house.refuses_the_visitor()


def test_a_half_written_file(house: House) -> None:
    """The old stays in force, the log says once which file is wrong, and the mended file is taken by itself."""
    mark = house.service.log.mark
    whole = house.second.certificate_pem.decode()
    house.files.certificate.write_text(whole[: len(whole) // 2])
    said = house.service.log.wait(NOTHING_TAKEN, since=mark)
    assert "identities.web" in said["reason"]
    assert str(house.files.certificate) in said["reason"]
    assert house.met() == house.first.certificate
    assert reload_service(house.service.runtime_dir)["problem"] == said["reason"]
    assert house.met() == house.first.certificate
    mark = house.service.log.mark
    house.renew(house.second)
    house.service.log.wait(IN_FORCE, since=mark)
    assert house.met() == house.second.certificate
    assert service_status(house.service.runtime_dir)["reload"]["problem"] == ""


def test_all_or_nothing(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    """A good certificate beside a list that is gone, or a wrong configuration: neither is taken, with the reason."""
    house.renew(house.second)
    kept = house.list.read_text()
    house.list.unlink()
    words = ["reload", "--runtime-dir", str(house.service.runtime_dir)]
    assert main(words) == 1
    assert f"trust.web: {house.list} cannot be opened" in capsys.readouterr().out
    assert house.met() == house.first.certificate
    house.list.write_text(kept)
    configuration = house.folder / "hsframework.toml"
    text = configuration.read_text()
    configuration.write_text(text.replace("[identities.web]", "[identities.web]\nkey = 5"))
    assert main(words) == 1
    said = capsys.readouterr().out
    assert str(configuration) in said
    assert "identities.web" in said
    assert house.met() == house.first.certificate
    configuration.unlink()
    assert main(words) == 1
    assert house.met() == house.first.certificate
    configuration.write_text(text)
    assert main(words) == 0
    assert house.met() == house.second.certificate


def test_a_key_that_waits_for_a_restart(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    """The rest is in force, and the key is named by the command, in the log and in the state of the service."""
    configuration, mark = house.folder / "hsframework.toml", house.service.log.mark
    text = configuration.read_text() + "[limits]\nper-source = 7\n"
    configuration.write_text(text.replace('client-certificate = "require"', 'client-certificate = "none"'))
    assert main(["reload", "--runtime-dir", str(house.service.runtime_dir)]) == 0
    assert "limits.per-source waits for a restart" in capsys.readouterr().out
    assert house.service.log.wait("some keys wait for a restart of the service", since=mark)["keys"] == [
        "limits.per-source"
    ]
    assert service_status(house.service.runtime_dir)["reload"]["waiting"] == ["limits.per-source"]
    house.replace(house.list, _pem_list(house.authority.crl([house.visitor])))
    assert main(["reload", "--runtime-dir", str(house.service.runtime_dir)]) == 0
    assert not house.refuses_the_visitor(), "a client is asked for no certificate any longer"


@pytest.mark.parametrize("child", ["dispatcher", "reader"])
def test_a_process_dies_after_a_reload(house: House, child: str) -> None:
    """The one that takes its place goes on with what was read last."""
    mark = house.service.log.mark
    house.renew(house.second)
    house.service.log.wait(IN_FORCE, since=mark)
    mark = house.service.log.mark
    os.kill(int(house.service.log.events("started", child=child)[-1]["process"]), signal.SIGKILL)
    house.service.log.wait("started", child=child, since=mark)
    if child == "dispatcher":
        house.service.wait_for_agents(since=mark)
    assert house.met() == house.second.certificate
    third = house.authority.issue([NAME])
    mark = house.service.log.mark
    house.renew(third)
    house.service.log.wait(IN_FORCE, since=mark)
    assert house.met() == third.certificate


def test_many_reloads_lose_no_handshake(house: House) -> None:
    """Handshakes one after the other while the certificate changes ten times, by every order: each is made."""
    stop = threading.Event()
    failed: list[BaseException] = []
    shown: set[bytes] = set()

    def visit() -> None:
        while not stop.is_set():
            try:
                shown.add(house.met())
            except BaseException as error:
                failed.append(error)
                return

    visitors = [threading.Thread(target=visit) for _ in range(2)]
    for thread in visitors:
        thread.start()
    made = []
    for _ in range(10):
        made.append(house.authority.issue([NAME]))
        house.renew(made[-1])
        assert reload_service(house.service.runtime_dir)["problem"] == ""
        house.met()
    stop.set()
    for thread in visitors:
        thread.join()
    assert failed == []
    assert made[-1].certificate in shown | {house.met()}


def _pem_list(der: bytes) -> str:
    return to_pem(der, "X509 CRL").decode()
