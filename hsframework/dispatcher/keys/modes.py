"""Role and auth mode of a submit."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Protocol, TypeVar

from hsframework.errors import RequestRefused
from hsframework.interface import AuthMode, Identity, PresharedKey, Role

M = TypeVar("M", bound=IntEnum)


class Keys(Protocol):
    """Keys of a request, by which its auth mode may be chosen."""

    @property
    def identities(self) -> tuple[Identity, ...]: ...

    @property
    def psks(self) -> tuple[PresharedKey, ...]: ...


def member(kind: type[M], value: int, name: str) -> M:
    """Return the member with this number.  ``name``: of the attribute, for the message.  Raises RequestRefused."""
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(str(int(item)) for item in kind)
        raise RequestRefused(f"{name} {value} is not one of {known}", errno=errno.EINVAL) from None


def role_of(values: Mapping[str, Any]) -> Role:
    """Return the role that a submit asks for.  Raises RequestRefused."""
    return member(Role, values.get("message-type", 0), "message-type")


def auth_mode_of(values: Mapping[str, Any]) -> AuthMode:
    """Return the auth mode that a submit asks for.  Raises RequestRefused."""
    return member(AuthMode, values.get("auth-mode", 0), "auth-mode")


def auth_mode_of_keys(given: Keys, role: Role) -> AuthMode:
    """Return the auth mode of a submit that leaves it to its keys: that of identities, or else of pre-shared keys.

    A client without either is anonymous; the proof of a server without either is left to its protocol.
    """
    if given.identities:
        return AuthMode.X509
    if given.psks:
        return AuthMode.PSK
    return AuthMode.OWN if role is Role.SERVER else AuthMode.UNAUTHENTICATED


def agreed_auth_mode(values: Mapping[str, Any], given: Keys, role: Role) -> AuthMode:
    """Return the auth mode that a submit asks for, or that of its keys.  Raises RequestRefused."""
    if "auth-mode" not in values:
        if role is Role.CLIENT and "profile" not in values:
            raise RequestRefused("a client's submit has an auth-mode or a profile", errno=errno.EINVAL)
        return auth_mode_of_keys(given, role)
    auth_mode = auth_mode_of(values)
    if auth_mode is AuthMode.OWN and ("identity" in values or "psk" in values):
        raise RequestRefused("keys of the request go with the auth modes x509 and psk", errno=errno.EINVAL)
    return auth_mode
