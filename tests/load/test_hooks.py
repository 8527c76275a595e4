"""The plugins of examples/hooks in the real service, and what happens when such a plugin is misconfigured or fails."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hsframework.client import AsyncClient
from hsframework.interface import CertificateDemand
from tests.load.traffic import Credentials, check_served, outcome
from tests.support.running import (
    ROOT,
    Service,
    install_plugin,
    running_service,
    short_folder,
    tcp_pairs,
)

RULES = {
    path.stem: path.read_text()
    for path in (ROOT / "examples/hooks/hsframework_house_rules").glob("*.py")
    if path.stem != "__init__"
}


@contextmanager
def collectors() -> Iterator[tuple[Path, socket.socket, socket.socket]]:
    """Make a folder that agents may enter, with a datagram socket ``log`` in it; and a socket for metrics."""
    unix, inet = (socket.socket(family, socket.SOCK_DGRAM) for family in (socket.AF_UNIX, socket.AF_INET))
    with short_folder() as folder, unix as log, inet as metrics:
        log.bind(str(folder / "log"))
        (folder / "log").chmod(0o666)
        metrics.bind(("127.0.0.1", 0))
        for sock in (log, metrics):
            sock.settimeout(30)
        yield folder, log, metrics


def test_rules_of_the_house(credentials: Credentials) -> None:
    """The agent of TLS has each plugin's settings: the server's consumer hears EACCES for a client that is not on the
    list, and audit and metrics tell of it."""
    with collectors() as (folder, log, metrics):
        (folder / "ca.pem").write_bytes(credentials.authority.certificate_pem)
        configuration = f"""
required-plugins = ["allowlist"]
[plugins.allowlist]
names = ["host-1.example"]
authorities = ["{folder}/ca.pem"]
[plugins.audit]
socket = "{folder}/log"
[plugins.statsd]
address = "127.0.0.1:{metrics.getsockname()[1]}"
prefix = "house"
"""
        with running_service(configuration, plugins=RULES) as service:
            assert asyncio.run(_server_hears(service, credentials, "host-1.example")) == 0
            assert asyncio.run(_server_hears(service, credentials, "host-2.example")) == errno.EACCES
            lines = [json.loads(log.recv(65536)) for _ in range(4)]
            sent = "\n".join(metrics.recv(65536).decode() for _ in range(8))
    refused = [line for line in lines if line["outcome"] == "EACCES"]
    assert [line["role"] for line in refused] == ["server"]
    assert "none of its names is not on the list" in refused[0]["reason"]
    assert "house.tls13.ended.EACCES:1|c" in sent
    assert sent.count("house.tls13.ended.success:1|c") >= 2


async def _server_hears(service: Service, credentials: Credentials, name: str) -> int:
    """Return the errno of a server's handshake with a client of this name."""
    server = replace(credentials.server(), trust=credentials.trust, client_certificate=CertificateDemand.REQUIRE)
    client = replace(credentials.client(), identities=(credentials.authority.issue([name]).identity,))
    async with AsyncClient(service.runtime_dir) as consumer:
        with tcp_pairs() as ((near, far),):
            _, ended = await asyncio.gather(outcome(consumer, near, client), outcome(consumer, far, server))
            return ended.errno


@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        ('[plugins.allowlist]\nauthorities = ["missing.pem"]', "plugins.allowlist.authorities: FOLDER/missing.pem: "),
        ("[plugins.allowlist]\nname = []", "plugins.allowlist.name: unknown key; did you mean 'names'"),
        ('required-plugins = ["fails"]', "the plugin 'fails' is required and cannot be used"),
    ],
)
def test_nothing_is_served_without_the_rules(configuration: str, said: str) -> None:
    """Wrong settings, or a required plugin that cannot take them: no agent serves, and the log says what to change.
    Paths are relative to the configuration."""
    with short_folder() as folder:
        for name, source in {**RULES, "fails": FAILS}.items():
            install_plugin(folder / "site", name, source)
        service = Service(folder, configuration, folder / "site")
        try:
            event = service.log.wait("the agent cannot start")
            assert said.replace("FOLDER", str(folder)) in event["reason"]
            assert not service.log.events("joined")
        finally:
            service.stop()
            service.clean_up()


FAILS = """
import hsframework

@hsframework.hookimpl
def hsframework_configure(settings):
    raise RuntimeError("no idea")
"""


def test_a_plugin_that_cannot_be_configured(credentials: Credentials) -> None:
    """One that is not required is skipped whole, and TLS is served; the log has its name and the reason."""
    with running_service(plugins={"fails": FAILS}) as service:
        asyncio.run(_check(service, credentials))
        event = service.log.wait("a plugin is skipped", plugin="fails")
        assert event["reason"] == "hsframework_configure failed: RuntimeError: no idea"


async def _check(service: Service, credentials: Credentials) -> None:
    async with AsyncClient(service.runtime_dir) as client:
        await check_served(client, credentials)
