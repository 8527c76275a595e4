"""Say how a request of the kernel would be served: which rule, profile, identity and trust it gets, and why.

With a certificate, or the identity of a pre-shared key: whether the peer would be admitted, and which check refuses it.
The answers are those of the service's own functions with the files as they are now; plugins that refuse peers are not
asked, and nothing is started.

Exit status 0: the request would go to an agent, and the peer be admitted.  1: it would be refused.

example:
  hsframework explain --role client --name nfs1.cloud.example
  hsframework explain --role server --peer 192.0.2.7 --port 2049 --certificate peer.pem
  hsframework explain --config new.toml --role server --peer 192.0.2.7 --json
"""

from __future__ import annotations

import argparse
import ipaddress
import json
from collections.abc import Iterator, Sequence
from typing import Any

from hsframework.cli.checks.explanation import Explanation, Verdict, explain, verdict_on
from hsframework.cli.options.credentials import file_name
from hsframework.cli.options.quiet import silence_logs
from hsframework.cli.options.service import add_configuration_file, add_kernel, add_tlshd, configuration
from hsframework.cli.options.table import columns
from hsframework.configuration.rules import AUTH_MODES, OWN_NAMESPACE, ROLES, Facts
from hsframework.configuration.settings import Configuration
from hsframework.credentials.certificate import ParsedCertificate
from hsframework.credentials.files import read_public
from hsframework.credentials.trust import certificates_in
from hsframework.errors import ConfigurationError, HandshakeError, errno_name
from hsframework.failures import HandshakeFailed
from hsframework.interface import AuthMode, CertificateDemand, Role

