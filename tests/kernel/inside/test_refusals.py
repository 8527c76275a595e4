"""NFS mounts that must fail: within their time, and with the right error on both sides."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hsframework.testing.certificates import Authority
from tests.kernel.consumers import known_host, nfs_mount, nfs_server, until
from tests.kernel.house import ROOT, End, House, house, tls_sessions

OTHER = Authority("Other Root")
SERVER, CLIENT = End(ROOT.issue(["nfs.test"])), End(ROOT.issue(["client.test"]))
EXPIRED: dict[str, Any] = {
    "not_before": datetime.now(UTC) - timedelta(days=9),
    "not_after": datetime.now(UTC) - timedelta(days=1),
}


@pytest.mark.parametrize(
    ("client", "server", "security", "client_status", "server_status"),
    [
        pytest.param(End(trust=OTHER), SERVER, "tls", "EKEYREJECTED", "EACCES", id="wrong CA"),
        pytest.param(CLIENT, End(ROOT.issue(["else.test"])), "tls", "EKEYREJECTED", "EACCES", id="wrong name"),
        pytest.param(CLIENT, End(ROOT.issue(["nfs.test"], **EXPIRED)), "tls", "EKEYEXPIRED", "EACCES", id="expired"),
        pytest.param(End(), SERVER, "mtls", "ENOKEY", "EACCES", id="client has no certificate"),
        pytest.param(End(OTHER.issue(["client.test"])), SERVER, "mtls", "OK", "EKEYREJECTED", id="client of wrong CA"),
        pytest.param(End(ROOT.issue(["client.test"], **EXPIRED)), SERVER, "mtls", "OK", "EKEYEXPIRED", id="old client"),
    ],
)
def test_refusals(client: End, server: End, security: str, client_status: str, server_status: str) -> None:
    """The mount fails, with the right error on each side, and no session is left.

    A client of TLS 1.3 is through before its certificate is looked at.
    """
    known_host("nfs.test", "127.0.0.1")
    option = f"xprtsec={security}"
    with house(client=client, server=server) as service, nfs_server(option):
        with pytest.raises(AssertionError, match="access denied by server"), nfs_mount("nfs.test", option):
            pass
        wanted = {True: client_status, False: server_status}
        until(lambda: _outcomes(service) == wanted, f"{wanted} in {_outcomes(service)}")
        until(lambda: tls_sessions() == 0, "the kernel has let go of every session")


def _outcomes(service: House) -> dict[bool, str]:
    """Return the statuses of the client's and of the server's handshakes, by whether it is the client's."""
    return {event["peer"].endswith(":2049"): event["status"] for event in service.log.events("handshake")}
