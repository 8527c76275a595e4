"""The kernel as a source of requests, by a form of the service that a test plays: what no kernel does when asked."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from hsframework.configuration.settings import Configuration, IdentitySettings, Limits, Profile, Timeouts, TrustSettings
from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.keys import vault as vault_module
from hsframework.dispatcher.keys.keyring import KernelKeys
from hsframework.dispatcher.keys.vault import Vault
from hsframework.dispatcher.planted import session_planted
from hsframework.dispatcher.requests import success
from hsframework.dispatcher.requests.request import Outcome, PendingRequest, no_key
from hsframework.dispatcher.sources.kernel.request import KernelOrigin, KernelRequests
from hsframework.dispatcher.sources.kernel.wire import Accepted, Ending
from hsframework.errors import ConfigurationError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Trust
from hsframework.netlink.messages import NLM_F_ACK
from hsframework.netlink.socket import has_family
from hsframework.process import keyctl
from hsframework.process.kept import Kept
from hsframework.testing.certificates import Authority, Credential
from tests.support.house import ABLE, Peer, connected_pair, house
from tests.support.played_kernel import CLIENT, GROUP, GROUPS, NFS, OTHER, PSK_CLIENT, Keys, Stage, stage


async def test_sockets_are_open_while_they_are_needed() -> None:
    """From the first agent's coming to the last one's going, and until what was taken has been completed."""
    with connected_pair() as (ours, _):
        async with stage() as played:
            assert not played.service.sockets()
            agent = await played.home.agent(GROUP)
            assert played.service.members == {GROUP}
            played.submit(ours)
            request = await agent.take_message(GROUP)
            await played.leaves(agent)
            assert not played.service.members
            assert played.service.sockets() == 1
            agent.send("done", {"request-id": request.values["request-id"], "status": errno.EACCES})
            await played.until(lambda: not played.service.sockets())
            assert played.service.told == [(errno.EACCES, [])]


async def test_the_service_vanishes_and_comes_again() -> None:
    """An ACCEPT whose family is gone closes the sockets and asks for another look, which joins once it is back."""
    with connected_pair() as (ours, _):
        async with stage() as played:
            agent = await played.home.agent(GROUP)
            played.service.there = False
            os.write(played.wires[-1].writer, b"!")
            await played.until(lambda: played.missing)
            assert not played.service.sockets()
            played.source.look()
            assert (played.missing, played.service.sockets()) == (2, 0)
            played.service.there = True
            played.source.look()
            assert played.service.members == {GROUP}
            played.submit(ours)
            request = await agent.take_message(GROUP)
            agent.send("done", {"request-id": request.values["request-id"], "status": errno.EACCES})
            await played.until(lambda: played.service.told)


async def test_the_service_vanishes_while_accept_pauses() -> None:
    """The pause ends with the sockets: whoever comes next is taken at once.  Each loss is logged once."""
    with connected_pair() as (ours, _), capture_logs() as logs:
        async with stage() as played:
            await played.home.agent(GROUP)
            for lost in (1, 2):
                played.service.not_accepted[GROUP] = errno.EMFILE
                accepts = played.service.accepts
                played.announce()
                await played.until(lambda accepts=accepts: played.service.accepts > accepts)  # type: ignore[misc]
                played.service.there = False
                played.source.group_closed(GROUP)
                played.source.group_opened(GROUP)
                assert not played.service.sockets()
                reasons = [entry for entry in logs if entry["event"] == "the kernel's requests cannot be taken"]
                assert len(reasons) == lost
                played.service.not_accepted.clear()
                played.service.there = True
                played.ask(ours, {})
                played.source.look()
                assert not played.service.queues[GROUP]


async def test_a_request_is_given_back() -> None:
    """One that an earlier dispatcher took is to be made again: its connection is ended first, no socket stays open."""
    with connected_pair() as (ours, far):
        async with stage() as played:
            custody = Custody(os.dup(ours.fileno()), played.home.dispatcher.close_fd)
            played.source.restored(custody, {}, None)
            assert played.service.told == [(errno.ETIMEDOUT, [])]
            assert not played.service.sockets()
            far.settimeout(5)
            assert far.recv(1) == b""


@pytest.mark.parametrize(
    ("status", "planted", "values", "told"),
    [
        (0, True, {"in-kernel": True}, 0),
        (0, False, {"in-kernel": True}, errno.ETIMEDOUT),
        (0, None, {"in-kernel": True}, 0),
        (0, None, {}, errno.ETIMEDOUT),
        (0, True, {}, errno.ETIMEDOUT),
        (0, True, {"in-kernel": True, "group": "another"}, errno.ETIMEDOUT),
        (errno.EACCES, True, {}, errno.EACCES),
        (errno.EIO, True, {}, errno.ETIMEDOUT),
    ],
    ids=[
        "a session",
        "no session",
        "a mechanism that cannot be asked",
        "a mechanism with nothing in the kernel",
        "nothing in the kernel",
        "a group that the source has not",
        "a failure of the peer's",
        "a fault of the service",
    ],
)
async def test_a_request_is_given_back_with_its_outcome(
    monkeypatch: pytest.MonkeyPatch, status: int, planted: bool | None, values: dict[str, Any], told: int
) -> None:
    """A success counts if that of a request in hand would: the session is in the socket, or no one can say so.

    A failure of the peer's is told, one of the service is passing.
    """
    monkeypatch.setattr(success, "session_planted", lambda group, custody: planted)
    with connected_pair() as (ours, far):
        async with stage() as played:
            custody = Custody(os.dup(ours.fileno()), played.home.dispatcher.close_fd)
            group = values.pop("group", GROUP)
            played.source.restored(custody, {"group": group}, Outcome(status, values))
            assert played.service.told == [(told, [])]
            far.setblocking(False)
            if not told:
                with pytest.raises(BlockingIOError):
                    far.recv(1)
            else:
                assert far.recv(1) == b""


def reset(sock: socket.socket) -> None:
    """Reset a connection."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.parametrize("restored", [False, True], ids=["in hand", "given back"])
