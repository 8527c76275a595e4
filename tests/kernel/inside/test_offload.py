"""The place where sessions in the kernel are protected, as the kernel names it: in the event, in the metrics, and for
sockets that are not found by their addresses alone.  No network card here takes TLS, so that all of it is software.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hsframework.client import Client, HandshakeOptions
from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.namespaces import network_namespace
from hsframework.dispatcher.offload import Offload, OffloadLookup
from hsframework.interface import Role, Secret
from hsframework.tls.kernel import SOL_TLS, TCP_ULP, TLS_TX
from hsframework_tls13 import ktls
from hsframework_tls13.ciphers import AES_128_GCM
from tests.kernel.consumers import joined_namespace
from tests.kernel.house import ROOT, End, House, house
from tests.kernel.machine import NOBODY, debian, in_a_child
from tests.kernel.requests import Ask, Device, make_requests
from tests.support.running import until

NAME = "server.test"
IFA_F_TENTATIVE = 0x40
SOFTWARE = Offload("software", "software")


def _counters() -> dict[str, int]:
    """Return the counters of begun sessions in /proc/net/tls_stat."""
    lines = (line.split() for line in Path("/proc/net/tls_stat").read_text().splitlines())
    return {name: int(value) for name, value in lines if name in ("TlsTxSw", "TlsRxSw", "TlsTxDevice", "TlsRxDevice")}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def service(more: str = "") -> Iterator[House]:
    credential = ROOT.issue([NAME])
    with house(client=End(credential), server=End(credential), more=more) as running:
        yield running


def _exposed(port: int) -> dict[str, float]:
    """Return the dispatcher's counters of sessions in the kernel, as Prometheus gets them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found = (line.split() for line in lines if line.startswith("hsframework_kernel_sessions_total{"))
    return {name.partition("{")[2].rstrip("}"): float(value) for name, value in found}


def test_kernel_consumers() -> None:
    """Each session's event and the metrics say software, as often as /proc/net/tls_stat counts a session."""
    port = _free_port()
    with service(f'[metrics]\nlisten = "127.0.0.1:{port}"') as running, Device() as device:
        before = _counters()
        assert make_requests(device, 4, 2, Ask(NAME)).served == 4
        grown = {name: value - before[name] for name, value in _counters().items()}
        assert grown == {"TlsTxSw": 4, "TlsRxSw": 4, "TlsTxDevice": 0, "TlsRxDevice": 0}
        running.log.wait(
            "handshake", number=4, status="OK", offload="software", transmit="software", receive="software"
        )
        exposed = until(lambda: (found := _exposed(port)) and found, "the metrics are there")
        assert exposed == {
            'direction="transmit",where="software"': 4.0,
            'direction="receive",where="software"': 4.0,
        }


@pytest.mark.parametrize(("in_kernel", "place"), [(True, "software"), (False, "none")])
def test_consumers_in_user_space(in_kernel: bool, place: str) -> None:
    """A program's session is looked up if it is in the kernel, and is not the kernel's if it is in user space."""
    settings = f"[plugins.tls13]\nkernel-offload = {str(in_kernel).lower()}\n"
    server = HandshakeOptions(role=Role.SERVER, group="tls13", identities=(ROOT.issue([NAME]).identity,), timeout=20)
    client = HandshakeOptions(group="tls13", peer_name=NAME, trust=ROOT.trust(), timeout=20)
    with (
        house(more=settings) as running,
        Client(running.runtime_dir) as ours,
        connected("127.0.0.1") as (near, far),
        ThreadPoolExecutor(1) as pool,
    ):
        other = pool.submit(ours.handshake, far, server)
        assert ours.handshake(near, client).in_kernel == other.result().in_kernel == in_kernel
        running.log.wait("handshake", number=2, group="tls13", status="OK", offload=place)


# One socket


@contextlib.contextmanager
def connected(
    address: str, *, peer: str | None = None, bound_to: bytes | None = None
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Open a connection to an address of ours.  ``bound_to``: the interface to which the client's socket is bound."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listening = socket.create_server((address, 0), family=family, dualstack_ipv6=address == "::")
    with listening as server, socket.socket(family) as near:
        if bound_to is not None:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, bound_to)
        near.settimeout(15)
        port = server.getsockname()[1]
        near.connect(socket.getaddrinfo(peer or address, port, family, socket.SOCK_STREAM)[0][4])
        far, _ = server.accept()
        with far:
            yield near, far


