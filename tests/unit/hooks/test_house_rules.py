"""The plugins of examples/hooks, beside TLS in the agent's own code: who may connect, what is written, what is sent."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from hsframework.client import HandshakeOptions
from hsframework.errors import ConfigurationError
from hsframework.interface import CertificateDemand, Identity, PresharedKey, Role, Secret
from hsframework.testing.certificates import Authority
from hsframework.testing.dispatcher import Outcome, serving
from hsframework.testing.network import BadNetwork
from hsframework.testing.virtual_time import run
from hsframework_house_rules import allowlist, audit, statsd

ROOT = Authority("Hooks Root")
STORAGE, OFFICE = ROOT.intermediate("Storage CA"), ROOT.intermediate("Office CA")


def member(authority: Authority, name: str, unit: str) -> Identity:
    """Issue a certificate with an organisational unit."""
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )
    return authority.issue([name, "192.0.2.7"], subject=subject).identity


CLIENT = HandshakeOptions(
    group="tls13",
    peer_name="server.example",
    trust=ROOT.trust(),
    identities=(member(STORAGE, "host-1.example", "Storage"),),
)
SERVER = HandshakeOptions(
    group="tls13",
    role=Role.SERVER,
    trust=ROOT.trust(),
    identities=(ROOT.issue(["server.example"]).identity,),
    client_certificate=CertificateDemand.REQUIRE,
)
SETTINGS: dict[str, dict[str, Any]] = {"tls13": {"kernel-offload": False}, "psp": {"device": "software"}, "quic": {}}
KEY = (PresharedKey(b"host-1", Secret(bytes(32)), "sha256"),)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Undo at the end of the test what configuring a module sets in it."""
    yield
    allowlist.hsframework_configure(allowlist.Settings())
    audit.hsframework_configure(audit.Settings())
    statsd.hsframework_configure(statsd.Settings())


def meet(
    plugin: object,
    table: Mapping[str, Any],
    client: HandshakeOptions = CLIENT,
    server: HandshakeOptions = SERVER,
    base: Path | None = None,
    protocol: str = "tls13",
) -> tuple[Outcome, Outcome]:
    """Run one handshake, with the plugin beside the protocol's."""
    connect = BadNetwork.datagrams if protocol == "quic" else BadNetwork.streams
    further = {"beside": {"rule": plugin}, "tables": {"rule": table}, "base": base}

    async def scene() -> tuple[Outcome, Outcome]:
        async with serving(protocol, protocol=protocol, settings=SETTINGS[protocol], **further) as service:  # type: ignore[arg-type]
            with connect() as network:
                return await asyncio.gather(
                    service.handshake(network.left, client), service.handshake(network.right, server)
                )

    return run(scene())


# The allow-list


@pytest.mark.parametrize(
    ("table", "refused"),
    [
        ({"names": ["HOST-1.example"]}, None),
        ({"names": ["other.example", "192.0.2.7"]}, None),
        ({"names": ["other.example"]}, "none of its names"),
        ({"units": ["Storage", "Backup"]}, None),
        ({"units": ["Backup"]}, "its organisational unit"),
        ({"authorities": ["storage.pem"]}, None),
        ({"authorities": ["office.pem", "storage.pem"]}, None),
        ({"authorities": ["office.pem"]}, "no authority above it"),
        ({"names": ["host-1.example"], "units": ["Backup"]}, "its organisational unit"),
        ({"names": ["host-1.example"], "units": ["Storage"], "authorities": ["storage.pem"]}, None),
        ({"psk-identities": ["host-1"]}, "it is not on the list"),
        ({}, "it is not on the list"),
    ],
)
def test_certificates(table: Mapping[str, Any], refused: str | None, tmp_path: Path) -> None:
    """By name, unit and authority, by each list that is not empty; without any, nobody.  The server's consumer gets
    EACCES, and its peer that it was refused."""
    (tmp_path / "storage.pem").write_bytes(STORAGE.certificate_pem)
    (tmp_path / "office.pem").write_bytes(OFFICE.certificate_pem)
    client, server = meet(allowlist, table, base=tmp_path)
    if refused is None:
        assert client.ok
        assert server.ok
    else:
        assert server.status == errno.EACCES
        assert refused in server.message


@pytest.mark.parametrize(("name", "status"), [("host-1.example", 0), ("host-2.example", errno.EACCES)])
@pytest.mark.parametrize("protocol", SETTINGS)
def test_every_protocol_asks(protocol: str, name: str, status: int) -> None:
    """One rule for all: the server's consumer gets the refusal, and the client of it where the protocol can say."""
    alpn = ("smb",) if protocol == "quic" else ()
    client, server = (replace(options, group=protocol, alpn=alpn) for options in (CLIENT, SERVER))
    assert meet(allowlist, {"names": [name]}, client, server, protocol=protocol)[1].status == status


