"""Reload of a user's cell: his link stays, and what he asks over it is served by the terms of that moment."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsframework.client import Client, HandshakeOptions
from hsframework.errors import HsframeworkError
from hsframework.interface import Role
from hsframework.testing.certificates import Authority, Credential
from hsframework.testing.network import tcp_pair
from tests.load.test_cells import USER, Somebody
from tests.support.running import Service, only, short_folder

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be other users")

IN_FORCE = "configuration and credentials were read again and are in force"
SERVER = HandshakeOptions(role=Role.SERVER, profile="web", timeout=60)
RULE = f'[[allow]]\nusers = ["{USER}"]\nprofiles = ["web"]\n'
_link: list[Client] = []
"""The user's one link, in his process."""


def shown(runtime_dir: Path) -> bytes | str:
    """Serve a client over the user's one link; return the certificate that it was shown, or why it was refused."""
    if not _link:
        _link.append(Client(runtime_dir))
    near, far = tcp_pair()
    found: list[bytes] = []

    def look() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with context.wrap_socket(far) as peer:
                found.append(peer.getpeercert(binary_form=True) or b"")
                peer.recv(1)
        except OSError:
            pass

    thread = threading.Thread(target=look)
    thread.start()
    try:
        _link[0].handshake(near, SERVER)
    except HsframeworkError as error:
        return str(error)
    finally:
        near.shutdown(socket.SHUT_RDWR)
        near.close()
        thread.join()
    return found[0]


class House:
    """A service that lets one user have the profile ``web``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority("Cell Root")
        self.first, self.second = (self.authority.issue(["server.example"]) for _ in range(2))
        self.files = self.first.write(folder)
        self.tables = only("tls13") + (
            f'[identities.web]\ncertificate = "{self.files.certificate}"\nprivate-key = "{self.files.private_key}"\n'
            '[profiles.web]\nidentities = ["web"]\n'
        )
        self.service = Service(folder, self.tables + RULE)
        self.service.wait_for_agents()
        # Imports what the other user may not read.
        assert shown(self.service.runtime_dir) == self.first.certificate
        _link.pop().close()

    def renew(self, credential: Credential) -> None:
        """Replace the certificate and its key, and wait until the cell has them."""
        mark = self.service.log.mark
        credential.write(self.folder)
        self._await(mark)

    def rewrite(self, tables: str) -> None:
        """Replace the configuration, and wait until the cell has it."""
        file, mark = self.folder / "hsframework.toml", self.service.log.mark
        head, log = f'runtime-dir = "{self.folder}/run"\n', '[log]\nlevel = "debug"\nformat = "json"\n'
        file.write_text(head + tables + log)
        self._await(mark)

    def _await(self, mark: int) -> None:
        self.service.log.wait(IN_FORCE, since=mark)
        self.service.log.wait(IN_FORCE, since=mark, number=2)


@pytest.fixture
def house() -> Iterator[House]:
    with short_folder() as folder:
        made = House(folder)
        try:
            yield made
            assert made.service.stop() == 0
        finally:
            made.service.clean_up()


def test_a_certificate_is_renewed(house: House) -> None:
    """The next handshake over the link that was open before shows the new one; the cell is the same process."""
    user = Somebody(USER)
    try:
        assert user(shown, house.service.runtime_dir) == house.first.certificate
        for credential in (house.second, house.first):
            house.renew(credential)
            assert user(shown, house.service.runtime_dir) == credential.certificate
        assert len(house.service.log.events("started", child=f"cell of user {USER}")) == 1
    finally:
        user.close()


def test_a_rule_is_taken_away_and_given_back(house: House) -> None:
    """Over the link that was open before he is refused, and served again."""
    user = Somebody(USER)
    try:
        assert user(shown, house.service.runtime_dir) == house.first.certificate
        house.rewrite(house.tables)
        assert "allow" in str(user(shown, house.service.runtime_dir))
        house.rewrite(house.tables + RULE)
        assert user(shown, house.service.runtime_dir) == house.first.certificate
    finally:
        user.close()
