"""Rules and admission lists for the kernel's own consumers: mounts of NFS that are served, and that are refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.consumers import known_host, nfs_mount, nfs_server
from tests.kernel.house import ROOT, End, House, house
from tests.kernel.inside.conftest import FAR

RULES = """
[profiles.listed]
identities = ["kernel-server"]
trust = "kernel-server"
admit = ["dns:client.test"]
[profiles.strict]
identities = ["kernel-server"]
trust = "kernel-server"
admit = ["dns:nobody.test"]
[[rule]]
name = "mounts"
role = "client"
namespaces = ["."]
peer-names = ["*.test"]
[[rule]]
name = "exports"
role = "server"
namespaces = ["far"]
networks = ["192.0.2.1"]
local-networks = ["192.0.2.2"]
local-ports = [2049]
auth-modes = ["x509"]
profile = "{profile}"
"""


@pytest.fixture
def served(request: pytest.FixtureRequest, far: str) -> Iterator[House]:
    """Both ends of NFS, by rules; the parameter is the profile of the exports."""
    known_host("far.example", FAR)
    client, server = ROOT.issue(["client.test"]), ROOT.issue(["far.test", "far.example"])
    with house(
        client=End(client), server=End(server), namespaces=[far], more=RULES.format(profile=request.param)
    ) as found:
        yield found


@pytest.mark.parametrize("served", ["listed"], indirect=True)
def test_a_mount_by_rules(served: House, far: str) -> None:
    """Facts of real requests meet the rules of both ends, and the list admits the client; another name is refused."""
    with nfs_server("xprtsec=mtls", namespace=far) as exported:
        with nfs_mount("far.test", "xprtsec=mtls") as mounted:
            (mounted / "file").write_bytes(b"by rules")
            assert (exported / "file").read_bytes() == b"by rules"
        with pytest.raises(AssertionError), nfs_mount("far.example", "xprtsec=mtls"):
            pass
    assert '"rule": "exports"' in served.log.text
    assert '"rule": "mounts"' in served.log.text
    assert "no rule for the role client is met" in served.log.text


@pytest.mark.parametrize("served", ["strict"], indirect=True)
def test_a_client_that_is_on_no_list(served: House, far: str) -> None:
    """Its certificate is trusted, and it is refused its mount."""
    with (
        nfs_server("xprtsec=mtls", namespace=far),
        pytest.raises(AssertionError),
        nfs_mount("far.test", "xprtsec=mtls"),
    ):
        pass
    assert "no entry of the admission list is for CN=client.test" in served.log.text
