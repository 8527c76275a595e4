"""Policy of the local sockets, whose peers are known by SO_PEERCRED.

Root and the dispatcher's own user may do everything.  Others may submit what an ``[[allow]]`` rule gives them, and may
join a group when ``[groups.NAME] users`` names them, or when they are the user of a plugin's agent
(:mod:`hsframework.configuration.agent_users`) and the rule gives that plugin the group.  Users are names or numbers; a
name that does not exist is an error at start.  Checks raise, they never return a boolean.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from hsframework.configuration.settings import AllowRule, Configuration
from hsframework.dispatcher.subordinates import Subordinates, load_subordinates
from hsframework.errors import ConfigurationError, RequestRefused

_UCRED = struct.Struct("=iII")
_SO_PEERGROUPS = 59
_MOST_GROUPS = 256  # what fits into the 1024 bytes that getsockopt of Python takes


@dataclass(frozen=True, slots=True)
class PeerCredentials:
    """Process, user and groups of the peer of a unix socket, as they were when it connected."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int] = frozenset()
    """Supplementary groups; empty when there are more than 256."""


def peer_credentials(sock: socket.socket) -> PeerCredentials:
    """Return the credentials of a connected unix socket's peer, by SO_PEERCRED and SO_PEERGROUPS."""
    pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    try:
        groups = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_GROUPS * 4)
    except OSError:
        groups = b""
    return PeerCredentials(pid, uid, gid, frozenset(number for (number,) in struct.iter_unpack("=I", groups)))


@dataclass(frozen=True, slots=True)
class _Rule:
    uids: frozenset[int]
    gids: frozenset[int]
    profiles: frozenset[str]


class PluginAgents(Protocol):
    """Agents of installed plugins, known by their users (:class:`hsframework.dispatcher.grants.KnownAgents`)."""

    def known(self, uid: int) -> bool:
        """True if the user is that of a plugin's agent."""

    def refused(self, uid: int, group: str) -> str | None:
        """Return what to change if the agent that runs as this user should join the group; None: it may."""


