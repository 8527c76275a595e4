"""Checks of values for the dataclasses of the configuration: each raises ConfigurationError, which names the key."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from hsframework.errors import ConfigurationError
from hsframework.tls.alpn import wrong_alpn
from hsframework.tls.priorities import parse_priorities


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Check that a value is one of those that are allowed."""
    if value not in allowed:
        raise ConfigurationError(f"{name} = {value!r} must be one of {', '.join(allowed)}")


def check_priorities(text: str) -> None:
    """Check a TLS policy."""
    try:
        parse_priorities(text)
    except ConfigurationError as error:
        raise ConfigurationError(f"tls-priorities: {error}") from None


def check_alpn(names: tuple[str, ...]) -> None:
    """Check names of application protocols."""
    if wrong := wrong_alpn(names):
        raise ConfigurationError(wrong)


def check_admit(entries: tuple[str, ...]) -> None:
    """Check an admission list."""
    # It parses certificates' names, with libraries that programs with a client alone do not need.
    from hsframework.credentials.admission import AdmissionList

    try:
        AdmissionList(entries)
    except ConfigurationError as error:
        raise ConfigurationError(f"admit: {error}") from None


def known_names(where: str, names: tuple[str, ...], known: Mapping[str, Any]) -> None:
    """Check that the names of the key ``where`` are those of tables that are there."""
    for name in names:
        if name not in known:
            raise ConfigurationError(f"{where}: {name!r} is not configured{suggestion(name, known)}")


def suggestion(key: str, known: Mapping[str, Any]) -> str:
    """Return the end of an error message about an unknown key: a similar known one, or all of them."""
    close = difflib.get_close_matches(key, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {', '.join(sorted(known))}" if known else ""