@pytest.mark.parametrize(
    ("end", "told"),
    [(reset, errno.ETIMEDOUT), (lambda far: far.shutdown(socket.SHUT_WR), 0)],
    ids=["reset", "the peer sends no more"],
)
async def test_a_success_whose_connection_has_ended(
    monkeypatch: pytest.MonkeyPatch, end: Callable[[socket.socket], None], told: int, restored: bool
) -> None:
    """NFS's client would wait for the end that it has missed, for ever: it is told to try again.

    One that only the peer has ended may have data for the consumer, who is told the success.
    """
    monkeypatch.setattr(success, "session_planted", lambda group, custody: True)
    with connected_pair() as (ours, far):
        async with stage() as played:
            if restored:
                custody = Custody(os.dup(ours.fileno()), played.home.dispatcher.close_fd)
                end(far)
                played.source.restored(custody, {"group": GROUP}, Outcome(0, {"in-kernel": True}))
                await played.until(lambda: played.service.told)
            else:
                agent = await played.home.agent(GROUP)
                played.submit(ours)
                request = await agent.take_message(GROUP)
                end(far)
                agent.send("done", {"request-id": request.values["request-id"], "status": 0, "in-kernel": True})
                await played.until(lambda: played.service.told)
            assert played.service.told == [(told, [])]


@pytest.mark.parametrize("ended", [False, True], ids=["it has its time", "the dispatcher ends"])
async def test_a_failure_whose_connection_has_been_reset(ended: bool) -> None:
    """The kernel handles the reset first: DONE comes by a timer, or with the dispatcher's end, and once."""
    with connected_pair() as (ours, far):
        async with stage() as played:
            agent = await played.home.agent(GROUP)
            played.submit(ours)
            request = await agent.take_message(GROUP)
            reset(far)
            agent.send("done", {"request-id": request.values["request-id"], "status": errno.EACCES})
            await played.until(lambda: not played.home.dispatcher.requests)
            assert played.service.told == []
            if ended:
                played.source.close()
            await played.until(lambda: played.service.told)
            await played.leaves(agent)
            await played.until(lambda: not played.service.sockets())
        assert played.service.told == [(errno.EACCES, [])]


