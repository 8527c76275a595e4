"""Usages that a peer's certificate may have: by role, by consumer and by trust."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from hsframework.credentials.judgement import judge_for
from hsframework.credentials.rules import RPC_TLS_CLIENT, RPC_TLS_SERVER
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import AuthMode, ClientUsage, Request, Role
from hsframework.testing.certificates import CLIENT, SERVER, Authority

ROOT = Authority("Root of usages")
USAGES = {
    "server": SERVER,
    "client": CLIENT,
    "rpc server": RPC_TLS_SERVER,
    "rpc client": RPC_TLS_CLIENT,
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    "other": ExtendedKeyUsageOID.CODE_SIGNING,
}
NFS: dict[str, Any] = {"kernel_consumer": True, "alpn": ("sunrpc",)}
CONSUMERS: dict[str, dict[str, Any]] = {
    "nfs": NFS,
    "another of the kernel's": {"kernel_consumer": True},
    "a program": {"alpn": ("sunrpc",)},
}


def accepted(role: Role, consumer: str, usage: ClientUsage) -> set[str]:
    """Return the usages that are accepted of our peer."""
    if role is Role.CLIENT:
        return {"server", "rpc server"} if consumer == "nfs" else {"server"}
    found = {"client", "rpc client"} if consumer == "nfs" else {"client"}
    return found | {"server"} if usage is ClientUsage.TLS else found


def request_of(role: Role, **fields: Any) -> Request:
    """Return a request whose peer shows a certificate of :data:`ROOT`, or of an authority below it."""
    defaults: dict[str, Any] = {"trust": ROOT.trust(), "any_peer_name": role is Role.CLIENT}
    return Request(id=1, group="tls13", role=role, auth_mode=AuthMode.X509, deadline=0.0, **{**defaults, **fields})


def outcome(request: Request, chain: tuple[bytes, ...]) -> Failure | None:
    try:
        judge_for(request)(chain)
    except HandshakeFailed as failed:
        return failed.failure
    return None


@pytest.mark.parametrize(("role", "consumer", "usage"), [*product((Role.CLIENT, Role.SERVER), CONSUMERS, ClientUsage)])
@pytest.mark.parametrize("where", ["leaf", "authority"])
def test_usages(where: str, role: Role, consumer: str, usage: ClientUsage) -> None:
    """In the leaf, and in an authority whose leaf has no usage, exactly those of role, consumer and trust count."""
    trust = replace(ROOT.trust(), client_usage=usage)
    request = request_of(role, trust=trust, **CONSUMERS[consumer])
    for name, identifier in USAGES.items():
        if where == "leaf":
            chain = ROOT.issue(["a.example"], usages=(identifier,)).chain
        else:
            chain = ROOT.intermediate(f"Only {name}", usages=(identifier,)).issue(["a.example"], usages=None).chain
        good = name in accepted(role, consumer, usage)
        assert outcome(request, chain) is (None if good else Failure.WRONG_USAGE), name


def test_one_usage_leads_through_the_whole_path() -> None:
    """A leaf with one of the usages below an authority with the other has none."""
    split = ROOT.intermediate("Split", usages=(RPC_TLS_CLIENT,))
    request = request_of(Role.SERVER, **NFS)
    assert outcome(request, split.issue(["a.example"], usages=(CLIENT,)).chain) is Failure.WRONG_USAGE
    assert outcome(request, split.issue(["a.example"], usages=(CLIENT, RPC_TLS_CLIENT)).chain) is None


def test_the_second_judge_judges_these_too() -> None:
    """A usage that OpenSSL does not know spares no other check of its: a wrong signature is refused by it alone."""
    leaf = ROOT.issue(["a.example"], usages=(RPC_TLS_CLIENT,), spoil_signature=True)
    request = request_of(Role.SERVER, **NFS)
    assert outcome(request, leaf.chain) is Failure.BAD_CERTIFICATE
    critical = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"), True)
    leaf = ROOT.issue(["a.example"], usages=(RPC_TLS_CLIENT,), extensions=(critical,))
    assert outcome(request, leaf.chain) is Failure.BAD_CERTIFICATE
