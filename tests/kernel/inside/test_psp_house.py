"""PSP through the whole service on the real kernel: one `hsframework run`, consumers in two other namespaces.

The agent is in neither and has no capability: it works through netlink sockets that the dispatcher hands it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from hsframework.client import Client, HandshakeOptions, Session
from hsframework.dispatcher.namespaces import netlink_beside, network_namespace
from hsframework.errors import HandshakeError, RequestRefused
from hsframework.interface import Role
from hsframework.netlink.socket import NETLINK_GENERIC, NetlinkError, RequestSocket
from hsframework_psp.family import PspFamily
from hsframework_psp.renewal import RenewalState
from hsframework_psp.search import DeviceSearch
from hsframework_psp.streams import PspStream
from hsframework_psp.versions import Version
from tests.kernel.house import House
from tests.kernel.machine import NOBODY, in_a_child
from tests.kernel.psp import End, connection, path
from tests.support.running import short_folder
from tests.unit.psp.handshakes import AS_CLIENT
from tests.unit.tls13.support import CLIENT, ROOT, SERVER

MIB = os.urandom(1 << 20)
NEAR = HandshakeOptions(
    group="psp",
    peer_name="server.example",
    identities=(CLIENT,),
    trust=ROOT.trust(),
    attributes={"device": "kernel"},
    timeout=20,
)
FAR = HandshakeOptions(
    group="psp",
    role=Role.SERVER,
    identities=(SERVER,),
    trust=ROOT.trust(),
    attributes={"device": "kernel"},
    timeout=20,
)


@pytest.fixture(scope="module")
def ends() -> Iterator[tuple[End, End]]:
    with path() as both:
        yield both


@contextlib.contextmanager
def service(*namespaces: str) -> Iterator[Path]:
    """Run `hsframework run` for these namespaces beside its own, and yield the folder of its socket."""
    with short_folder() as folder:
        words = [word for name in namespaces for word in ("--netns", name)]
        running = House(folder, "", words, None)
        try:
            running.wait_for_agents(protocol="psp")
            yield folder / "run"
        finally:
            try:
                running.stop()
            finally:
                running.clean_up()


@pytest.fixture(scope="module")
def runtime(ends: tuple[End, End]) -> Iterator[Path]:
    with service(*(end.namespace for end in ends)) as folder:
        yield folder


def both(client: Client, sockets: tuple[socket.socket, socket.socket]) -> tuple[Session, Session]:
    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(client.handshake, sockets[1], FAR)
        return client.handshake(sockets[0], NEAR), serving.result()


def stream(end: End, session: Session) -> PspStream:
    """Return the stream as a consumer in the socket's namespace has it."""
    with network_namespace(end.namespace):
        made = session.stream()
    assert isinstance(made, PspStream)
    return made


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_a_session(ends: tuple[End, End], runtime: Path, ipv6: bool) -> None:
    """Established, a mebibyte over, counted by the device as PSP; a rotation is heard."""
    with Client(runtime) as client, connection(*ends, ipv6=ipv6) as sockets:
        near, far = both(client, sockets)
        assert near.in_kernel
        assert far.in_kernel
        before = ends[1].statistics()["rx-bytes"]
        with stream(ends[0], near) as one, stream(ends[1], far) as two, ThreadPoolExecutor(1) as pool:
            sending = pool.submit(one.send, MIB)
            received = bytearray()
            while len(received) < len(MIB):
                received += two.receive()
            sending.result()
            assert received == MIB
            assert ends[1].statistics()["rx-bytes"] - before > len(MIB)
            assert two.renewal.state is RenewalState.FRESH
            ends[1].rotate()
            assert two.renewal.wait(20) is RenewalState.DUE


def test_an_agent_that_may_open_no_netlink_socket(ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch) -> None:
    """As under systemd (RestrictAddressFamilies=AF_UNIX, PrivateNetwork=): what it needs comes from the dispatcher."""

    def refuse(family: int) -> socket.socket:
        raise NetlinkError("not allowed", errno=errno.EAFNOSUPPORT)

    near, far = ends
    with monkeypatch.context() as patched:
        patched.setattr("hsframework.netlink.socket._open", refuse)
        search = DeviceSearch()

    async def ask(family: int) -> socket.socket:
        return netlink_beside(sockets[0].fileno(), family, [near.namespace])

    with connection(near, far) as sockets, network_namespace(near.namespace), contextlib.ExitStack() as stack:
        request = replace(AS_CLIENT, open_netlink=ask)
        device = asyncio.run(search.find(request, sockets[0], list(Version), stack))
        assert device.versions == frozenset(Version)


def test_a_namespace_that_is_not_served(ends: tuple[End, End]) -> None:
    """The dispatcher opens nothing in a namespace that it was not given: EOPNOTSUPP, and what to do."""
    with service() as folder, Client(folder) as client, connection(*ends) as sockets:
        with pytest.raises(HandshakeError, match="--netns") as refused:
            client.handshake(sockets[0], NEAR)
        assert refused.value.errno == errno.EOPNOTSUPP


def test_what_is_handed_to_an_agent_gives_it_no_right(ends: tuple[End, End]) -> None:
    """Through a netlink socket that root opened, a process without capabilities can ask and not administrate."""
    near, far = ends

    def try_to_rotate() -> None:
        with pytest.raises(NetlinkError) as refused:
            PspFamily(adopted).rotate(near.device)
        assert refused.value.errno == errno.EPERM

    with connection(near, far) as sockets:
        with pytest.raises(RequestRefused):
            netlink_beside(sockets[0].fileno(), NETLINK_GENERIC, [far.namespace])
        handed = netlink_beside(sockets[0].fileno(), NETLINK_GENERIC, [near.namespace])
    adopted = RequestSocket.adopt(handed)
    rotations = near.statistics()["key-rotations"]
    in_a_child(try_to_rotate, NOBODY)
    assert near.statistics()["key-rotations"] == rotations
    adopted.close()
