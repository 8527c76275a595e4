"""Revocation lists that must not get lost in a reload.

A certificate without a list of its authority is accepted (``crl-check = "if-present"``), so a bundle that was cut
between two lists, or a folder with one file less, would let revoked peers in; and so would an older list.  As long as
the configuration names the same files of lists for a trust, they must have a list of every issuer of which one is in
force, and none that is older.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from hsframework.configuration.settings import Configuration
from hsframework.credentials.der import list_parts
from hsframework.credentials.distinguished import comparable
from hsframework.errors import ConfigurationError
from hsframework.interface import Trust
from hsframework.tls.parsing import load_crl, no_warnings

Dates = Mapping[bytes, tuple[datetime, str]]
"""By issuer: thisUpdate of the newest list, and the issuer's name for people."""


def dates_of(trust: Trust) -> Dates:
    """Return the dates of a trust that could be loaded."""
    found: dict[bytes, tuple[datetime, str]] = {}
    for der in trust.crls:
        with no_warnings():
            crl = load_crl(der)
            issuer, date = comparable(list_parts(der).issuer), crl.last_update_utc
            if issuer not in found or found[issuer][0] < date:
                found[issuer] = date, crl.issuer.rfc4514_string()
    return found


def check_lists(
    before: Configuration, in_force: Mapping[str, Dates], now: Configuration, read: Mapping[str, Dates]
) -> None:
    """Check what was read against what is in force, both by the names of trusts.  Raises ConfigurationError."""
    for name, dates in in_force.items():
        if name not in read or before.trust[name].crl != now.trust[name].crl:
            continue
        for issuer, (date, label) in dates.items():
            found = read[name].get(issuer)
            if found is None:
                raise ConfigurationError(
                    f"trust.{name}: the revocation list of {label}, which is in force, is no longer in the files: put "
                    "one back, or restart the service without it"
                )
            if found[0] < date:
                raise ConfigurationError(
                    f"trust.{name}: the revocation list of {label} is of {found[0]:%Y-%m-%d %H:%M:%SZ}, and one of "
                    f"{date:%Y-%m-%d %H:%M:%SZ} is in force: get a newer one"
                )