@pytest.mark.parametrize(("listed", "status"), [("host-1", 0), ("host-2", errno.EACCES)])
def test_preshared_keys(listed: str, status: int) -> None:
    """By the identity that the client has proved."""
    client = HandshakeOptions(group="tls13", psks=KEY)
    server = HandshakeOptions(group="tls13", role=Role.SERVER, psks=KEY)
    assert meet(allowlist, {"psk-identities": [listed]}, client, server)[1].status == status


def test_nobody_without_a_certificate() -> None:
    """A client that shows none is on no list."""
    client, server = replace(CLIENT, identities=()), replace(SERVER, client_certificate=CertificateDemand.REQUEST)
    assert meet(allowlist, {"names": ["host-1.example"]}, client, server)[1].status == errno.EACCES


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"names": "host"}, "plugins.rule.names: a list is wanted"),
        ({"nmaes": []}, "did you mean 'names'"),
        ({"authorities": ["missing.pem"]}, "name a PEM file"),
    ],
)
def test_settings_that_are_wrong(table: Mapping[str, Any], said: str, tmp_path: Path) -> None:
    """No agent starts, and the message says what to change."""
    with pytest.raises(ConfigurationError, match=said):
        meet(allowlist, table, base=tmp_path)


# Audit and metrics


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    """A collector at ``tmp_path/log``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "log"))
        sock.setblocking(False)
        yield sock


def heard(sock: socket.socket) -> list[str]:
    """Return every datagram that has come."""
    found = []
    try:
        while True:
            found.append(sock.recv(65536).decode())
    except BlockingIOError:
        return found


def test_audit_lines(listener: socket.socket, tmp_path: Path) -> None:
    """One line for each end, for a success and for a failure; no key and no certificate in it."""
    meet(audit, {"socket": "log"}, base=tmp_path)
    meet(audit, {"socket": "log"}, client=replace(CLIENT, peer_name="other.example"), base=tmp_path)
    text = heard(listener)
    lines = [json.loads(line) for line in text]
    outcomes = {role: [line["outcome"] for line in lines if line["role"] == role] for role in ("client", "server")}
    assert all(len(found) == 2 and found[0] == "success" and found[1].startswith("E") for found in outcomes.values())
    assert all(identity.private_key.reveal().hex() not in line for line in text for identity in CLIENT.identities)


def test_audit_waits_for_nobody(listener: socket.socket, tmp_path: Path) -> None:
    """A collector that does not read costs no handshake anything; what was lost is told later."""
    writer = audit.Audit(tmp_path / "log")
    for number in range(10_000):
        writer.write(number=number)
    read = [json.loads(line) for line in heard(listener)]
    writer.write(number="last")
    writer.close()
    (last,) = (json.loads(line) for line in heard(listener))
    assert last == {"number": "last", "lost_before": 10_000 - len(read)}
    assert last["lost_before"] > 0


def test_audit_without_a_collector(tmp_path: Path) -> None:
    """Nobody listens at start: an error that says so."""
    with pytest.raises(ConfigurationError, match="who reads it must run"):
        meet(audit, {"socket": "nowhere"}, base=tmp_path)


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_metrics(family: socket.AddressFamily, host: str) -> None:
    """Begun, in hand, ended and time, for each handshake, with the errno of one that failed, over IPv4 and IPv6."""
    with socket.socket(family, socket.SOCK_DGRAM) as collector:
        collector.bind((host, 0))
        collector.setblocking(False)
        shown = f"[{host}]" if ":" in host else host
        table = {"address": f"{shown}:{collector.getsockname()[1]}", "prefix": "test"}
        meet(statsd, table)
        meet(statsd, table, client=replace(CLIENT, peer_name="other.example"))
        items = [line.split(":", 1) for datagram in heard(collector) for line in datagram.splitlines()]
    names = [name for name, _ in items]
    assert names.count("test.tls13.begun") == 4
    assert names.count("test.tls13.ended.success") == 2
    assert len([name for name in names if name.startswith("test.tls13.ended.E")]) == 2
    assert sum(int(value.partition("|")[0]) for name, value in items if name == "test.tls13.in_hand") == 0
    assert names.count("test.tls13.time") == 4


@pytest.mark.parametrize("address", ["collector:8125", "127.0.0.1", "127.0.0.1:none", ":8125"])
def test_metrics_addresses(address: str) -> None:
    """Numbers alone: no name is looked up."""
    with pytest.raises(ConfigurationError, match=r"plugins\.rule.*address:port"):
        meet(statsd, {"address": address})
