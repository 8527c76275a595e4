"""Sessions that were made: noted, forgotten when they are closed, reviewed at a reload, kept for a successor."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from hsframework.configuration.settings import Configuration, KernelSettings, Profile, TrustSettings
from hsframework.dispatcher.keys.vault import Vault
from hsframework.dispatcher.requests.asked import Asked, Consumer
from hsframework.dispatcher.requests.request import Outcome
from hsframework.dispatcher.sessions import book as module, kernel, verdicts
from hsframework.dispatcher.sessions.book import Book, Session
from hsframework.dispatcher.sessions.sessions import Sessions
from hsframework.interface import AuthMode, Role
from hsframework.netlink.members import NETLINK_SOCK_DIAG
from hsframework.netlink.socket import NetlinkError, RequestSocket
from hsframework.netlink.tcp_table import TcpSocket, can_end_sockets, connected_sockets
from hsframework.process.kept import SESSIONS, Kept
from hsframework.testing.certificates import Authority, to_pem
from tests.support.house import connected_pair
from tests.unit.dispatcher.played import stage
from tests.unit.dispatcher.sessions import session

ROOT = Authority("Root")
ALICE, BOB = (ROOT.issue([f"{name}.example"]) for name in ("alice", "bob"))
CLIENT = Asked(role=Role.CLIENT, auth_mode=AuthMode.X509, consumer=Consumer(uid=0, process=1))


class Kernel:
    """The kernel's side, played: sockets that are open, and those that were ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open: set[bytes] = set()
        self.ended: list[bytes] = []
        self.problem = ""
        monkeypatch.setattr(kernel, "refusal", lambda: self.problem)
        monkeypatch.setattr(kernel, "tables", lambda names: [self._table(name) for name in names])
        monkeypatch.setattr(kernel, "end", self._end)

    def _table(self, name: str) -> kernel.Table:
        sockets = {cookie: TcpSocket(cookie, ("::1", 1), ("::1", 2)) for cookie in self.open}
        return kernel.Table(name, time.time() + 1, sockets, with_tls=len(sockets))

    def _end(self, namespace: str, cookies: list[bytes]) -> dict[bytes, str]:
        found = {cookie: self.problem or (kernel.ENDED if cookie in self.open else kernel.GONE) for cookie in cookies}
        self.ended += [cookie for cookie in cookies if found[cookie] == kernel.ENDED]
        return found


@pytest.fixture
def played_kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def terms(folder: Path, mode: str, admit: tuple[str, ...] | None = None) -> tuple[Vault, Configuration]:
    """Return terms by which the kernel's clients are admitted."""
    (folder / "ca.pem").write_bytes(to_pem(ROOT.anchor))
    configuration = Configuration(
        trust={"ours": TrustSettings(bundle=(folder / "ca.pem",))},
        profiles={"exports": Profile(trust="ours", admit=admit)},
        kernel=KernelSettings(server_profile="exports"),
        end_sessions=mode,
    )
    return Vault(configuration), configuration


def opened(played: Kernel, *made: Session) -> dict[bytes, Session]:
    played.open |= {each.cookie for each in made}
    return {each.cookie: each for each in made}


def of(credential: Any) -> Session:
    return session(certificates=(*credential.chain, ROOT.anchor), peer_identity=credential.chain[0].hex()[:8])


async def settled(sessions: Sessions) -> None:
    while sessions._tasks:
        await asyncio.gather(*sessions._tasks)


def made(folder: Path, mode: str, kept: Kept | None = None) -> Sessions:
    return Sessions(*terms(folder, mode), kept or Kept(), loop=asyncio.get_running_loop())


