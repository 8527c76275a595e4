"""Cells in one process: what a user's cell is given, and how it asks for workers."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hsframework.configuration.rules import Rule
from hsframework.configuration.settings import (
    AllowRule,
    Configuration,
    IdentitySettings,
    KernelSettings,
    Profile,
    PskSettings,
    TrustSettings,
)
from hsframework.dispatcher.cell import ASK_AGAIN, Cell, give_up_privileges, restrict
from hsframework.dispatcher.keys.vault import Vault
from hsframework.dispatcher.policy import Policy
from hsframework.dispatcher.terms import CONFIGURATION, CREDENTIALS, InForce, Terms
from hsframework.errors import ConfigurationError
from hsframework.local.control import (
    CELL_TO_SUPERVISOR,
    SUPERVISOR_TO_CELL,
    CellAlive,
    CellTerms,
    Counted,
    FromCell,
    Guest,
    Offer,
    ToCell,
    WorkerLink,
    WorkerWanted,
)
from hsframework.local.control_form import Message
from hsframework.netlink.messages import NLM_F_ACK
from tests.support.house import REQUEST, Peer, connected_pair

NOWHERE = Path("/nowhere")
WHOLE = Configuration(
    identities={name: IdentitySettings(certificate=NOWHERE, private_key=NOWHERE) for name in ("web", "mail")},
    psks={name: PskSettings(file=NOWHERE) for name in ("web", "mail")},
    trust={name: TrustSettings(bundle=(NOWHERE,)) for name in ("red", "blue")},
    profiles={
        "web": Profile(identities=("web",), psks=("web",), trust="red"),
        "mail": Profile(identities=("mail",), psks=("mail",), trust="blue"),
    },
    allow=(AllowRule(users=("1000",), profiles=("web",)), AllowRule(users=("1001",), profiles=("web", "mail"))),
    kernel=KernelSettings(client_profile="mail"),
    rule=(Rule(profile="mail"), Rule(profile="web")),
    places={"identities.mail": "hsframework.toml:7"},
)


def test_a_cell_has_the_credentials_of_its_user() -> None:
    """And no others: of each kind those alone that his profiles name; strangers' has none."""
    kept = restrict(WHOLE, {"web"})
    assert (set(kept.profiles), set(kept.identities), set(kept.psks), set(kept.trust)) == (
        {"web"},
        {"web"},
        {"web"},
        {"red"},
    )
    assert [rule.profiles for rule in kept.allow] == [("web",), ("web",)]
    assert (kept.rule, kept.places) == ((), {})
    nothing = restrict(WHOLE, ())
    assert not {*nothing.profiles, *nothing.identities, *nothing.psks, *nothing.trust}
    assert [rule.users for rule in nothing.allow] == [("1000",), ("1001",)]


