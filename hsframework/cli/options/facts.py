"""Reports of ``connect`` and ``listen`` on stderr about a session or a failed handshake.  They contain no secrets."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from cryptography import x509

from hsframework.client import AsyncSession
from hsframework.credentials.certificate import printable
from hsframework.errors import HsframeworkError, errno_name
from hsframework.tls.parsing import PARSE_ERRORS, load_certificate, no_warnings


def session_facts(session: AsyncSession, peer_address: str, seconds: float) -> dict[str, Any]:
    """Return the report of a session for --json; ``seconds``: duration of the handshake."""
    peer = session.peer
    identity = peer.psk_identity
    return {
        "ok": True,
        "peer_address": peer_address,
        "protocol": session.protocol,
        "role": session.role.name.lower(),
        "in_kernel": session.in_kernel,
        "alpn": session.alpn,
        "tags": dict(session.tags),
        "certificates": [certificate_facts(der) for der in peer.certificates],
        "psk_identity": None if identity is None else identity.decode(errors="backslashreplace"),
        "public_key": None if peer.public_key is None else peer.public_key.hex(),
        "milliseconds": round(seconds * 1000, 1),
    }


def failure_facts(error: HsframeworkError, peer_address: str) -> dict[str, Any]:
    """Return the report of a failed handshake for --json."""
    return {
        "ok": False,
        "peer_address": peer_address,
        "errno": error.errno,
        "error": error.errno_name,
        "message": str(error),
    }


def certificate_facts(der: bytes) -> dict[str, Any]:
    """Return subject, issuer, names and end of validity of a DER certificate."""
    try:
        with no_warnings():
            certificate = load_certificate(der)
            return {
                "subject": certificate.subject.rfc4514_string(),
                "issuer": certificate.issuer.rfc4514_string(),
                "names": _names(certificate),
                "not_after": certificate.not_valid_after_utc.isoformat(),
            }
    except PARSE_ERRORS as error:
        return {"unreadable": str(error) or type(error).__name__}


def summary(facts: Mapping[str, Any]) -> str:
    """Format the report of a session as one line."""
    if facts["certificates"]:
        leaf = facts["certificates"][0]
        who = printable(leaf.get("subject") or ", ".join(leaf.get("names", ()))) or "an unnamed certificate"
    elif facts["psk_identity"] is not None:
        who = f"PSK {facts['psk_identity']}"
    elif facts["public_key"] is not None:
        who = f"key {facts['public_key']}"
    else:
        who = "anonymous"
    # A tag that is "yes" is shown by its name; one that is "no" is left out.
    tags = (name if value == "yes" else value for name, value in facts["tags"].items() if value != "no")
    details = [facts["protocol"], *tags]
    if facts["alpn"]:
        details.append(f"ALPN {facts['alpn']}")
    details += ["in the kernel" if facts["in_kernel"] else "in user space", f"{facts['milliseconds']} ms"]
    return f"session with {facts['peer_address']} ({who}): {', '.join(details)}"


def report_session(session: AsyncSession, peer_address: str, seconds: float, *, as_json: bool, quiet: bool) -> None:
    """Print the report of a session."""
    if quiet and not as_json:
        return
    facts = session_facts(session, peer_address, seconds)
    _say(json.dumps(facts) if as_json else f"hsframework: {summary(facts)}")


def report_failure(error: HsframeworkError, peer_address: str, *, as_json: bool) -> None:
    """Print the report of a failed handshake."""
    if as_json:
        _say(json.dumps(failure_facts(error, peer_address)))
    _say(f"hsframework: no session with {peer_address}: {error} [{errno_name(error.errno)}]")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in extension.value]