@pytest.mark.parametrize(
    ("mode", "ended", "known", "results", "said"),
    [
        ("on", 1, 1, {"ended": 1}, "a session is ended: its peer is out"),
        ("dry-run", 0, 2, {"dry-run": 1}, "a session would be ended: its peer is out"),
        ("off", 0, 2, {}, None),
    ],
)
async def test_a_peer_that_is_out(
    tmp_path: Path, played_kernel: Kernel, mode: str, ended: int, known: int, results: dict[str, int], said: str | None
) -> None:
    """After a reload its session is ended, or named, or left alone, as configured; the other peer's stays."""
    sessions = made(tmp_path, mode)
    alice, bob = of(ALICE), of(BOB)
    sessions.book._sessions = opened(played_kernel, alice, bob)
    with capture_logs() as logs:
        sessions.renew(*terms(tmp_path, mode, ("dns:alice.example",)))
        await settled(sessions)
    assert played_kernel.ended == [bob.cookie][:ended]
    assert (len(sessions.book), dict(sessions.results)) == (known, results)
    assert [(it["event"], it["peer_identity"]) for it in logs] == ([(said, bob.peer_identity)] if said else [])
    assert alice.cookie in {each.cookie for each in sessions.book.sessions()}
    sessions.close()


async def test_each_session_counts_once(tmp_path: Path, played_kernel: Kernel) -> None:
    """A peer that is out is counted once, however many reloads find it; what is forgotten is no longer remembered."""
    sessions = made(tmp_path, "dry-run")
    bob = of(BOB)
    sessions.book._sessions = opened(played_kernel, of(ALICE), bob)
    for _ in range(3):
        sessions.renew(*terms(tmp_path, "dry-run", ("dns:alice.example",)))
        await settled(sessions)
    assert dict(sessions.results) == {"dry-run": 1}
    sessions.book.forget(bob.cookie)
    sessions.renew(*terms(tmp_path, "dry-run", ("dns:alice.example",)))
    await settled(sessions)
    assert (dict(sessions.results), sessions._counted) == ({"dry-run": 1}, set())
    sessions.close()


async def test_a_kernel_that_refuses(tmp_path: Path, played_kernel: Kernel) -> None:
    """It is said at the start and in the report, and of each session; the session stays known."""
    played_kernel.problem = "the kernel ends no sockets of others"
    with capture_logs() as logs:
        sessions = made(tmp_path, "on")
        sessions.book._sessions = opened(played_kernel, of(BOB))
        sessions.renew(*terms(tmp_path, "on", ("dns:alice.example",)))
        await settled(sessions)
    assert [it["event"] for it in logs] == [
        "sessions of peers that are out cannot be ended",
        "a session cannot be ended, and its peer is out",
    ]
    assert sessions.report() == {
        "known": 1,
        "forgotten": 0,
        "end-sessions": "on",
        "cannot-end": played_kernel.problem,
        "out": {"failed": 1},
    }
    sessions.close()


async def test_a_handshake_that_was_under_way(tmp_path: Path, played_kernel: Kernel) -> None:
    """It ends by the terms of its begin; its session is reviewed at once by those in force, and only then."""
    sessions = made(tmp_path, "on")
    async with stage() as played:
        sessions.renew(*terms(tmp_path, "on", ("dns:alice.example",)))
        bob = of(BOB)
        sessions.book._sessions = opened(played_kernel, bob)
        played.request.taken_at -= 1000
        sessions.note(played.request, {})
        await settled(sessions)
        assert played_kernel.ended == [bob.cookie]
        sessions.book._sessions = opened(played_kernel, of(BOB))
        played.request.taken_at += 2000
        sessions.note(played.request, {})
        assert not sessions._tasks
    sessions.close()