@pytest.mark.parametrize("call", ["setgroups", "setresgid", "setresuid"])
def test_a_number_that_cannot_be_taken(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container with one user: the call is named, and the cell does not go on as root."""
    monkeypatch.setattr("hsframework.dispatcher.cell.clear_bounding_set", lambda: None)
    for name in ("setgroups", "setresgid", "setresuid"):
        monkeypatch.setattr(os, name, _refuses if name == call else lambda *_: None)
    with pytest.raises(ConfigurationError, match=f"^{call}: .* user 61056"):
        give_up_privileges(61_056)


def _refuses(*_: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


class Supervisor:
    """The other end of a cell's control socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        sock.setblocking(False)

    def tell(self, message: ToCell, fd: int | None = None) -> None:
        data = SUPERVISOR_TO_CELL.encode(message)
        socket.send_fds(self.socket, [data], [] if fd is None else [fd])

    def renew(self, configuration: Configuration) -> None:
        """Send other terms, of a user without credentials."""
        for part, fd in zip((CONFIGURATION, CREDENTIALS), Terms(InForce(configuration), {}).frozen(), strict=True):
            self.tell(CellTerms(part), fd)
            os.close(fd)

    async def all_until(self, kind: type[Message]) -> list[FromCell]:
        """Return the messages before the next of a kind."""
        found: list[FromCell] = []
        while not isinstance(message := await self.hears(Message), kind):
            found.append(message)
        return found

    async def hears(self, kind: type[Message]) -> FromCell:
        """Wait for the next message of a kind."""
        async with asyncio.timeout(10):
            while True:
                data = await asyncio.get_running_loop().sock_recv(self.socket, 1 << 16)
                message = CELL_TO_SUPERVISOR.decode(data)
                if isinstance(message, kind):
                    return message

    def connect(self, message: Guest | WorkerLink) -> Peer:
        """Give the cell one end of a connection, and return the other's."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.tell(message, theirs.fileno())
        return Peer(ours)


@asynccontextmanager
async def cell() -> AsyncIterator[Supervisor]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    configuration = Configuration()
    made = Cell(configuration, Policy(configuration), Vault(configuration), theirs)
    running = asyncio.create_task(made.run())
    supervisor = Supervisor(ours)
    try:
        yield supervisor
    finally:
        ours.close()
        assert await running == 0
        # A process would end now, and so close what its threads have not closed yet.
        made._dispatcher.close()


async def test_a_worker_is_asked_for_when_it_is_needed() -> None:
    """With the first request of an offered group, and again until it is there; the request waits for it meanwhile."""
    async with cell() as supervisor:
        await supervisor.hears(CellAlive)
        supervisor.tell(Offer(("toy",)))
        consumer = supervisor.connect(Guest("consumer"))
        with connected_pair() as (ours, _), connected_pair() as (refused, _):
            consumer.send("submit", REQUEST, ours.fileno())
            for _ in range(2):
                assert await supervisor.hears(WorkerWanted) == WorkerWanted("toy")
            consumer.send("submit", {**REQUEST, "group": "nobody"}, refused.fileno())
            assert (await consumer.expect("error")).error == errno.ESRCH
            worker = supervisor.connect(WorkerLink(60_900, ("toy",)))
            assert (await worker.ask("join", {"group": ["other"]})).error == errno.EACCES
            assert (await worker.ask("join", {"group": ["toy"], "protocol": "toy", "agent": "a"})).error == 0
            request = await worker.take_message()
            worker.send("done", {"request-id": request.values["request-id"], "status": errno.EACCES})
            assert (await consumer.expect("result")).values["status"] == errno.EACCES
        counted = await supervisor.hears(Counted)
        assert isinstance(counted, Counted)
        for peer in (consumer, worker):
            peer.close()
    assert ASK_AGAIN < 1


async def test_terms_that_change_nothing_bring_no_worker() -> None:
    """One is asked for in place of one that leaves, which is when the terms have changed; it is told so then."""
    async with cell() as supervisor:
        supervisor.tell(Offer(("toy",)))
        worker = supervisor.connect(WorkerLink(60_900, ("toy",)))
        joined = {"group": ["toy"], "protocol": "toy", "agent": "a", "renews": True}
        assert (await worker.ask("join", joined)).error == 0
        supervisor.renew(Configuration())
        supervisor.renew(Configuration(profiles={"other": Profile()}))
        await worker.expect("renew")
        assert await supervisor.hears(WorkerWanted) == WorkerWanted("toy")
        assert await supervisor.all_until(CellAlive) == []
        worker.close()


async def test_what_is_no_message_is_passed_over() -> None:
    """Its descriptor is closed, and the next message counts."""
    async with cell() as supervisor:
        with socket.socket() as passed:
            socket.send_fds(supervisor.socket, [b"nonsense"], [passed.fileno()])
        consumer = supervisor.connect(Guest("consumer"))
        assert (await consumer.ask("cancel", {"request-id": 1})).error == 0
        consumer.close()


async def test_an_agent_that_comes_to_a_cell_is_refused() -> None:
    """A stranger that connects to the agents' socket, which the cell of strangers gets."""
    async with cell() as supervisor:
        agent = supervisor.connect(Guest("agent"))
        agent.send("accept", {"group": "toy"}, flags=NLM_F_ACK)
        assert (await agent.expect("error")).error == errno.EPERM
        agent.close()