async def test_the_service_vanishes_with_a_request_in_flight() -> None:
    """Its DONE can be told to nobody: the request is closed all the same, and its socket let go of."""
    with connected_pair() as (ours, _):
        async with stage() as played:
            agent = await played.home.agent(GROUP)
            played.submit(ours)
            request = await agent.take_message(GROUP)
            played.service.there = False
            os.write(played.wires[-1].writer, b"!")
            await played.until(lambda: played.missing)
            agent.send("done", {"request-id": request.values["request-id"], "status": errno.EACCES})
            await played.until(lambda: not played.home.dispatcher.requests)
            assert not played.service.told


async def test_a_done_that_is_refused() -> None:
    """A refused DONE is the end of the request for us, and the next one is served."""
    with connected_pair() as (ours, _):
        async with stage() as played:
            agent = await played.home.agent(GROUP)
            for refuses in (True, False):
                played.service.refuses_done = refuses
                played.submit(ours)
                request = await agent.take_message(GROUP)
                agent.send("done", {"request-id": request.values["request-id"], "status": errno.ECONNRESET})
                await played.until(lambda: not played.home.dispatcher.requests)
            assert played.service.told == [(errno.ETIMEDOUT, [])]


async def test_a_done_that_meets_a_shortage_of_memory() -> None:
    """It is sent again until the kernel has taken it: nobody else would complete the request."""
    with connected_pair() as (ours, _):
        async with stage() as played:
            agent = await played.home.agent(GROUP)
            played.submit(ours)
            request = await agent.take_message(GROUP)
            played.service.short_of_memory = 3
            agent.send("done", {"request-id": request.values["request-id"], "status": errno.EACCES})
            await played.until(lambda: played.service.told == [(errno.EACCES, [])])
            assert not played.service.short_of_memory


@pytest.mark.parametrize("ends", [False, True], ids=["it goes on", "the dispatcher ends"])
async def test_a_done_is_acknowledged_once_the_kernel_has_it(ends: bool) -> None:
    """Until then the agent keeps the request, for the case that this dispatcher dies; so too one that gives DONE up."""
    with connected_pair() as (ours, _):
        async with stage() as played:
            agent = await played.home.agent(GROUP)
            played.submit(ours)
            request = await agent.take_message(GROUP)
            played.service.short_of_memory = 1_000_000
            done = {"request-id": request.values["request-id"], "status": errno.EACCES}
            number = agent.send("done", done, flags=NLM_F_ACK)
            await played.until(lambda: not played.home.dispatcher.requests)
            # What comes back for a later message shows that nothing was said of the earlier one.
            later = agent.send("psk-lookup", {"request-id": 0, "identity": b"x"})
            assert (await agent.expect("error")).sequence == later
            if ends:
                played.source.close()
                later = agent.send("psk-lookup", {"request-id": 0, "identity": b"x"})
                assert (await agent.expect("error")).sequence == later
                return
            played.service.short_of_memory = 0
            answer = await agent.expect("error")
            assert (answer.sequence, answer.error) == (number, 0)
            assert played.service.told == [(errno.EACCES, [])]


async def test_a_shortage_is_nothing_that_a_mount_gives_up_for() -> None:
    """A handshake that failed for want of memory is told as ETIMEDOUT, which NFS tries again."""
    with connected_pair() as (ours, _):
        async with stage() as played:
            agent = await played.home.agent(GROUP)
            played.submit(ours)
            request = await agent.take_message(GROUP)
            agent.send("done", {"request-id": request.values["request-id"], "status": errno.ENOMEM})
            await played.until(lambda: played.service.told == [(errno.ETIMEDOUT, [])])


