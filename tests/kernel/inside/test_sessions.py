"""Revocation that reaches live sessions: an NFS client loses its mount, and the others notice nothing."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from hsframework.client import Client, HandshakeOptions, Session
from hsframework.client.groups import open_sessions, reload_service, service_status
from hsframework.interface import Role
from tests.kernel.consumers import nfs_mount, nfs_server
from tests.kernel.house import ROOT, End, House, house
from tests.kernel.inside.test_offload import connected
from tests.support.running import until

CLIENT, OTHER = ROOT.issue(["client.test"]), ROOT.issue(["other.test"])
ADMITTED = ("client.test", "other.test")


def configuration(mode: str, *admitted: str) -> str:
    names = ", ".join(f'"dns:{name}"' for name in admitted)
    return f"""end-sessions = "{mode}"
[profiles.exports]
identities = ["kernel-server"]
trust = "kernel-server"
client-certificate = "require"
admit = [{names}]
[[rule]]
role = "server"
profile = "exports"
[[rule]]
role = "client"
"""


@pytest.fixture
def served(request: pytest.FixtureRequest, far: str) -> Iterator[House]:
    """Both ends of NFS; the parameter is ``end-sessions``."""
    ends = {"client": End(CLIENT), "server": End(ROOT.issue(["far.test"])), "namespaces": [far]}
    with house(**ends, more=configuration(request.param, *ADMITTED)) as found:
        yield found


def admit(served: House, mode: str, *admitted: str) -> float:
    """Change the list of clients, and have the service read it.  Return the moment."""
    file = served.folder / "hsframework.toml"
    file.write_text(file.read_text().replace(configuration(mode, *ADMITTED), configuration(mode, *admitted)))
    moment = time.monotonic()
    assert not reload_service(served.runtime_dir)["problem"]
    return moment


@contextlib.contextmanager
def programs(served: House) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield both ends of a session between programs, a client with another certificate and a server with that list."""
    server = HandshakeOptions(role=Role.SERVER, group="tls13", profile="exports", timeout=20)
    client = HandshakeOptions(
        group="tls13", peer_name="far.test", identities=(OTHER.identity,), trust=ROOT.trust(), timeout=20
    )
    with Client(served.runtime_dir) as ours, connected("127.0.0.1") as (near, far_end), ThreadPoolExecutor(1) as pool:
        made = pool.submit(ours.handshake, far_end, server)
        sessions: list[Session] = [ours.handshake(near, client), made.result()]
        assert all(session.in_kernel for session in sessions)
        yield near, far_end


def shown(served: House, namespace: str) -> list[dict[str, Any]]:
    """Return the sessions of a namespace, by `hsframework sessions`."""
    line = [sys.executable, "-m", "hsframework", "sessions", "--json", "--runtime-dir", str(served.runtime_dir)]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    return [each for each in json.loads(done.stdout) if each["namespace"] == namespace]


@pytest.mark.parametrize("served", ["on"], indirect=True)
def test_a_mount_is_ended(served: House, far: str) -> None:
    """Its client cannot come back, another peer's session goes on; who is admitted again has its mount back."""
    with nfs_server("xprtsec=mtls", namespace=far) as exported, nfs_mount("far.test", "xprtsec=mtls") as mounted:
        (mounted / "file").write_bytes(b"before")
        with programs(served) as (near, far_end):
            (session,) = shown(served, far)
            assert (session["peer-identity"], session["profile"], session["uid"]) == ("CN=client.test", "exports", None)
            assert session["cipher"].startswith("TLS_")
            mark = served.log.mark
            began = admit(served, "on", "other.test")
            served.log.wait("a session is ended: its peer is out", peer_identity="CN=client.test", since=mark)
            print(f"ended {time.monotonic() - began:.2f} s after the order to reload")
            assert not [each for each in shown(served, far) if each["known"]]
            # The mount tries to come back, and is refused.
            served.log.wait("handshake", status="EACCES", role="server", since=mark)
            near.sendall(b"unimpressed")
            assert far_end.recv(100) == b"unimpressed"
            assert [each["peer-identity"] for each in shown(served, ".") if each.get("uid") == 0] != []
            admit_again(served)
            assert (mounted / "file").read_bytes() == (exported / "file").read_bytes() == b"before"


def admit_again(served: House) -> None:
    file = served.folder / "hsframework.toml"
    file.write_text(file.read_text().replace(configuration("on", "other.test"), configuration("on", *ADMITTED)))
    assert not reload_service(served.runtime_dir)["problem"]


@pytest.mark.parametrize("served", ["dry-run"], indirect=True)
def test_a_mount_is_named(served: House, far: str) -> None:
    """With dry-run the log and `status` say it, and the mount goes on."""
    with nfs_server("xprtsec=mtls", namespace=far) as exported, nfs_mount("far.test", "xprtsec=mtls") as mounted:
        admit(served, "dry-run", "other.test")
        event = served.log.wait("a session would be ended: its peer is out", namespace=far)
        assert event["peer"].startswith("192.0.2.1:")
        (mounted / "file").write_bytes(b"goes on")
        assert (exported / "file").read_bytes() == b"goes on"
        report = service_status(served.runtime_dir)["sessions"]
        assert (report["end-sessions"], report["out"], report["cannot-end"]) == ("dry-run", {"dry-run": 1}, "")


@pytest.mark.parametrize("served", ["on"], indirect=True)
def test_the_dispatcher_dies(served: House, far: str) -> None:
    """Its successor knows the peer by what was kept, and ends the session at the next reload."""
    with nfs_server("xprtsec=mtls", namespace=far), nfs_mount("far.test", "xprtsec=mtls"):
        served.log.wait("what is known of sessions is kept")
        mark = served.log.mark
        subprocess.run(["kill", "-9", str(served.dispatcher)], check=True)
        served.log.wait("the dispatcher is ready", since=mark)
        found = until(lambda: [each for each in open_sessions(served.runtime_dir) if each["namespace"] == far], "asked")
        assert [each.get("peer-identity") for each in found] == ["CN=client.test"]
        admit(served, "on", "other.test")
        served.log.wait("a session is ended: its peer is out", peer_identity="CN=client.test", since=mark)
        admit_again(served)
