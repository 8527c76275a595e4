"""Cell: a dispatcher for one user's consumers alone, with workers of its own.

It has no privilege, a user id of its own, and of the credentials those that policy gives the user.  It listens nowhere:
the supervisor passes connections and links to workers (:mod:`hsframework.supervisor.cells`).  So whatever the user
hands over, a socket that blocks for ever or closes only after an hour, holds up his own requests.

It opens no file: a process that ends then, root's, makes its terms of those in force and sends them, at first and at
each reload (:func:`hand_over_terms`).  What comes before the first ones waits for them.

Consumers to whom policy gives nothing share one such cell, which refuses them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import os
import socket
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from hsframework.caches import set_total
from hsframework.configuration.settings import Configuration
from hsframework.dispatcher.agents import AgentServer
from hsframework.dispatcher.keys.trusts import TrustFiles
from hsframework.dispatcher.keys.vault import Part, Vault
from hsframework.dispatcher.policy import PeerCredentials, Policy, peer_credentials
from hsframework.dispatcher.renewal import Parts, Renewal
from hsframework.dispatcher.requests.core import Dispatcher
from hsframework.dispatcher.sources.consumers import LocalSource
from hsframework.dispatcher.tally import Tally
from hsframework.dispatcher.terms import CONFIGURATION, CREDENTIALS, InForce, Terms
from hsframework.errors import ConfigurationError, MessageError
from hsframework.local.channel import AsyncChannel
from hsframework.local.control import (
    CELL_TO_SUPERVISOR,
    SUPERVISOR_TO_CELL,
    CellAlive,
    CellTerms,
    FromCell,
    Guest,
    Idle,
    Offer,
    WorkerLink,
    WorkerWanted,
)
from hsframework.local.control_socket import ControlSocket
from hsframework.local.pulse import Pulse
from hsframework.process.capabilities import (
    clear_bounding_set,
    forbid_core_dumps,
    forbid_new_privileges,
    set_capabilities,
)
from hsframework.process.confinement import confine_cell, files_of_a_cell
from hsframework.process.giving_way import CELL_SHARE, GivingWay
from hsframework.process.lock import lock_memory, score_of_users, set_oom_score
from hsframework.process.signals import stop_signals
from hsframework.process.snapshot import thaw
from hsframework.process.title import set_title

ASK_AGAIN = 0.5
"""Seconds between two requests for a worker of the same group."""

IDLE_TIME = 30.0
"""Seconds without a connection after which a cell reports that it is idle."""

PULSE = 0.25
"""Seconds between two reports that the loop turns."""

GC_THRESHOLD = 20_000
LEAST = 19
"""Niceness of the cell of strangers."""

_log = structlog.get_logger("hsframework.dispatcher")


@dataclass(frozen=True, slots=True)
class Tenant:
    """User of a cell.  ``uid``: None: all to whom policy gives nothing.  ``profiles``: that he may name.

    ``number``: user id of the cell's process; None: it keeps the supervisor's.
    """

    uid: int | None
    profiles: frozenset[str]
    number: int | None

    @property
    def name(self) -> str:
        """Name for people."""
        return "strangers" if self.uid is None else f"user {self.uid}"


def run_cell(configuration: Configuration, tenant: Tenant, control: socket.socket) -> int:
    """Serve until the supervisor ends it.  Returns the exit status; raises ConfigurationError."""
    set_title(f"hsframework cell of {tenant.name}")
    if tenant.uid is None:
        os.setpriority(os.PRIO_PROCESS, 0, LEAST)  # what strangers send takes no processor time that others want
    set_oom_score(score_of_users())
    restricted = restrict(configuration, tenant.profiles)
    policy = Policy(restricted, own_uid=-1 if tenant.number is None else tenant.number)
    files = files_of_a_cell()
    give_up_privileges(tenant.number)
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    set_total(configuration.memory.cache << 20)
    lock_memory(configuration.memory)
    confine_cell(files)
    return asyncio.run(Cell(restricted, policy, None, control).run())


def hand_over_terms(
    link: socket.socket, configuration: Configuration, profiles: Collection[str], credentials: int | None
) -> int:
    """Send a cell its terms, made of all that is in force, in a process that ends then.  Returns its exit status.

    ``link``: the supervisor's end of the cell's control socket.  ``credentials``: the snapshot of those in force; None:
    there is none yet, and files are read.  An unusable one refuses the requests that need it.
    """
    set_title("hsframework terms of a cell")
    restricted = restrict(configuration, profiles)
    contents = None if credentials is None else _those_of(restricted, credentials)
    vault = Vault(restricted, before={}, contents=contents)
    control = ControlSocket(link, SUPERVISOR_TO_CELL, CELL_TO_SUPERVISOR)
    snapshots = Terms(InForce(restricted), vault.contents()).frozen()
    taken = [
        control.send(CellTerms(part), fd) for part, fd in zip((CONFIGURATION, CREDENTIALS), snapshots, strict=True)
    ]
    return 0 if all(taken) else 1


def _those_of(configuration: Configuration, credentials: int) -> Mapping[Part, Any] | None:
    """Return what a configuration names of a snapshot, which it closes; None if that cannot be read."""
    named = {(kind, name) for kind in ("identities", "psks", "trust") for name in getattr(configuration, kind)}
    try:
        return {part: value for part, value in thaw(credentials).items() if part in named}
    except ValueError as error:
        _log.error("the credentials in force are lost; files are read", reason=str(error))
        return None


def restrict(configuration: Configuration, profiles: Collection[str]) -> Configuration:
    """Return the configuration with these profiles, and what they name, alone."""
    kept = {name: profile for name, profile in configuration.profiles.items() if name in profiles}
    identities = {name for profile in kept.values() for name in profile.identities}
    psks = {name for profile in kept.values() for name in profile.psks}
    trusts = {profile.trust for profile in kept.values()}
    return dataclasses.replace(
        configuration,
        profiles=kept,
        identities={name: item for name, item in configuration.identities.items() if name in identities},
        psks={name: item for name, item in configuration.psks.items() if name in psks},
        trust={name: item for name, item in configuration.trust.items() if name in trusts},
        kernel=dataclasses.replace(configuration.kernel, client_profile=None, server_profile=None),
        allow=tuple(
            dataclasses.replace(rule, profiles=tuple(name for name in rule.profiles if name in kept))
            for rule in configuration.allow
        ),
        rule=(),
        places={},
        groups={},
    )


def give_up_privileges(number: int | None) -> None:
    """Become the user of this number, without groups and capabilities; None: keep the user.

    Raises ConfigurationError that names the system call.
    """
    if number is not None:
        clear_bounding_set()
        changes: tuple[tuple[str, Callable[[], None]], ...] = (
            ("setgroups", lambda: os.setgroups([])),
            ("setresgid", lambda: os.setresgid(number, number, number)),
            ("setresuid", lambda: os.setresuid(number, number, number)),
        )
        for call, change in changes:
            try:
                change()
            except OSError as error:
                raise ConfigurationError(
                    f"{call}: {error.strerror}: a cell cannot become user {number}; start the service with CAP_SETUID "
                    "and CAP_SETGID where this user id exists"
                ) from None
    set_capabilities(0)
    forbid_new_privileges()
    forbid_core_dumps()


class Cell:
    """The dispatcher of a cell, and its conversation with the supervisor."""

    def __init__(
        self, configuration: Configuration, policy: Policy, vault: Vault | None, control: socket.socket
    ) -> None:
        self._configuration = configuration
        self._policy = policy
        self._vault = Vault(configuration, contents={}) if vault is None else vault
        self._held: list[tuple[Guest | WorkerLink, int]] | None = [] if vault is None else None
        """Connections that came before the terms; None: the terms are here."""
        self._control = control
        self._offered: frozenset[str] = frozenset()
        self._asked: dict[str, asyncio.TimerHandle] = {}
        self._guests = 0
        self._tally = Tally()
        self._niceness = GivingWay(os.getpid(), CELL_SHARE)

    async def run(self) -> int:
        """Serve until SIGTERM, or until the supervisor is gone.  Returns the exit status."""
        loop = self._loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in stop_signals():
            loop.add_signal_handler(number, stop.set)
        configuration, policy = self._configuration, self._policy
        self._dispatcher = Dispatcher(configuration, metrics=self._tally)
        trusts = TrustFiles()
        self._agents = AgentServer(self._dispatcher, policy, trusts, None, configuration.limits, loop=loop)
        self._local = LocalSource(self._dispatcher, policy, self._vault, None, configuration, loop=loop)
        self._local.wanted = self._want
        self._dispatcher.members_changed = self._ask_for_those_who_wait
        parts = Parts(policy=policy, agents=self._agents, local=self._local)
        self._renewal = Renewal(parts, configuration, loop=loop)
        self._renewal.renewed = self._renewed
        self._channel = AsyncChannel(self._control, self._told, lambda _: stop.set(), loop=loop, close_fd=os.close)
        pulse = Pulse(loop, PULSE, self._beat)
        idle = Pulse(loop, IDLE_TIME, self._look_if_idle)
        await stop.wait()
        self._dispatcher.stop()
        await asyncio.sleep(0)
        for part in (self._local, self._agents, self._renewal, pulse, idle, self._channel, trusts):
            part.close()
        # What the user has sent may block when it is closed, but for a process that ends.
        return 0

    def _beat(self) -> None:
        self._tell(CellAlive())
        self._niceness.look(self._loop.time())
        for report in self._tally.reports():
            self._tell(report)

    def _tell(self, message: FromCell) -> None:
        self._channel.send(CELL_TO_SUPERVISOR.encode(message))

    def _told(self, data: bytes, fd: int | None) -> None:
        try:
            message = SUPERVISOR_TO_CELL.decode(data)
        except MessageError as error:
            _log.error("a message of the supervisor is not understood", reason=str(error))
            if fd is not None:
                os.close(fd)
            return
        if isinstance(message, Offer):
            self._offered = frozenset(message.groups)
        elif isinstance(message, CellTerms):
            self._renewal.receive(message.part, 0, fd)
        elif fd is not None and self._held is not None:
            self._held.append((message, fd))
        elif fd is not None:
            self._take(message, fd)

    def _take(self, message: Guest | WorkerLink, fd: int) -> None:
        sock = socket.socket(fileno=fd)
        if isinstance(message, WorkerLink):
            self._policy.allow_join(f"user {message.uid}", message.uid, message.groups)
            # Its process is unknown here: its keeper ends it.
            self._agents.listener.adopt(sock, PeerCredentials(0, message.uid, message.uid))
        else:
            self._guests += 1
            server = self._agents if message.listener == "agent" else self._local
            server.listener.adopt(sock, peer_credentials(sock))

    def _renewed(self, state: InForce, has_changed: bool) -> None:
        """Take what has waited for the first terms; at changed ones, ask for workers in place of those that leave."""
        held, self._held = self._held, None
        for message, fd in held or ():
            self._take(message, fd)
        for group in self._dispatcher.groups.values():
            if has_changed and group.members:
                self._tell(WorkerWanted(group.name))

    def _ask_for_those_who_wait(self) -> None:
        for group in list(self._dispatcher.groups.values()):
            if group.open and not group.members and len(group):
                self._want(group.name)

    def _want(self, group: str) -> None:
        """Open a group for which there are agents, and ask for a worker, until one has joined."""
        if group not in self._offered:
            return
        self._dispatcher.expect([group])
        if group not in self._asked:
            self._ask(group)

    def _ask(self, group: str) -> None:
        self._asked.pop(group, None)
        known = self._dispatcher.groups.get(group)
        if known is not None and known.open and not known.members:
            self._tell(WorkerWanted(group))
            self._asked[group] = self._loop.call_later(ASK_AGAIN, self._ask, group)

    def _look_if_idle(self) -> None:
        if self._guests and not self._local.listener.connections and not self._dispatcher.requests:
            self._tell(Idle(self._guests))
