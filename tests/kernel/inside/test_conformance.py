"""TLS 1.3 keeps every rule of the interface also where its sessions are in the kernel (kTLS)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from hsframework.testing import processor_time
from hsframework.testing.conformance import ConformanceSuite, Scenario
from hsframework.testing.dispatcher import serving
from hsframework.testing.network import BadNetwork
from hsframework.testing.virtual_time import run
from tests.unit.tls13 import test_conformance as in_user_space

SETTINGS = {"kernel-offload": True}


@pytest.fixture(autouse=True)
def _no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the time of callbacks out: in here the processor's time has that of the machine outside in it."""
    monkeypatch.setattr(processor_time, "LIMIT_OF_A_CALLBACK", 1e6)


class TestInTheKernel(ConformanceSuite):
    """Mutual authentication by certificates; what consumers then send goes through the kernel's record layer."""

    def scenario(self) -> Scenario:
        return replace(in_user_space.TestCertificates().scenario(), settings=SETTINGS)


def test_it_is_in_the_kernel() -> None:
    """The sessions that the suite tries here are in the kernel."""

    async def scene() -> None:
        async with serving("tls13", settings=SETTINGS) as service:
            with BadNetwork.streams() as network:
                ends = ((network.left, in_user_space.CLIENT), (network.right, in_user_space.SERVER))
                outcomes = await asyncio.gather(*(service.handshake(*end) for end in ends))
                for outcome, (sock, _) in zip(outcomes, ends, strict=True):
                    assert outcome.session(sock).in_kernel

    run(scene())
