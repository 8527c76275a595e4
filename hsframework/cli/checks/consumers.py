"""Checks of the user who asks, as a consumer of the service."""

from __future__ import annotations

import os
from collections.abc import Iterable

from hsframework.cli.checks.finding import Finding
from hsframework.configuration.settings import Configuration
from hsframework.dispatcher.policy import PeerCredentials, Policy
from hsframework.errors import ConfigurationError, RequestRefused


def check_profiles(settings: Configuration, peer: PeerCredentials | None = None) -> Iterable[Finding]:
    """Say which profiles a user may name; ``peer``: None is the user who asks.  Root may name all."""
    user = peer or PeerCredentials(os.getpid(), os.getuid(), os.getgid(), frozenset(os.getgroups()))
    if user.uid == 0:
        return
    try:
        policy = Policy(settings, own_uid=0)
        policy.check_submit(user, None)
    except (ConfigurationError, RequestRefused) as error:
        detail = f"this user may not use the service of root: {error}"
        yield Finding("profiles", "note", detail, "ask its administrator")
        return
    allowed = [name for name in sorted(settings.profiles) if _allows(policy, user, name)]
    names = ", ".join(allowed) if allowed else "none; credentials of one's own are allowed"
    yield Finding("profiles", "ok", f"this user may name: {names}")


def _allows(policy: Policy, user: PeerCredentials, profile: str) -> bool:
    try:
        policy.check_submit(user, profile)
    except RequestRefused:
        return False
    return True