MOST_SHOWN = 4
"""Authorities of a trust that are named."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--role", choices=list(ROLES), required=True, help="our side of the handshake")
    parser.add_argument("--auth-mode", choices=list(AUTH_MODES), help="our side's proof (default: x509)")
    parser.add_argument("--peer", metavar="ADDRESS", type=_address, help="IP address of the peer")
    parser.add_argument("--local", metavar="ADDRESS", type=_address, help="our own IP address")
    parser.add_argument("--port", type=int, help="our own port")
    parser.add_argument("--name", help="of a client's request: the name that the peer must prove")
    parser.add_argument("--namespace", default=OWN_NAMESPACE, help="network namespace (default: the service's own)")
    parser.add_argument("--keyring", help="name of the keyring that the request brings")
    parser.add_argument("--certificate", metavar="FILE", type=file_name, help="the peer's: PEM, its leaf first")
    parser.add_argument("--psk-identity", metavar="IDENTITY", help="of a pre-shared key that the peer holds")
    parser.add_argument("--json", action="store_true", help="as a JSON object")
    add_configuration_file(parser)
    add_kernel(parser)
    add_tlshd(parser)


def run(arguments: argparse.Namespace) -> int:
    silence_logs()
    settings, facts = configuration(arguments), _facts(arguments)
    chain = _chain(arguments.certificate)
    found = explain(settings, facts)
    identity = None if arguments.psk_identity is None else arguments.psk_identity.encode("utf-8", "surrogateescape")
    verdict = verdict_on(found, chain, identity) if chain or identity is not None else None
    rows = [*_terms(settings, found), *_peer(settings, found, verdict)]
    if arguments.json:
        answer: dict[str, Any] = {"admitted": not _refused(found, verdict), "passed": found.decision.passed}
        for name, text in rows:
            answer.setdefault(name, []).append(text)
        print(json.dumps(answer, indent=2))
    else:
        passed = [("passed over", f"rule {label}: {reason}") for label, reason in found.decision.passed]
        print("\n".join(columns([*passed, *rows])))
    return 1 if _refused(found, verdict) else 0


def _refused(found: Explanation, verdict: Verdict | None) -> bool:
    return found.refusal is not None or (verdict is not None and verdict.refusal is not None)


def _facts(arguments: argparse.Namespace) -> Facts:
    role = ROLES[arguments.role]
    if arguments.name and role is Role.SERVER:
        raise ConfigurationError("--name: a server's request names no peer; leave it out, or --role client")
    return Facts(
        role=role,
        auth_mode=AUTH_MODES[arguments.auth_mode or "x509"],
        peer=arguments.peer,
        local=arguments.local,
        local_port=arguments.port,
        peer_name=arguments.name,
        namespace=arguments.namespace,
        keyring=arguments.keyring,
    )


def _address(text: str) -> str:
    ipaddress.ip_address(text.partition("%")[0])
    return text


def _chain(path: Any) -> tuple[bytes, ...]:
    if path is None:
        return ()
    chain = certificates_in(read_public(path), str(path))
    if not chain:
        raise ConfigurationError(f"{path} holds no certificate in PEM or DER form: name another file")
    return chain


Row = tuple[str, str]


def _terms(settings: Configuration, found: Explanation) -> Iterator[Row]:
    """Yield what the request gets."""
    decision, given = found.decision, found.credentials
    role = found.facts.role.name.lower()
    if decision.index is not None:
        place = settings.located(f"rule[{decision.index}]: {decision.rule}")
        yield "rule", place
    else:
        yield "rule", "none is met" if decision.refusal else f"there are no rules for the role {role}"
    if found.refusal is not None:
        yield "refused", f"{found.refusal} ({errno_name(found.refusal.errno)})"
    if given is None:
        return
    if decision.profile is None:
        yield "profile", "none" + ("; the system's trust is used" if given.trust is not None else "")
        profile = None
    else:
        yield "profile", settings.located(f"profiles.{decision.profile}: {decision.profile}")
        profile = settings.profiles[decision.profile]
    names = () if profile is None else profile.identities
    for name, identity in zip(names, given.identities, strict=False):
        yield "identity", f"{name}: {_certificate(identity.chain[0])}"
    if not given.identities:
        yield "identity", _no_identity(found.facts)
    if given.trust is not None:
        name = "the system's" if profile is None else str(profile.trust)
        lists = len(given.trust.crls)
        yield "trust", f"{name}: {_authorities(given.trust.anchors)}; revocation lists: {lists or 'none'}"
    else:
        yield "trust", "none: a peer that shows a certificate is refused"
    if given.alpn:
        yield "alpn", ", ".join(given.alpn)
    for policy in given.tls_priorities:
        yield "policy", policy


def _no_identity(facts: Facts) -> str:
    if facts.auth_mode is AuthMode.PSK:
        return f"the pre-shared key that the {'request' if facts.role is Role.CLIENT else 'peer'} names"
    if facts.auth_mode is AuthMode.UNAUTHENTICATED:
        return "none is asked for: we stay anonymous"
    return "none, unless the request names one by its serial: the handshake fails (ENOKEY)"


def _peer(settings: Configuration, found: Explanation, verdict: Verdict | None) -> Iterator[Row]:
    """Yield what the peer has to show, and the verdict on it."""
    given, facts = found.credentials, found.facts
    if given is None:
        return
    if facts.role is Role.CLIENT:
        if facts.auth_mode is not AuthMode.PSK:
            yield "peer", f"must prove {facts.peer_name}" if facts.peer_name else "refused: the request names no peer"
    elif facts.auth_mode is not AuthMode.PSK:
        demands = {
            CertificateDemand.NONE: "is asked for no certificate",
            CertificateDemand.REQUEST: "may show a certificate",
            CertificateDemand.REQUIRE: "must show a certificate",
        }
        yield "peer", demands[given.client_certificate]
    admit = None if given.trust is None else given.trust.admit
    if admit is not None:
        key = f"profiles.{found.decision.profile}.admit: one of {len(admit)} must be for the peer"
        yield "admits", settings.located(key)
    if verdict is not None:
        yield "verdict", _verdict(verdict)


def _verdict(verdict: Verdict) -> str:
    if verdict.refusal is None:
        by = "" if verdict.entry is None else f", by the entry {verdict.entry!r}"
        path = " <- ".join(ParsedCertificate(der).facts.label for der in verdict.path)
        return f"admitted{by}" + (f"; path: {path}" if path else "")
    return f"refused, {_check(verdict.refusal)}: {verdict.refusal} ({errno_name(verdict.refusal.errno)})"


def _check(refusal: HandshakeError) -> str:
    if isinstance(refusal, HandshakeFailed):
        alert = refusal.failure.alert
        return refusal.failure.name + ("" if alert is None else f", alert {alert}")
    return "before the handshake"


def _certificate(der: bytes) -> str:
    facts = ParsedCertificate(der).facts
    return f"{facts.label}, until {facts.not_after:%Y-%m-%d}"


def _authorities(anchors: Sequence[bytes]) -> str:
    labels = [ParsedCertificate(der).facts.label for der in anchors[:MOST_SHOWN]]
    rest = len(anchors) - len(labels)
    return ("; ".join(labels) or "nobody") + (f"; and {rest} more" if rest else "")