class Policy:
    """Rules of the configuration, with every name resolved, so that no look-up happens later.

    ``agent_uids``: by group, further user ids that may join it.  ``plugin_agents``: agents that are known by their
    users; None: a supervisor names their users by :meth:`allow_join`.  ``own_uid``: the dispatcher's user; None: this
    process's.  ``subordinates``: owners of further user ids; None: those of this machine.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        agent_uids: Mapping[str, Iterable[int]] | None = None,
        plugin_agents: PluginAgents | None = None,
        own_uid: int | None = None,
        subordinates: Subordinates | None = None,
    ) -> None:
        self._agents = plugin_agents
        self._subordinates = load_subordinates() if subordinates is None else subordinates
        self._privileged = frozenset({0, os.geteuid() if own_uid is None else own_uid})
        self._rules = tuple(_resolve(rule, index) for index, rule in enumerate(configuration.allow))
        self._joiners: dict[str, frozenset[int]] = {
            name: frozenset(user_id(user, f"groups.{name}.users") for user in group.users)
            for name, group in configuration.groups.items()
        }
        self._started: dict[str, tuple[int, frozenset[str]]] = {}
        """User and groups of each agent that a supervisor has started, by its name."""
        self._agent_uids = {name: frozenset(uids) for name, uids in (agent_uids or {}).items()}

    def renew(self, other: Policy) -> None:
        """Take over the rules of another policy, made of a configuration that was read again; agents stay known."""
        self._rules, self._joiners = other._rules, other._joiners

    def is_privileged(self, peer: PeerCredentials) -> bool:
        """True if the peer is root or the dispatcher's own user, which no rule restricts."""
        return peer.uid in self._privileged

    def account(self, peer: PeerCredentials) -> int:
        """Return the user for whom limits count the peer: the owner of a subordinate user id that no rule names.

        The peer's own number stays where a rule names it, and where root or the service's user is the owner.
        """
        if any(peer.uid in rule.uids for rule in self._rules):
            return peer.uid
        owner = self._subordinates.owner(peer.uid)
        return peer.uid if owner in self._privileged else owner

    def check_submit(self, peer: PeerCredentials, profile: str | None) -> None:
        """Raise RequestRefused (EACCES) if the peer may not submit a request with this profile."""
        if peer.uid in self._privileged:
            return
        rules = self._rules_for(peer)
        if not rules:
            raise _refused(f"user {peer.uid} may not submit requests; add an [[allow]] rule")
        if profile is not None and not any(profile in rule.profiles for rule in rules):
            raise _refused(f"user {peer.uid} may not use the profile {profile!r}; add it to an [[allow]] rule")

    def profiles_of(self, peer: PeerCredentials) -> frozenset[str] | None:
        """Return the profiles that rules give a peer; None: no rule names it."""
        rules = self._rules_for(peer)
        return frozenset().union(*(rule.profiles for rule in rules)) if rules else None

    def _rules_for(self, peer: PeerCredentials) -> list[_Rule]:
        gids = peer.groups | {peer.gid}
        return [rule for rule in self._rules if peer.uid in rule.uids or not gids.isdisjoint(rule.gids)]

    def check_overview(self, peer: PeerCredentials) -> None:
        """Raise RequestRefused (EACCES) if the peer may not know who is served, and by whom."""
        if peer.uid not in self._privileged:
            raise _refused(f"user {peer.uid} may not see or reload the service; root and the service's own user may")

    def check_join(self, peer: PeerCredentials, group: str) -> None:
        """Raise RequestRefused (EACCES) if the peer may not join the group."""
        if peer.uid in self._privileged or any(
            peer.uid in known.get(group, ()) for known in (self._joiners, self._agent_uids)
        ):
            return
        if (peer.uid, True) in ((uid, group in groups) for uid, groups in self._started.values()):
            return
        problem = "add it to [groups." + group + "] users"
        if self._agents is not None and self._agents.known(peer.uid):
            refused = self._agents.refused(peer.uid, group)
            if refused is None:
                return
            problem = refused
        raise _refused(f"user {peer.uid} may not join the group {group!r}; {problem}")

    def allow_join(self, agent: str, uid: int, groups: Iterable[str]) -> None:
        """Allow a user to join these groups: that of an agent just started, in place of what the agent had before."""
        self._started[agent] = uid, frozenset(groups)

    def check_restore(self, peer: PeerCredentials) -> None:
        """Raise RequestRefused (EACCES) if the peer may join no group, and so may not give requests back."""
        known = peer.uid in self._privileged or any(peer.uid == uid for uid, groups in self._started.values() if groups)
        known = known or (self._agents is not None and self._agents.known(peer.uid))
        if not known and not any(peer.uid in uids for uids in (*self._joiners.values(), *self._agent_uids.values())):
            raise _refused(f"user {peer.uid} is no agent's user")


def user_id(user: str, where: str) -> int:
    """Return the number of a user: ``"www-data"`` or ``"33"`` → 33.  Raises ConfigurationError."""
    if user.isdigit():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise ConfigurationError(f"{where}: there is no user {user!r}; create it or name another") from None


def group_id(group: str, where: str) -> int:
    """Return the number of a group of users: ``"ssl-cert"`` or ``"108"`` → 108.  Raises ConfigurationError."""
    try:
        return int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigurationError(f"{where}: there is no group {group!r}; create it or name another") from None


def _resolve(rule: AllowRule, index: int) -> _Rule:
    gids = {group_id(name, f"allow[{index}].groups") for name in rule.groups}
    uids = {user_id(user, f"allow[{index}].users") for user in rule.users}
    return _Rule(frozenset(uids), frozenset(gids), frozenset(rule.profiles))


def _refused(reason: str) -> RequestRefused:
    return RequestRefused(reason, errno=errno.EACCES)
