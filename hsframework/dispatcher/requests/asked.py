"""Facts of a submission that neither its agent nor its consumer needs: for the log, and to judge its session later."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hsframework.configuration.rules import Facts
from hsframework.credentials.labels import label_of
from hsframework.credentials.tags import SessionTags
from hsframework.dispatcher.keys.vault import Credentials
from hsframework.interface import AuthMode, Identity, Role

_UNIT_ENDS = (".service", ".scope", ".socket", ".mount", ".swap")
_MOST_CGROUP = 4096
_OWN_TRUST = frozenset(("trust-anchor", "trust-id", "crl", "crl-check"))


@dataclass(frozen=True, kw_only=True)
class Consumer:
    """Program that has asked for a handshake.  ``process``: its process id, as it was when it connected."""

    uid: int
    process: int

    @cached_property
    def unit(self) -> str:
        """Name of its systemd unit, read once from its control group; empty if it has none, or is gone."""
        return unit_of(self.process)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Request as its consumer asked for it, with the credentials that it was given.

    ``own_trust``: True if the consumer has brought the authorities.  ``facts``: of a request of the kernel, for rules.
    ``session_tags``: those that the session may get.  ``identities``: ours, of which the handshake shows one.
    ``consumer``: None: the kernel.  ``namespace``: network namespace of the kernel's request, as rules name it; empty:
    not known.
    """

    role: Role
    auth_mode: AuthMode
    profile: str | None = None
    peer_name: str | None = None
    any_peer_name: bool = False
    alpn: tuple[str, ...] = ()
    identities: tuple[Identity, ...] = ()
    consumer: Consumer | None = None
    own_trust: bool = False
    facts: Facts | None = None
    session_tags: SessionTags | None = None
    namespace: str = ""

    @cached_property
    def fields(self) -> Mapping[str, Any]:
        """Fields of the event ``handshake``, the same for every request of the submission; what is not known is left
        out."""
        found: dict[str, Any] = {"role": self.role.name.lower(), "auth": self.auth_mode.name.lower()}
        if self.namespace:
            found["namespace"] = self.namespace
        if self.consumer is not None:
            found["uid"] = self.consumer.uid
            found["process"] = self.consumer.process
            if self.consumer.unit:
                found["unit"] = self.consumer.unit
        if self.profile is not None:
            found["profile"] = self.profile
        if self.peer_name is not None:
            found["peer_name"] = self.peer_name
        if self.identities:
            found["identity"] = ", ".join(label_of(each.chain[0]) for each in self.identities if each.chain)
        return found


def asked_for(
    values: Mapping[str, Any],
    profile: str | None,
    role: Role,
    auth_mode: AuthMode,
    given: Credentials,
    consumer: Consumer,
) -> Asked:
    """Return the facts of a submit: attribute set ``request``, and what it was given."""
    return Asked(
        role=role,
        auth_mode=auth_mode,
        profile=profile,
        peer_name=values.get("peername"),
        any_peer_name=bool(values.get("any-peer-name")),
        alpn=given.alpn,
        identities=given.identities,
        consumer=consumer,
        own_trust=not _OWN_TRUST.isdisjoint(values),
    )


def unit_of(process: int) -> str:
    """Return the systemd unit of a process, by its control group; empty if that names none, or cannot be read."""
    try:
        fd = os.open(f"/proc/{process}/cgroup", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        text = os.read(fd, _MOST_CGROUP).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(fd)
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        kind, _, path = rest.partition(":")
        if kind in ("", "name=systemd"):
            units = [part for part in path.split("/") if part.endswith(_UNIT_ENDS)]
            if units:
                return units[-1]
    return ""
