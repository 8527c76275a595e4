"""Two network namespaces with a wire between them, and who serves the kernel's consumers in each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.kernel.consumers import joined_namespace, known_host, tlshd, x509
from tests.kernel.house import ROOT, End, House, house

NEAR, FAR = "192.0.2.1", "192.0.2.2"


@dataclass(frozen=True)
class Arrangement:
    """Namespaces of client and server.  None is our own network namespace, which our agents serve in any case."""

    client: str | None
    server: str | None
    house: House
    all_ours: bool

    @property
    def server_address(self) -> str:
        return FAR if self.server else NEAR


@pytest.fixture(scope="module")
def far() -> Iterator[str]:
    """A namespace beside ours, with the servers' names for both addresses."""
    known_host("near.test", NEAR)
    known_host("far.test", FAR)
    with joined_namespace("far", NEAR, FAR) as name:
        yield name


@pytest.fixture(scope="module", params=["ours-ours", "ours-tlshd", "tlshd-ours"])
def arrangement(request: pytest.FixtureRequest, far: str) -> Iterator[Arrangement]:
    """Client and server, each served by our agents or by tlshd, with certificates on both ends."""
    client, server = ROOT.issue(["client.test"]), ROOT.issue(["near.test", "far.test"])
    who: str = request.param
    with contextlib.ExitStack() as stack:
        if "tlshd" in who:
            sections = {"authenticate.client": x509(client, "client"), "authenticate.server": x509(server, "server")}
            stack.enter_context(tlshd(sections, namespace=far))
        namespaces = [far] if "tlshd" not in who else []
        service = stack.enter_context(house(client=End(client), server=End(server), namespaces=namespaces))
        client_at, server_at = (far, None) if who == "tlshd-ours" else (None, far)
        yield Arrangement(client_at, server_at, service, "tlshd" not in who)