async def test_a_fault_in_a_review(tmp_path: Path, played_kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged, ends no session, and the next review is made."""
    sessions = made(tmp_path, "on")
    sessions.book._sessions = opened(played_kernel, of(BOB))
    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(verdicts, "Verdicts", lambda *_: 1 / 0)
        sessions.renew(*terms(tmp_path, "on", ("dns:alice.example",)))
        await settled(sessions)
    assert [it["event"] for it in logs] == ["sessions could not be reviewed"]
    assert not played_kernel.ended
    sessions.renew(*terms(tmp_path, "on", ("dns:alice.example",)))
    await settled(sessions)
    assert len(played_kernel.ended) == 1
    sessions.close()


class Copies:
    """The process that keeps copies, played."""

    def __init__(self) -> None:
        self.fds: dict[str, int] = {}

    def put(self, name: str, fd: int) -> None:
        self.fds[name] = os.dup(fd)

    def remove(self, name: str) -> None:
        if name in self.fds:
            os.close(self.fds.pop(name))


async def test_a_successor_knows_the_peers(tmp_path: Path, played_kernel: Kernel) -> None:
    """It has all that its predecessor knew, and reviews it by its own terms."""
    copies = Copies()
    sessions = made(tmp_path, "on", Kept(copies=copies))
    alice, bob = of(ALICE), of(BOB)
    sessions.book._sessions = opened(played_kernel, alice, bob)
    sessions.book.changes += 1
    await sessions._keep()
    sessions.close()
    after = Sessions(*terms(tmp_path, "on", ("dns:alice.example",)), Kept(copies.fds), loop=asyncio.get_running_loop())
    await settled(after)
    assert after.book.sessions() == [alice]
    assert played_kernel.ended == [bob.cookie]
    after.close()


@pytest.mark.parametrize("snapshot", [b"nonsense", None])
async def test_a_successor_without_a_snapshot(tmp_path: Path, played_kernel: Kernel, snapshot: bytes | None) -> None:
    """The number of sockets with kTLS is shown, and that they are not known: nothing is invented, and nothing ended."""
    passed: dict[str, int] = {}
    if snapshot is not None:
        passed[SESSIONS] = os.memfd_create("snapshot")
        os.write(passed[SESSIONS], snapshot)
    sessions = made(tmp_path, "on", Kept(passed))
    played_kernel.open.add(b"8 bytes.")
    answers: list[list[str]] = []
    sessions.show(answers.append)
    await settled(sessions)
    (line,) = answers[0]
    assert json.loads(line) == {"known": False, "namespace": ".", "number": 1}
    sessions.renew(*terms(tmp_path, "on", ("dns:alice.example",)))
    await settled(sessions)
    assert not played_kernel.ended
    sessions.close()


async def test_sessions_that_are_shown(tmp_path: Path, played_kernel: Kernel) -> None:
    """Those that are open, with all that is known; one that is closed is not shown, and then forgotten."""
    sessions = made(tmp_path, "off")
    alice, gone = of(ALICE), of(BOB)
    sessions.book._sessions = opened(played_kernel, alice, gone)
    played_kernel.open.discard(gone.cookie)
    for known in (2, 1):
        answers: list[list[str]] = []
        sessions.show(answers.append)
        await settled(sessions)
        (found,) = map(json.loads, answers[0])
        assert found["peer-identity"] == alice.peer_identity
        assert (found["known"], found["role"], found["profile"]) == (True, "server", "exports")
        assert len(sessions.book) == known
    sessions.close()


def noted(asked: Asked | None, values: dict[str, Any], change: Callable[[Any], None] = lambda request: None) -> Book:
    """Return a book in which one request with these values was noted."""
    book = Book()

    async def body() -> None:
        async with stage() as played:
            with connected_pair() as (ours, _):
                request = played.another(ours, asked=asked)
                change(request)
                book.note(request, values)
                played.dispatcher.consumer_gone(request)

    asyncio.run(body())
    return book


def test_what_is_noted() -> None:
    """A session in the kernel, with its peer and its cipher, under the socket's cookie; nothing rules a terminal."""
    tags = [{"name": "cipher", "value": "AES\x1b"}]
    book = noted(CLIENT, {"in-kernel": True, "remote-certificate": [ALICE.certificate], "protocol": "t", "tag": tags})
    (found,) = book.sessions()
    assert (found.peer_identity, found.cipher, found.protocol, found.uid) == ("CN=alice.example", "AES?", "t", 0)
    assert book.get(found.cookie) is found
    assert (found.namespace, len(found.cookie)) == (".", 8)


def test_what_is_not_noted() -> None:
    """A session in user space, a request without facts, a socket that is closed already."""
    assert not len(noted(CLIENT, {}))
    assert not len(noted(None, {"in-kernel": True}))
    assert not len(noted(CLIENT, {"in-kernel": True}, lambda request: request.custody.release()))


def test_the_book_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest session makes room, and is counted."""
    monkeypatch.setattr(module, "MOST", 1)
    book = Book([session(cookie=b"the old.")])

    async def body() -> None:
        async with stage() as played:
            played.request.submission = played.submission.__class__(
                **{name: getattr(played.submission, name) for name in played.submission.__slots__ if name != "asked"},
                asked=CLIENT,
            )
            book.note(played.request, {"in-kernel": True})

    asyncio.run(body())
    assert (len(book), book.crowded, book.get(b"the old.")) == (1, 1, None)


def test_what_is_closed_is_forgotten() -> None:
    """After two tables without it in a row; not by that of another namespace, nor by one from before it was made."""
    book = Book([session(cookie=b"here", made_at=10.0), session(cookie=b"there", namespace="far", made_at=10.0)])
    book.compare(".", [], 11.0)
    book.compare(".", [b"here"], 12.0)
    book.compare(".", [], 13.0)
    assert len(book) == 2, "a table that changes while it is read may leave one out"
    book.compare(".", [], 9.0)
    assert len(book) == 2
    book.compare(".", [], 14.0)
    assert [each.cookie for each in book.sessions()] == [b"there"]


async def test_each_success_is_noted() -> None:
    """The dispatcher tells of those, and of nothing else."""
    for outcome in (Outcome(0, {"session": b"one"}), Outcome.failure(errno.EIO, "no")):
        async with stage() as played:
            found: list[Any] = []
            played.dispatcher.made = lambda *noted: found.append(noted)  # noqa: B023
            request = played.pulled()
            played.dispatcher.done(played.agent, request.id, outcome)
            assert found == ([] if outcome.status else [(request, outcome.values)])


def test_the_kernels_table() -> None:
    """A connection of our own is in it once, by its cookie; a listening socket is not."""
    with connected_pair() as (ours, theirs):
        diag = RequestSocket(NETLINK_SOCK_DIAG)
        try:
            found = {each.cookie: each for each in connected_sockets(diag)}
        finally:
            diag.close()
        for sock in (ours, theirs):
            each = found[sock.getsockopt(socket.SOL_SOCKET, 57, 8)]
            assert (each.local, each.peer) == (sock.getsockname()[:2], sock.getpeername()[:2])


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EPERM, errno.ENOENT])
def test_a_kernel_without_the_end_of_sockets(number: int) -> None:
    """EOPNOTSUPP names the kernel's option, another error is its own text, and ENOENT is a kernel that would."""

    class Refusing:
        def request(self, *_: Any, **__: Any) -> None:
            raise NetlinkError("refused", errno=number)

    found = can_end_sockets(Refusing())  # type: ignore[arg-type]
    expected = {errno.EOPNOTSUPP: "CONFIG_INET_DIAG_DESTROY", errno.EPERM: "refused", errno.ENOENT: ""}[number]
    assert (expected in found) if expected else not found


def test_no_lock_of_a_socket_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """INET_DIAG_INFO would have the kernel wait for the lock of each socket, which its user may hold for ever."""
    asked: list[bytes] = []
    dump = RequestSocket.dump

    def seen(self: RequestSocket, codec: Any, operation: str, values: Mapping[str, Any]) -> Any:
        asked.append(codec.encode(operation, values))
        return dump(self, codec, operation, values)

    monkeypatch.setattr(RequestSocket, "dump", seen)
    diag = RequestSocket(NETLINK_SOCK_DIAG)
    try:
        list(connected_sockets(diag))
    finally:
        diag.close()
    # u8 family, protocol, extensions (struct inet_diag_req_v2), behind a header of 16 bytes
    assert [request[16 + 2] for request in asked] == [0, 0]
