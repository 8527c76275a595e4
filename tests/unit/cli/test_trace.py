"""`trace` of a service that runs, and what is shown of a handshake."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hsframework.cli.commands.trace import report
from hsframework.client import Client, HandshakeOptions
from hsframework.client.groups import traced_handshakes
from hsframework.errors import HsframeworkError, RequestRefused
from hsframework.interface import Role
from hsframework.testing.certificates import Authority
from hsframework.testing.network import tcp_pair
from tests.support.running import Service, running_service, until

ROOT = Authority("Trace Root")
LEAF = ROOT.issue(["a.example"])


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service() as home:
        yield home


def _side(home: Service, sock: socket.socket, options: HandshakeOptions) -> bool:
    with Client(home.runtime_dir) as client:
        try:
            client.handshake(sock, options)
        except HsframeworkError:
            return False
        return True


def meet(home: Service, authority: Authority) -> tuple[bool, bool]:
    """Have two programs of this host make a session; return whether client and server have succeeded."""
    near, far = tcp_pair()
    server = HandshakeOptions(role=Role.SERVER, identities=(LEAF.identity,))
    with near, far, ThreadPoolExecutor() as threads:
        other = threads.submit(_side, home, far, server)
        client = HandshakeOptions(peer_name="a.example", trust=authority.trust())
        return _side(home, near, client), other.result()


def test_a_handshake(service: Service) -> None:
    """Both ends are shown, each message with its direction and type, and the ends by their outcome."""
    with ThreadPoolExecutor() as threads:
        found = threads.submit(lambda: list(traced_handshakes("127.0.0.0/8", 4, 60, service.runtime_dir)))
        until(lambda: meet(service, ROOT) and found.done(), "a trace")
    by_role = {each["role"]: each for each in found.result()}
    assert by_role["client"]["status"] == by_role["server"]["status"] == "OK"
    for role, hello in (("client", "sent"), ("server", "received")):
        named = [(way, what) for _, way, what, _ in by_role[role]["steps"]]
        assert named[0] == (hello, "ClientHello")
        assert ("received" if role == "client" else "sent", "ServerHello") in named
        times = [at for at, *_ in by_role[role]["steps"]]
        assert times == sorted(times)


def said(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "hsframework", "trace", *words, "--runtime-dir", str(home)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_no_handshake(service: Service) -> None:
    """The trace ends with its time, with status 1; a peer that is no address is refused in one line."""
    none = said(service.runtime_dir, "192.0.2.1", "--seconds", "1")
    assert (none.returncode, none.stdout) == (1, "There was no handshake with 192.0.2.1 in 1 s.\n")
    wrong = said(service.runtime_dir, "nobody")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
    assert "by its address or network" in wrong.stderr
    with pytest.raises(RequestRefused, match="from 1 to 1000 handshakes"):
        list(traced_handshakes("::/0", 0, 1, service.runtime_dir))


def test_a_failure(service: Service) -> None:
    """The reason is shown, as one JSON object for each handshake."""
    line = [
        sys.executable,
        "-m",
        "hsframework",
        "trace",
        "127.0.0.1",
        "--json",
        "--runtime-dir",
        str(service.runtime_dir),
    ]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        other = Authority("Another")
        until(lambda: meet(service, other) and process.poll() is not None, "a trace")
        assert process.stdout is not None
        found = json.loads(process.stdout.read())
    assert process.returncode == 0
    assert found["status"] in ("EKEYREJECTED", "EACCES")
    assert found["reason"]


def test_what_is_shown() -> None:
    """Names and steps of others are shown as printable text, and steps that are none are passed over."""
    found = {
        "status": "EIO",
        "peer": "192.0.2.1:1",
        "rule": None,
        "queued_ms": 0.1,
        "milliseconds": 2.0,
        "reason": "evil\x1b[2J",
        "steps": [[0.5, "sent", "Client\x07Hello", 9], "nonsense", [1]],
    }
    assert list(report(found)) == [
        "status=EIO peer=192.0.2.1:1",
        "  queued 0.1 ms, in all 2.0 ms",
        "  0.5 ms  sent  Client?Hello  9 bytes",
        "  evil?[2J",
    ]