@pytest.mark.parametrize("at", ["identity", "read", "members", "describe"])
def test_keys_in_a_shortage_of_memory(monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """ENOMEM, and not ENOKEY, for which nvme-tcp gives its controller up; a key that is gone is ENOKEY as ever."""
    monkeypatch.setattr(keyctl, "process_keyring", lambda: 9)
    monkeypatch.setattr(keyctl, "KeyTable", lambda: None)
    monkeypatch.setattr(keyctl, "unlink", lambda key, ring: None)
    keys = KernelKeys()
    keys._keyrings.append(1)
    call: Callable[[], object] = partial(keys.find_psk, b"wanted")
    if at == "identity":
        call = partial(keys.identity, 7, 8)
    wanted = keyctl.KeyDescription("psk", 0, 0, 0, "wanted")
    monkeypatch.setattr(keyctl, "members", lambda ring: [7])
    monkeypatch.setattr(keyctl, "describe", lambda serial: wanted)
    monkeypatch.setattr(keyctl, "read", lambda serial: b"k" * 32)
    failing = "read" if at == "identity" else at

    def fails(number: int) -> Callable[[int], object]:
        def fail(_: int) -> object:
            raise OSError(number, "no")

        return fail

    monkeypatch.setattr(keyctl, failing, fails(errno.ENOMEM))
    with pytest.raises(HandshakeFailed) as caught:
        call()
    assert (caught.value.failure, caught.value.errno) == (Failure.SHORTAGE, errno.ENOMEM)
    monkeypatch.setattr(keyctl, failing, fails(errno.EKEYREVOKED))
    if at == "identity":
        with pytest.raises(HandshakeFailed) as caught:
            call()
        assert caught.value.failure is Failure.NO_KEY
    else:
        assert call() is None


async def _served(played: Stage, agent: Peer, sock: socket.socket) -> None:
    """Check that a request of :data:`GROUP` goes to the agent, and its answer back."""
    played.service.told.clear()
    played.submit(sock)
    request = await agent.take_message(GROUP)
    agent.send("done", {"request-id": request.values["request-id"], "status": errno.EACCES})
    await played.until(lambda: played.service.told == [(errno.EACCES, [])])


@pytest.mark.parametrize("at", ["join", "accept"])
async def test_a_group_that_cannot_be_had(at: str) -> None:
    """A number that the service does not know harms its own group alone, which is looked for again."""
    with connected_pair() as (ours, _):
        async with stage() as played:
            if at == "join":
                played.service.not_joined.add(OTHER)
            else:
                played.service.not_accepted[OTHER] = errno.EINVAL
            with capture_logs() as logs:
                agent = await played.home.agent(OTHER, GROUP)
                assert played.missing
                played.source.look()
            assert [entry["event"] for entry in logs].count("the kernel's requests of a group cannot be taken") == 1
            assert played.service.members == {GROUP}
            await _served(played, agent, ours)
            played.service.not_joined.clear()
            played.service.not_accepted.clear()
            played.source.look()
            assert played.service.members == {OTHER, GROUP}


async def test_accepts_that_fail_again_and_again() -> None:
    """In several groups at once: one pause at a time for all of them, so that they do not multiply."""
    async with stage() as played:
        await played.home.agent(*GROUPS)
        played.service.not_accepted = dict.fromkeys(GROUPS, errno.EMFILE)
        loop = asyncio.get_running_loop()
        pauses: set[asyncio.TimerHandle] = set()
        most = 0
        call_later = loop.call_later

        def counted(delay: float, call: Callable[..., None], *values: Any) -> asyncio.TimerHandle:
            def over() -> None:
                pauses.discard(timer)
                call(*values)

            nonlocal most
            timer = call_later(0.001, over)
            pauses.add(timer)
            most = max(most, len(pauses))
            return timer

        loop.call_later = counted  # type: ignore[assignment,method-assign]
        for _ in range(10):
            before = played.service.accepts
            played.announce()
            await played.until(lambda before=before: played.service.accepts > before)  # type: ignore[misc]
        assert most == 1


@pytest.mark.parametrize("since", ["before", "by leaving"])
async def test_a_group_is_left_while_accept_pauses(since: str) -> None:
    """A request that waits in it is refused once ACCEPT works again, and then the sockets are closed."""
    with connected_pair() as (ours, _):
        async with stage() as played:
            agent = await played.home.agent(GROUP)
            played.service.not_accepted[GROUP] = errno.EMFILE
            if since == "before":
                played.submit(ours)
                await played.until(lambda: played.service.accepts > 1)
            else:
                played.ask(ours)
            await played.leaves(agent)
            assert not played.service.members
            played.service.not_accepted.clear()
            await played.until(lambda: not played.service.sockets())
            assert played.service.told == [(errno.ETIMEDOUT, [])]


async def test_a_group_is_left_at_the_limit_of_lent_sockets() -> None:
    """ACCEPT hands over no more while one is in hand: what waits is refused as soon as that one is done."""
    with connected_pair() as (ours, _), connected_pair() as (other, _):
        async with stage() as played:
            agent = await played.home.agent(GROUP)
            played.submit(ours)
            request = await agent.take_message(GROUP)
            played.service.withheld.add(GROUP)
            played.submit(other)
            await agent.ask("leave", {"group": [GROUP]})
            assert not played.service.told
            played.service.withheld.clear()
            agent.send("done", {"request-id": request.values["request-id"], "status": errno.EACCES})
            await played.until(lambda: not played.service.sockets())
            assert played.service.told == [(errno.EACCES, []), (errno.ETIMEDOUT, [])]


async def test_a_group_that_was_left_cannot_be_joined_again() -> None:
    """A request that waited in it is served by the agents that came back, once ACCEPT works again."""
    with connected_pair() as (ours, _):
        async with stage() as played:
            agent = await played.home.agent(GROUP)
            played.service.not_accepted[GROUP] = errno.EMFILE
            played.ask(ours)
            await played.leaves(agent)
            played.service.not_joined.add(GROUP)
            await agent.ask("join", {"group": [GROUP], "protocol": "toy", "agent": "by hand", **ABLE})
            assert not played.service.members
            played.service.not_accepted.clear()
            request = await agent.take_message(GROUP)
            agent.send("done", {"request-id": request.values["request-id"], "status": errno.EACCES})
            await played.until(lambda: played.service.told == [(errno.EACCES, [])])
            played.service.not_joined.clear()
            played.source.look()
            assert played.service.members == {GROUP}


async def test_a_source_retires_with_a_request_in_flight() -> None:
    """Its group is left; the request is completed, and only then is the source over, for its owner to close."""
    with connected_pair() as (ours, _), capture_logs() as logs:
        async with stage() as played:
            agent = await played.home.agent(GROUP)
            played.submit(ours)
            request = await agent.take_message(GROUP)
            played.source.retire()
            assert not played.service.members
            assert not played.source.over
            agent.send("done", {"request-id": request.values["request-id"], "status": errno.EACCES})
            await played.until(lambda: played.source.over)
            assert not played.service.sockets()
            assert played.service.told == [(errno.EACCES, [])]
            await played.until(lambda: not played.home.dispatcher.requests)
            played.source.close()
            assert played.source.name not in played.home.dispatcher.sources
    assert not [entry for entry in logs if entry["event"] == "a fault in the dispatcher"]


async def test_agents_for_other_sockets() -> None:
    """A request whose kind of socket no agent serves fails with ETIMEDOUT: ESRCH would say that nobody listens."""
    with connected_pair() as (ours, _):
        async with stage() as played:
            await played.home.agent(GROUP, **{"socket-protocol": [socket.IPPROTO_UDP]})
            played.submit(ours)
            await played.until(lambda: played.service.told)
            assert played.service.told == [(errno.ETIMEDOUT, [])]


async def test_a_group_is_left_by_a_full_dispatcher() -> None:
    """To refuse what waits in the kernel's queue takes no room."""
    with connected_pair() as (ours, _), connected_pair() as (other, _):
        async with stage(limits=Limits(per_source=1)) as played:
            agent = await played.home.agent(GROUP)
            played.submit(ours)
            await agent.take_message(GROUP)
            played.submit(other)
            await played.leaves(agent)
            assert played.service.told == [(errno.ETIMEDOUT, [])]


async def test_accept_brings_no_socket() -> None:
    """Another kind of file is closed, and the next request is served."""
    with connected_pair() as (ours, _):
        async with stage() as played:
            agent = await played.home.agent(GROUP)
            reader, writer = os.pipe()
            os.close(writer)
            played.service.queues[GROUP].append(Accepted({**PSK_CLIENT, "sockfd": reader}))
            await _served(played, agent, ours)


async def test_pre_shared_keys_need_no_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without a bundle of authorities serves NVMe; only a request with certificates is refused there."""

    def none() -> None:
        raise ConfigurationError("no bundle")

    monkeypatch.setattr(vault_module, "system_trust", none)

    with connected_pair() as (ours, _):
        async with stage() as played:
            agent = await played.home.agent(GROUP)
            played.submit(ours, CLIENT)
            await played.until(lambda: played.service.told)
            assert played.service.told == [(ConfigurationError("").errno, [])]
            played.submit(ours, PSK_CLIENT)
            request = await agent.take_message(GROUP)
            assert [psk["identity"] for psk in request.values["psk"]] == [b"key 7"]
            assert "trust-id" not in request.values


def test_the_systems_trust_is_read_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not by the first request, for which no file may be opened."""
    read = [Trust((b"an authority",))]
    monkeypatch.setattr(vault_module, "system_trust", read.pop)
    keys = Keys()
    KernelRequests(Vault(Configuration()), cast("KernelKeys", keys), Configuration())
    assert not read
    assert keys.practised == [b"an authority"]


def _with_a_certificate(folder: Path, credential: Credential, *roles: str) -> dict[str, Any]:
    """Return settings: a profile for the client with trust, and for these roles with the certificate."""
    files = credential.write(folder)
    return {
        "identities": {"own": IdentitySettings(certificate=files.certificate, private_key=files.private_key)},
        "trust": {"own": TrustSettings(bundle=(files.ca,))},
        "profiles": {"kernel-client": Profile(trust="own")} | {role: Profile(identities=("own",)) for role in roles},
    }


@pytest.mark.parametrize(("auth_mode", "given"), [(1, 0), (2, 0), (3, 1)], ids=["nobody", "psk", "x509"])
async def test_private_keys_are_for_whoever_needs_them(tmp_path: Path, auth_mode: int, given: int) -> None:
    """A client that is to stay anonymous, or has a pre-shared key, is not handed the profile's certificate."""
    settings = _with_a_certificate(tmp_path, Authority("Root").issue(["client.test"]), "kernel-client")

    with connected_pair() as (ours, _):
        async with stage(**settings) as played:
            agent = await played.home.agent(GROUP)
            played.submit(ours, {**PSK_CLIENT, "auth-mode": auth_mode})
            request = await agent.take_message(GROUP)
            assert len(request.values.get("identity", ())) == given


def test_certificates_are_practised_at_start(tmp_path: Path) -> None:
    """Those of both roles' profiles, so that what the kernel needs for their like is loaded."""
    root = Authority("Root")
    credential = root.issue(["server.test"])
    configuration = Configuration(**_with_a_certificate(tmp_path, credential, "kernel-server"))
    keys = Keys()
    KernelRequests(Vault(configuration), cast("KernelKeys", keys), configuration)
    assert sorted(keys.practised) == sorted([root.credential.certificate, credential.certificate])


@pytest.mark.parametrize(
    "values",
    [{}, {"message-type": 3, "auth-mode": 1}, {"message-type": 1, "auth-mode": 9}, {**PSK_CLIENT, "handshake-type": 1}],
    ids=str,
)
async def test_what_is_not_known_is_refused(values: dict[str, Any]) -> None:
    """EOPNOTSUPP: a role, a way to authenticate, a handshake that is not the first; the keyring is let go of."""
    with connected_pair() as (ours, _):
        async with stage() as played:
            await played.home.agent(GROUP)
            played.submit(ours, {**values, "keyring": 5})
            await played.until(lambda: played.service.told)
            assert played.service.told == [(errno.EOPNOTSUPP, [])]
            assert not played.keys.held


@pytest.mark.parametrize(("asked", "given"), [(None, 0), (3, 3), (7, 7), (8, 7)])
async def test_urgencies(asked: int | None, given: int) -> None:
    """A request's urgency is the agents' queue's; one that is out of range is the highest."""
    with connected_pair() as (ours, _):
        async with stage() as played:
            agent = await played.home.agent(GROUP)
            played.submit(ours, PSK_CLIENT if asked is None else {**PSK_CLIENT, "urgency": asked})
            await agent.take_message(GROUP)
            (request,) = played.home.dispatcher.requests.values()
            assert request.submission.urgency == given


async def test_a_name_that_no_message_can_hold() -> None:
    """A string of the kernel need not be UTF-8; a request that no agent can be handed is EIO at once."""
    with connected_pair() as (ours, _):
        async with stage() as played:
            agent = await played.home.agent(GROUP)
            played.submit(ours, {**PSK_CLIENT, "peername": "\udcff", "keyring": 5})
            await played.until(lambda: played.service.told)
            assert played.service.told == [(errno.EIO, [])]
            assert not played.keys.held
            assert agent.inbox.empty()


@pytest.mark.parametrize(("asked", "told"), [({}, None), ({"urgency": 0}, None), ({"urgency": 9}, 7)], ids=str)
async def test_what_the_agent_gets_of_a_kernel_consumer(asked: dict[str, Any], told: int | None) -> None:
    """A client's name, the group, where it came from, and an urgency within the range; keys by their bytes."""
    with connected_pair() as (ours, _):
        async with stage() as played:
            agent = await played.home.agent(GROUP)
            played.submit(ours, {**PSK_CLIENT, "peername": "server.example", **asked})
            values = (await agent.take_message(GROUP)).values
    assert (values["peername"], values["group"], values["source"]) == ("server.example", GROUP, "played")
    assert values["kernel-consumer"] is True
    assert values.get("urgency") == told
    assert [psk["key"].reveal() for psk in values["psk"]] == [b"k" * 32]
    assert not {"user", "profile"} & set(values)


@pytest.mark.parametrize(("status", "told"), [(0, b"session"), (errno.EACCES, b"")])
async def test_attributes_of_a_mechanism(status: int, told: bytes) -> None:
    """Go to the agent as they came, and a success's session to DONE, which is sent in the dialect of its ACCEPT."""
    with connected_pair() as (ours, _):
        async with stage() as played:
            agent = await played.home.agent(OTHER)
            played.submit(ours, PSK_CLIENT, OTHER, mechanism=b"own", dialect="dialect")
            request = await agent.take_message(OTHER)
            assert request.values["attributes"] == b"own"
            outcome = {"status": status, "in-kernel": True, "session": b"session"}
            agent.send("done", {"request-id": request.values["request-id"], **outcome})
            await played.until(lambda: played.service.endings)
            assert played.service.endings == [Ending(status, (), told, "dialect")]


async def test_a_request_that_is_refused_keeps_its_dialect() -> None:
    """And so does one that an earlier dispatcher took: its agent gives the dialect back."""
    with connected_pair() as (ours, _):
        async with stage() as played:
            await played.home.agent(GROUP)
            played.submit(ours, {}, dialect="dialect")
            await played.until(lambda: played.service.endings)
            custody = Custody(os.dup(ours.fileno()), played.home.dispatcher.close_fd)
            played.source.restored(custody, {"dialect": "dialect"}, None)
            assert played.service.endings == [
                Ending(status, dialect="dialect") for status in (errno.EOPNOTSUPP, errno.ETIMEDOUT)
            ]


async def test_sessions_that_can_be_asked_for() -> None:
    """A plain socket has no session, and one of UDP never; of a group that we do not know, nothing can be said."""
    near, far = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with connected_pair() as (ours, _), near, far:
        far.bind(("127.0.0.1", 0))
        near.connect(far.getsockname())
        async with house() as home:
            tcp = Custody(os.dup(ours.fileno()), home.dispatcher.close_fd)
            udp = Custody(os.dup(near.fileno()), home.dispatcher.close_fd)
            assert [session_planted(group, tcp) for group in ("tlshd", "psp", "new")] == [False, False, None]
            assert [session_planted(group, udp) for group in ("tlshd", "psp", "new")] == [False, False, None]
            tcp.release()
            udp.release()


def test_which_families_there_are() -> None:
    """Netlink's routing family is in every kernel; a number beyond all is in none."""
    assert has_family(0)
    assert not has_family(31)


class Copies:
    """Calls of a keeper of copies."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def put(self, name: str, fd: int) -> None:
        self.names.append(f"put {name}")

    def remove(self, name: str) -> None:
        self.names.append(f"remove {name}")


async def test_the_member_is_kept_for_a_successor() -> None:
    """While a group is joined another process has a copy of the member; a dispatcher that ends leaves it there."""
    copies = Copies()
    kept = Kept(copies=copies)
    async with stage(kept=kept) as played:
        agent = await played.home.agent(GROUP)
        assert copies.names[-1] == "put played"
        await played.leaves(agent)
        await played.until(lambda: not played.service.sockets())
        assert copies.names[-1] == "remove played"
        await agent.ask("join", {"group": [GROUP], "protocol": "toy", "agent": "again"})
        assert copies.names[-1] == "put played"
        kept.freeze()
    assert copies.names[-1] == "put played"


async def test_what_a_predecessor_had_joined() -> None:
    """Its groups are open from the start, for the time that an agent takes to come, and requests of it are served."""
    with connected_pair() as (ours, _):
        reader, writer = os.pipe()
        kept = Kept({"played": reader})
        async with stage(kept=kept, timeouts=Timeouts(agent_restart=60)) as played:
            played.service.members.add(GROUP)
            played.ask(ours)
            assert played.source.held() == [GROUP]
            played.home.dispatcher.expect([GROUP])
            assert played.home.dispatcher.groups[GROUP].open
            agent = await played.home.agent(GROUP)
            request = await agent.take_message(GROUP)
            agent.send("done", {"request-id": request.values["request-id"], "status": errno.EACCES})
            await played.until(lambda: played.service.told == [(errno.EACCES, [])])
        os.close(writer)


async def test_a_predecessor_whose_agents_do_not_come() -> None:
    """Its groups are left after the grace period: then the kernel knows that nobody listens."""
    with connected_pair() as (ours, _):
        reader, writer = os.pipe()
        async with stage(kept=Kept({"played": reader})) as played:
            played.service.members.add(GROUP)
            played.home.dispatcher.expect(played.source.held())
            played.ask(ours)
            await played.until(lambda: not played.service.sockets())
            assert played.service.members == set()
        os.close(writer)


@pytest.mark.parametrize("keyring", [None, NFS, 5], ids=["none", ".nfs", "another"])
@pytest.mark.parametrize("role", [1, 2], ids=["client", "server"])
async def test_the_protocol_of_nfs_is_asked_of_nfs_alone(tmp_path: Path, keyring: int | None, role: int) -> None:
    """DRBD asks on two sockets at once, with a keyring of its own and certificates, and speaks no sunrpc."""
    credential = Authority("Root").issue(["host.test"])
    settings = _with_a_certificate(tmp_path, credential, "kernel-client", "kernel-server")
    asked = {"message-type": role, "auth-mode": 3, "peername": "host.test"}
    with connected_pair() as (data, _), connected_pair() as (control, _):
        async with stage(**settings) as played:
            agent = await played.home.agent(GROUP)
            for sock in (data, control):
                played.submit(sock, asked if keyring is None else {**asked, "keyring": keyring})
            requests = [await agent.take_message(GROUP) for _ in range(2)]
            for request in requests:
                assert request.values.get("alpn", []) == ([] if keyring == 5 else ["sunrpc"])
                agent.send("done", {"request-id": request.values["request-id"], "status": errno.EACCES})
            await played.until(lambda: len(played.service.told) == 2)
            assert not played.keys.held


@pytest.mark.parametrize(("serves", "status"), [(True, errno.EDQUOT), (False, 0)])
def test_a_servers_peer_that_no_key_can_name_is_refused(serves: bool, status: int) -> None:
    """For the kernel's server a peer without a key would be one that has shown no certificate."""

    class NoRoom(Keys):
        def add_certificate(self, der: bytes) -> None:
            return None

    requests = KernelRequests(Vault(Configuration()), cast("KernelKeys", NoRoom()), Configuration())
    origin = KernelOrigin(None, {}, serves=serves)
    request = SimpleNamespace(origin=origin, submission=SimpleNamespace(psk_lookup=no_key))
    with requests.ending(cast("PendingRequest", request), Outcome(0, {"remote-certificate": [b"leaf"]})) as ending:
        assert (ending.status, ending.peers) == (status, ())


@pytest.mark.parametrize("role", [1, 2])
async def test_the_role_of_a_request_is_kept(role: int) -> None:
    """A server's peer needs a name, and names a key that is looked up; a client's does neither."""
    with connected_pair() as (ours, _):
        async with stage() as played:
            await played.home.agent(GROUP)
            played.submit(ours, {**PSK_CLIENT, "message-type": role})
            await played.until(lambda: played.home.dispatcher.requests)
            (request,) = played.home.dispatcher.requests.values()
            assert isinstance(request.origin, KernelOrigin)
            assert request.origin.serves is (role == 2)
            assert (request.submission.psk_lookup is no_key) is (role == 1)
