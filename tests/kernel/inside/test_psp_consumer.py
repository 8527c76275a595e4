"""PSP for consumers in the kernel: the raw form of the service, netdevsim devices, one `hsframework run`."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.kernel import raw
from tests.kernel.house import ROOT, End as Profile, House, house
from tests.kernel.psp import End, connection, path
from tests.kernel.raw import Outcome, submitted
from tests.support.running import tcp_pairs
from tests.unit.psp.handshakes import exactly

CONFIGURATION = "[kernel.raw]\nenabled = true\nprotocols = {tlshd = 1, psp = 3}\n"
SERVER, CLIENT = ROOT.issue(["server.test"]), ROOT.issue(["client.test"])
MIB = os.urandom(1 << 20)
ASKED = {"protocol": raw.PSP, "auth": raw.X509, "peername": "server.test"}


@pytest.fixture(scope="module")
def ends() -> Iterator[tuple[End, End]]:
    with raw.loaded(protocols=3), path() as both:
        yield both


@pytest.fixture(scope="module")
def service(ends: tuple[End, End]) -> Iterator[House]:
    """In its own namespace and in those of both ends."""
    namespaces = [end.namespace for end in ends]
    with house(
        client=Profile(CLIENT),
        server=Profile(SERVER),
        installed=("tls13", "psp"),
        more=CONFIGURATION,
        namespaces=namespaces,
    ) as made:
        made.wait_for_agents(protocol="psp")
        made.log.wait("joined the kernel's group", group="psp", number=3)
        yield made


def test_both_ends(ends: tuple[End, End], service: House) -> None:
    """Status 0 at both, and what the consumers send then is protected by the devices, every byte of it."""
    near, far = ends
    with connection(near, far) as (one, other):
        with submitted(one, **ASKED) as client, submitted(other, role=raw.SERVER, **ASKED) as server:
            assert client.outcome().status == 0
            assert server.outcome().status == 0
        before = [(end.statistics()["tx-bytes"], end.plain_packets()) for end in ends]
        with ThreadPoolExecutor(1) as pool:
            for sender, receiver in ((one, other), (other, one)):
                receiver.settimeout(20)
                sending = pool.submit(sender.sendall, MIB)
                assert exactly(receiver, len(MIB)) == MIB
                sending.result()
        for end, (protected, plain) in zip(ends, before, strict=True):
            assert end.statistics()["tx-bytes"] - protected > len(MIB)
            assert end.plain_packets() == plain


def test_no_device(service: House) -> None:
    """Software is no answer for a consumer in the kernel: EOPNOTSUPP."""
    with tcp_pairs() as ((near, _),), submitted(near, **ASKED) as request:
        assert request.outcome() == Outcome(errno.EOPNOTSUPP)


def test_a_peer_that_is_not_the_named_one(ends: tuple[End, End], service: House) -> None:
    """EKEYREJECTED for the client, and neither end has an association."""
    with (
        connection(*ends) as (one, other),
        submitted(one, **{**ASKED, "peername": "other.test"}) as client,
        submitted(other, role=raw.SERVER, **ASKED) as server,
    ):
        assert client.outcome() == Outcome(errno.EKEYREJECTED)
        assert server.outcome().status == errno.EACCES
