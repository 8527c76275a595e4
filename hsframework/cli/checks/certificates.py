"""Checks of dates: of the certificates that the configuration names as our own, and of the clock that judges them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from cryptography import x509

from hsframework.cli.checks.finding import Finding
from hsframework.configuration.settings import Configuration
from hsframework.credentials.files import read_public
from hsframework.credentials.trust import certificates_in
from hsframework.errors import ConfigurationError

SOON = timedelta(days=14)
EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)
"""A clock before it is wrong: this program is newer."""


def check_certificates(settings: Configuration, now: datetime | None = None) -> Iterable[Finding]:
    """Check that our own certificates are valid now and for two weeks more; ``now``: None is the clock's time."""
    time = now or datetime.now(UTC)
    if time < EARLIEST:
        yield Finding(
            "clock",
            "missing",
            f"it says {time:%Y-%m-%d}, so that certificates are not valid yet",
            "set it: timedatectl",
        )
    for name, item in settings.identities.items():
        try:
            # The private key has its own check, and may be unreadable to who asks.
            chain = certificates_in(read_public(item.certificate), str(item.certificate))
        except ConfigurationError:
            continue  # check_credentials names it
        for place, der in enumerate(chain):
            certificate = x509.load_der_x509_certificate(der)
            which = "its certificate" if place == 0 else f"certificate {place + 1} of its chain"
            yield from _dates(f"identity {name}", f"{which} ({item.certificate})", certificate, time)


def _dates(subject: str, which: str, certificate: x509.Certificate, now: datetime) -> Iterable[Finding]:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > end:
        yield Finding(subject, "missing", f"{which} has expired on {end:%Y-%m-%d %H:%M} UTC", "renew it, and restart")
    elif now < begin:
        yield Finding(
            subject, "missing", f"{which} is valid from {begin:%Y-%m-%d %H:%M} UTC on", "set the clock, or wait"
        )
    elif now > end - SOON:
        yield Finding(subject, "note", f"{which} expires on {end:%Y-%m-%d %H:%M} UTC", "renew it")
