"""A path on which the kernel's PSP can be tested: two netdevsim devices, linked, each in a network namespace.

netdevsim does what a network card with PSP does, but for the cipher: SPIs, keys, versions, rotation and counters.  A
key's first byte is the generation of the device key; what was sent under another one is dropped.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hsframework.dispatcher.namespaces import network_namespace
from hsframework_psp.family import PspFamily
from hsframework_psp.versions import Version
from tests.kernel.machine import debian, load

BUS = Path("/sys/bus/netdevsim")


@dataclass(frozen=True)
class End:
    """One end of the path.  ``namespace``: a name of ``ip netns``."""

    namespace: str
    device: int
    address: str
    address6: str

    def family(self) -> PspFamily:
        """Open the PSP family in this namespace; the caller closes it."""
        with network_namespace(self.namespace):
            return PspFamily()

    def statistics(self) -> dict[str, int]:
        """Return the device's counters."""
        with self.family() as family:
            return family.statistics(self.device)

    def rotate(self) -> None:
        """Rotate the device key."""
        with self.family() as family:
            family.rotate(self.device)

    def enable(self, *versions: Version) -> None:
        """Enable these versions and no other."""
        with self.family() as family:
            family.enable(self.device, frozenset(versions))

    def plain_packets(self) -> int:
        """Count what was sent through the interface without PSP, but for IPv6's own messages (neighbours, groups)."""
        with self.family() as family:
            while True:
                others = family.statistics(self.device)["tx-packets"], self._icmp()
                sent = self._sent()
                if (family.statistics(self.device)["tx-packets"], self._icmp()) == others:
                    return sent - sum(others)

    def _sent(self) -> int:
        (link,) = json.loads(debian("ip", "-n", self.namespace, "-s", "-j", "link", "show", "psp0"))
        sent = link["stats64"]["tx"]
        # A packet that finds the other end's queue full was protected, and is dropped.
        return int(sent["packets"] + sent["dropped"])

    def _icmp(self) -> int:
        with network_namespace(self.namespace):
            lines = Path("/proc/thread-self/net/snmp6").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Icmp6OutMsgs"))


@contextlib.contextmanager
def path() -> Iterator[tuple[End, End]]:
    """Make both ends, every version enabled."""
    load("netdevsim")
    names = ("psp-near", "psp-far")
    with contextlib.ExitStack() as stack:
        for number, name in enumerate(names):
            debian("ip", "netns", "add", name)
            stack.callback(debian, "ip", "netns", "delete", name)
            (BUS / "new_device").write_text(f"{number} 1")
            stack.callback((BUS / "del_device").write_text, str(number))
        ends = tuple(_end(number, name) for number, name in enumerate(names))
        _link(ends)
        _introduce(*ends)
        for end in ends:
            end.enable(*Version)
        yield ends[0], ends[1]


def _end(number: int, name: str) -> End:
    (device,) = os.listdir(BUS.parent.parent / f"devices/netdevsim{number}/net")
    debian("ip", "link", "set", device, "netns", name, "name", "psp0")
    for command in ("link set lo up", "link set psp0 up"):
        debian("ip", "-n", name, *command.split())
    address, address6 = f"198.51.100.{number + 1}", f"2001:db8::{number + 1}"
    debian("ip", "-n", name, "address", "add", f"{address}/24", "dev", "psp0")
    debian("ip", "-n", name, "address", "add", f"{address6}/64", "dev", "psp0", "nodad")
    with network_namespace(name):
        index = socket.if_nametoindex("psp0")
        with PspFamily() as family:
            (facts,) = [facts for facts in family.devices() if index in facts.interfaces]
    return End(name, facts.id, address, address6)


def _link(ends: tuple[End, ...]) -> None:
    described = []
    files = []
    for end in ends:
        with network_namespace(end.namespace):
            index = socket.if_nametoindex("psp0")
        fd = os.open(f"/run/netns/{end.namespace}", os.O_RDONLY)
        files.append(fd)
        described.append(f"{fd}:{index}")
    try:
        (BUS / "link_device").write_text(" ".join(described))
    finally:
        for fd in files:
            os.close(fd)


def _introduce(near: End, far: End) -> None:
    """Give each end the other's link-layer address, so that nothing but the test's own packets is on the way."""
    for one, other in ((near, far), (far, near)):
        (link,) = json.loads(debian("ip", "-n", other.namespace, "-j", "link", "show", "psp0"))
        for address in (other.address, other.address6):
            words = f"neighbour replace {address} lladdr {link['address']} dev psp0 nud permanent"
            debian("ip", "-n", one.namespace, *words.split())


@contextlib.contextmanager
def connection(near: End, far: End, *, ipv6: bool = False) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Open a TCP connection between the two."""
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    with network_namespace(far.namespace):
        listener = socket.create_server((far.address6 if ipv6 else far.address, 0), family=family)
    with contextlib.ExitStack() as stack:
        stack.enter_context(listener)
        with network_namespace(near.namespace):
            client = stack.enter_context(socket.create_connection(listener.getsockname()[:2], timeout=20))
        server = stack.enter_context(listener.accept()[0])
        server.settimeout(20)
        try:
            yield client, server
        finally:
            # Reset: an end whose peer no longer takes anything would send its FIN again and again, and be counted.
            for sock in (client, server):
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