def _plant(sock: socket.socket) -> None:
    secret = Secret(bytes(32))
    ktls.install(sock, Role.CLIENT, AES_128_GCM, secret, secret)


def _found(sock: socket.socket) -> Offload:
    """Return what the dispatcher finds of a session in this socket."""
    lookup, custody = OffloadLookup(), Custody(os.dup(sock.fileno()), os.close)
    try:
        return lookup.of("tlshd", custody, {"in-kernel": True})
    finally:
        custody.release()
        lookup.close()


@pytest.mark.parametrize(
    ("address", "peer"),
    [("127.0.0.1", None), ("::1", None), ("::", "::ffff:127.0.0.1")],
    ids=["IPv4", "IPv6", "IPv4 in IPv6"],
)
def test_addresses(address: str, peer: str | None) -> None:
    """Each family, and IPv4 in a socket of IPv6."""
    with connected(address, peer=peer) as (near, _):
        _plant(near)
        assert _found(near) == SOFTWARE


def test_link_local_and_another_namespace() -> None:
    """A link-local connection is bound to its interface; its other end is in a namespace that we have to enter."""
    with joined_namespace("far", "192.0.2.1", "192.0.2.2") as far:
        until(lambda: _link_local("to-far"), "an address without duplicate detection under way")
        near_address = _link_local("to-far")
        with network_namespace(far):
            until(lambda: _link_local("wire"), "the other")
            server = socket.create_server(("::", 0), family=socket.AF_INET6)
            address = _link_local("wire")
        with server, socket.socket(socket.AF_INET6) as near:
            near.bind((near_address, 0, 0, socket.if_nametoindex("to-far")))
            near.connect((address, server.getsockname()[1], 0, socket.if_nametoindex("to-far")))
            there, _ = server.accept()
            with there:
                for sock in (near, there):
                    _plant(sock)
                    assert _found(sock) == SOFTWARE


def _link_local(device: str) -> str | None:
    """Return the interface's link-local address in the namespace of the thread, once it may be used."""
    for line in Path("/proc/thread-self/net/if_inet6").read_text().splitlines():
        digits, _, _, _, flags, name = line.split()
        if name == device and digits.startswith("fe80") and not int(flags, 16) & IFA_F_TENTATIVE:
            return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
    return None


def test_bound_to_an_interface() -> None:
    """Such a socket is not found by its addresses alone."""
    with connected("127.0.0.1", bound_to=b"lo") as (near, _):
        _plant(near)
        assert _found(near) == SOFTWARE


def test_one_direction() -> None:
    """Each direction has its own answer."""
    with connected("127.0.0.1") as (near, _):
        near.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
        assert _found(near) == Offload("none", "none")
        near.setsockopt(SOL_TLS, TLS_TX, ktls.crypto_info(AES_128_GCM, Secret(bytes(32))))
        assert _found(near) == Offload("software", "none")


def test_no_session() -> None:
    """No session is not taken for one in software."""
    with connected("127.0.0.1") as (near, _):
        found = _found(near)
        assert (found.summary, found.reason) == ("unknown", "the kernel names no TLS in the socket")


def test_a_connection_that_has_ended() -> None:
    """The kernel no longer finds it, which is unknown, with the reason."""
    with connected("127.0.0.1") as (near, far):
        _plant(near)
        for sock in (near, far):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
        custody, lookup = Custody(os.dup(near.fileno()), os.close), OffloadLookup()
        far.close()
        try:
            found = lookup.of("tlshd", custody, {"in-kernel": True})
        finally:
            custody.release()
            lookup.close()
        assert found.summary == "unknown"
        assert found.reason


def test_without_the_right_to_enter() -> None:
    """A socket of another namespace cannot be looked up without CAP_SYS_ADMIN: unknown, and nothing else fails."""
    debian("ip", "netns", "add", "blue")
    debian("ip", "-n", "blue", "link", "set", "lo", "up")
    with contextlib.ExitStack() as stack:
        stack.callback(debian, "ip", "netns", "delete", "blue")
        with network_namespace("blue"):
            near, _ = stack.enter_context(connected("127.0.0.1"))
        _plant(near)
        assert _found(near) == SOFTWARE

        def look() -> None:
            found = _found(near)
            assert (found.summary, bool(found.reason)) == ("unknown", True), found

        in_a_child(look, NOBODY)
