"""Checks of the credentials that the configuration names, and of the clock that judges their dates."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from hsframework.cli.checks.finding import Finding, Verdict
from hsframework.configuration.settings import Configuration
from hsframework.credentials.certificate import ParsedCertificate
from hsframework.interface import Identity

SOON = timedelta(days=14)
EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)
"""A clock before it is wrong: this program is newer."""


def check_credentials(settings: Configuration, now: datetime | None = None) -> Iterable[Finding]:
    """Check that keys, certificates and revocation lists can be loaded by this user, serve, and do not expire soon.

    ``now``: None is the clock's time.
    """
    from hsframework.dispatcher.keys.vault import Vault

    time = now or datetime.now(UTC)
    if time < EARLIEST:
        yield Finding("clock", "missing", f"it says {time:%Y-%m-%d}, which is past", "set it: timedatectl")
    # As after a crash: with nothing to fall back on, each part that cannot be loaded is one of the faults.
    vault = Vault(settings, {})
    for reason in vault.faults.values():
        yield Finding(
            "credentials", "missing", reason, "correct the file or its entry; the service does not start without"
        )
    for finding in vault.findings(time):
        verdict: Verdict = "missing" if finding.useless else "note"
        yield Finding(finding.where, verdict, finding.detail, "replace the file; the service starts with it")
    for name, identity in vault.identities().items():
        yield from _expiry(f"identities.{name}", identity, time)


def _expiry(subject: str, identity: Identity, now: datetime) -> Iterable[Finding]:
    for der in identity.chain:
        facts = ParsedCertificate(der).facts
        if facts.not_after - SOON < now <= facts.not_after:
            yield Finding(subject, "note", f"{facts.label} expires on {facts.not_after:%Y-%m-%d %H:%M} UTC", "renew it")
