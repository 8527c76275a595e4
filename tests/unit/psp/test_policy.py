"""A request's TLS policy in PSP: the TLS session that agrees on the keys, and the versions that protect the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Demand, Request
from hsframework_psp.plugin import PspHandshaker
from hsframework_psp.policy import permitted
from hsframework_psp.protocol import PspProtocol
from hsframework_psp.settings import Settings
from hsframework_psp.versions import Version
from tests.unit.psp.handshakes import AS_CLIENT, AS_SERVER, outcomes, results

EVERY = tuple(Version)
AES_128_P384 = "NORMAL:-CIPHER-ALL:+AES-128-GCM:-GROUP-ALL:+GROUP-SECP384R1"


def asked(request: Request, policy: str) -> Request:
    return replace(request, tls_priorities=(policy,))


@pytest.mark.parametrize(
    ("policy", "versions"),
    [
        ("NORMAL", (Version.AES_GCM_256, Version.AES_GCM_128)),
        ("PERFORMANCE", (Version.AES_GCM_128, Version.AES_GCM_256)),
        ("SECURE192", (Version.AES_GCM_256,)),
        (AES_128_P384, (Version.AES_GCM_128,)),
    ],
)
def test_versions(policy: str, versions: Sequence[Version]) -> None:
    """Those with a cipher of the policy, in its order; those that do not encrypt are never among them."""
    assert tuple(permitted(EVERY, asked(AS_CLIENT, policy))) == versions


def test_without_a_policy() -> None:
    """The settings' own preference."""
    assert permitted(EVERY, AS_CLIENT) is EVERY


@pytest.mark.parametrize("role", ["client", "server"])
def test_a_session(role: str) -> None:
    """The TLS session and the version are the policy's, whichever end has it."""
    client = asked(AS_CLIENT, AES_128_P384) if role == "client" else AS_CLIENT
    server = asked(AS_SERVER, AES_128_P384) if role == "server" else AS_SERVER
    for result in results(client, server):
        assert result.tags["version"] == "aes-gcm-128"
        assert (result.tags["cipher"], result.tags["group"]) == ("TLS_AES_128_GCM_SHA256", "secp384r1")


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305", "none of the versions of PSP in the settings: aes-gcm-256"),
        ("NORMAL:+ROT13", "word 2 of the priority string"),
    ],
)
def test_what_cannot_be_kept(policy: str, words: str) -> None:
    """NOT_OFFERED_HERE, and the other end gets it."""
    client, server = outcomes(asked(AS_CLIENT, policy))
    assert isinstance(client, HandshakeFailed), client
    assert client.failure is Failure.NOT_OFFERED_HERE
    assert words in client.detail
    assert isinstance(server, HandshakeFailed), server
    assert server.peer_alert == Failure.NOT_OFFERED_HERE.alert


def test_versions_that_the_settings_do_not_have() -> None:
    """A policy is never wider than the settings."""
    narrow = PspHandshaker(Settings(versions=("aes-gcm-128",), device="software"))
    client, _ = outcomes(asked(AS_CLIENT, "SECURE192"), AS_SERVER, narrow, narrow)
    assert isinstance(client, HandshakeFailed)
    assert client.failure is Failure.NOT_OFFERED_HERE


def test_the_protocol_says_so() -> None:
    """Else the agent would refuse each request that has a policy."""
    assert Demand.TLS_POLICIES in PspProtocol.understands
