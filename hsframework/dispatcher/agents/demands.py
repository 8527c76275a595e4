"""Refusal of requests that demand more of an agent than it has declared when it joined.

A demand that is passed over would be a hole, and keys that an agent has no use for would be one more place to steal
them from.  So what an agent has not declared, it does not get.
"""

from __future__ import annotations

import errno
from collections.abc import Set

from hsframework.dispatcher.messages import Parameters
from hsframework.dispatcher.requests.request import Outcome
from hsframework.interface import AuthMode, Demand

UNSUPPLIED = (AuthMode.OWN.value, AuthMode.UNAUTHENTICATED.value)
"""Modes of an agent whose JOIN names none: those for which it is given no keys."""

NO_POLICIES = "the agent of this group does not keep to TLS policies: leave tls-priorities out of request and profile"

NO_KEYS = (
    "the request has no proof of identity for its agent: give it a certificate or a pre-shared key, or a profile that "
    "has one"
)
"""Text of a request that leaves the proof to the protocol, which has none of its own kind."""

_NAMES = {Demand.PEER_NAME: "peername", Demand.TLS_POLICIES: "tls-priorities"}
"""Attributes of requests that are not named as their demand."""


def strange_words(auth_modes: Set[int], understood: Set[str]) -> list[str]:
    """Return what an agent has declared and this version does not know: of a later one, or misspelt."""
    modes = sorted(auth_modes - set(AuthMode))
    return [*(f"auth-mode {number}" for number in modes), *(word[:64] for word in sorted(understood - set(Demand)))]


def refusal(asked: Parameters, auth_modes: Set[int], understood: Set[str]) -> Outcome:
    """Return the outcome of a request whose agent has not declared its auth mode, or one of its demands."""
    if asked.auth_mode not in auth_modes:
        if asked.auth_mode == AuthMode.OWN:
            return Outcome.failure(errno.ENOKEY, NO_KEYS)
        mode = AuthMode(asked.auth_mode).name
        return Outcome.failure(
            errno.EOPNOTSUPP,
            f"the agent of this group does not have the auth mode {mode}: ask for another one; if a profile has chosen "
            "it, name another profile, or give that one the groups that it is for",
        )
    unknown = sorted(asked.demands - understood)
    if unknown == [Demand.TLS_POLICIES]:
        return Outcome.failure(errno.EOPNOTSUPP, NO_POLICIES)
    named = ", ".join(_NAMES.get(Demand(demand), demand) for demand in unknown)
    return Outcome.failure(
        errno.EOPNOTSUPP,
        f"the agent of this group does not understand what the request demands: leave {named} out of request and "
        "profile, or give the profile the groups that it is for",
    )
