"""The kernel's family ``psp`` and its device, with the kernel played; tests/kernel asks a real one."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hsframework.interface import Secret
from hsframework.netlink.control import Family
from hsframework.netlink.socket import NetlinkError, RequestSocket
from hsframework.testing.network import tcp_pair
from hsframework_psp import family as module
from hsframework_psp.devices import DeviceRefused, PlainDataWaits
from hsframework_psp.family import KernelDeviceFacts, NoPsp, PspFamily
from hsframework_psp.kernel_device import COMPLAINTS, KernelDevice
from hsframework_psp.keys import Grant, Key
from hsframework_psp.messages import Carrier
from hsframework_psp.versions import Version

DEVICE = 7
GCM, GCM_256 = Version.AES_GCM_128, Version.AES_GCM_256
OURS, THEIRS = b"o" * 32, b"t" * 32


class Kernel:
    """The family, played.  ``answers``: by operation, values or an error; ``asked``: what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, dict[str, Any] | NetlinkError] = {
            "rx-assoc": {"dev-id": DEVICE, "rx-key": {"key": Secret(OURS), "spi": 5}},
            "get-stats": {"dev-id": DEVICE, "key-rotations": number(3), "rx-bad": number(1), "tx-error": number(2)},
        }
        self.devices: list[dict[str, Any]] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.closed = 0

    def request(self, codec: Any, operation: str, values: dict[str, Any], *, acknowledge: bool) -> list[Any]:
        assert acknowledge
        # The real codec: what the kernel would not understand fails here.
        codec.encode(operation, values, sequence=1, flags=5)
        self.asked.append((operation, values))
        answer = self.answers.get(operation, {})
        if isinstance(answer, NetlinkError):
            raise answer
        return [SimpleNamespace(values=answer)] if answer else []

    def dump(self, codec: Any, operation: str, values: Mapping[str, Any]) -> list[Any]:
        assert (operation, values) == ("dev-get", {})
        return [SimpleNamespace(values=device) for device in self.devices]

    def close(self) -> None:
        self.closed += 1


def number(value: int) -> bytes:
    """Return a counter as the kernel has it."""
    return value.to_bytes(8, sys.byteorder)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """A kernel that has the family."""
    monkeypatch.setattr(module, "find_family", lambda *_: Family("psp", 33, {"mgmt": 1, "use": 2}))
    return Kernel()


@pytest.fixture
def family(kernel: Kernel) -> PspFamily:
    """The family of that kernel."""
    return PspFamily(cast(RequestSocket, kernel))


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    """A connected socket."""
    near, far = tcp_pair()
    with near, far:
        yield near


def test_a_kernel_without_psp(monkeypatch: pytest.MonkeyPatch) -> None:
    """EOPNOTSUPP, which says what it takes; the netlink socket is closed, as it is after any other error."""
    for answer, kind in ((None, NoPsp), (NetlinkError("lost", errno=errno.EIO), NetlinkError)):

        def find(*_: object, answer: NetlinkError | None = answer) -> None:
            if answer is not None:
                raise answer

        monkeypatch.setattr(module, "find_family", find)
        kernel = Kernel()
        with pytest.raises(NetlinkError) as refused:
            PspFamily(cast(RequestSocket, kernel))
        assert type(refused.value) is kind
        assert kernel.closed == 1


def test_devices_and_their_interfaces(kernel: Kernel, family: PspFamily) -> None:
    """Its own where it is in this namespace, and the associated ones of this namespace; versions by their masks."""
    kernel.devices = [
        {"id": 1, "ifindex": 4, "psp-versions-cap": 0b1011, "psp-versions-ena": 0b0010},
        {"id": 2, "ifindex": 9, "by-association": True, "assoc-list": [{"ifindex": 5}, {"ifindex": 6, "nsid": 0}]},
        {"id": 3, "ifindex": 8, "assoc-list": [{"ifindex": 7, "nsid": -1}, {"ifindex": 1, "nsid": 3}]},
    ]
    everything = frozenset((GCM, GCM_256, Version.AES_GMAC_256))
    assert family.devices() == [
        KernelDeviceFacts(1, frozenset((4,)), everything, frozenset((GCM_256,))),
        KernelDeviceFacts(2, frozenset((5,)), frozenset(), frozenset()),
        KernelDeviceFacts(3, frozenset((8, 7)), frozenset(), frozenset()),
    ]


def test_requests_to_a_device(kernel: Kernel, family: PspFamily) -> None:
    """Versions as a mask, rotation, and its counters by the kernel's names."""
    family.enable(DEVICE, frozenset((GCM, Version.AES_GMAC_128)))
    family.rotate(DEVICE)
    assert kernel.asked == [
        ("dev-set", {"id": DEVICE, "psp-versions-ena": 0b0101}),
        ("key-rotate", {"id": DEVICE}),
    ]
    assert family.statistics(DEVICE) == {"key-rotations": 3, "rx-bad": 1, "tx-error": 2}
    with family:
        within = kernel.closed
    assert (within, kernel.closed) == (0, 1)


@pytest.mark.parametrize(("version", "size"), [(GCM, 16), (GCM_256, 32)])
def test_an_rx_association(kernel: Kernel, family: PspFamily, version: Version, size: int) -> None:
    """Its grant has the SPI, and as many bytes of the key as the version has."""
    assert family.associate_rx(DEVICE, version, 12) == Grant(5, Key(OURS[:size]))
    assert kernel.asked == [("rx-assoc", {"dev-id": DEVICE, "version": int(version), "sock-fd": 12})]


@pytest.mark.parametrize(
    "keys",
    [{}, {"spi": 5}, {"key": Secret(OURS)}, {"key": Secret(OURS), "spi": 0}, {"key": Secret(b"short"), "spi": 5}],
)
def test_an_rx_association_without_a_key(kernel: Kernel, family: PspFamily, keys: dict[str, Any]) -> None:
    """No key, none of the version's size, or no SPI: EIO."""
    kernel.answers["rx-assoc"] = {"dev-id": DEVICE, "rx-key": keys}
    with pytest.raises(NetlinkError, match="has no key") as refused:
        family.associate_rx(DEVICE, GCM, 12)
    assert refused.value.errno == errno.EIO


def test_a_tx_association(kernel: Kernel, family: PspFamily) -> None:
    """It is made under the peer's SPI and key, for the socket."""
    family.associate_tx(DEVICE, GCM_256, Grant(9, Key(THEIRS)), 12)
    ((operation, values),) = kernel.asked
    keys = values.pop("tx-key")
    assert (operation, values) == ("tx-assoc", {"dev-id": DEVICE, "version": int(GCM_256), "sock-fd": 12})
    assert (keys["key"].reveal(), keys["spi"]) == (THEIRS, 9)


def test_notices_of_rotations(family: PspFamily, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket in the group ``use``; one that cannot join is closed."""

    class Notices:
        fails = False

        def __init__(self, protocol: int) -> None:
            self.protocol, self.closed = protocol, False
            made.append(self)

        def join(self, group: int) -> None:
            self.group = group
            if self.fails:
                raise NetlinkError("no", errno=errno.EPERM)

        def close(self) -> None:
            self.closed = True

    made: list[Notices] = []
    monkeypatch.setattr(module, "NotificationSocket", Notices)
    notices: Any = family.rotation_notices()
    assert (notices.protocol, notices.group, notices.closed) == (16, 2, False)
    Notices.fails = True
    with pytest.raises(NetlinkError, match="no"):
        family.rotation_notices()
    assert made[-1].closed


def device(family: PspFamily, sock: socket.socket) -> KernelDevice:
    """Return the device for a socket."""
    return KernelDevice(family, KernelDeviceFacts(DEVICE, frozenset(), frozenset(Version), frozenset((GCM,))), sock)


def test_an_association_from_grant_to_parameters(kernel: Kernel, family: PspFamily, sock: socket.socket) -> None:
    """Counters are read first, then Rx is made, then Tx under the peer's grant; the consumer learns both SPIs."""
    made = device(family, sock)
    assert (made.versions, made.carrier) == (frozenset((GCM,)), Carrier.CONNECTION)
    association = made.associate(GCM)
    assert [operation for operation, _ in kernel.asked] == ["get-stats", "rx-assoc"]
    assert kernel.asked[1][1]["sock-fd"] == sock.fileno()
    assert association.grant == Grant(5, Key(OURS[:16]))
    assert association.parameters()["tx-spi"] == 0
    association.switch(Grant(9, Key(THEIRS[:16])))
    operation, values = kernel.asked[2]
    assert (operation, values["dev-id"], values["version"], values["sock-fd"]) == (
        "tx-assoc",
        DEVICE,
        int(GCM),
        sock.fileno(),
    )
    assert association.parameters() == {
        "carrier": int(Carrier.CONNECTION),
        "version": int(GCM),
        "device-id": DEVICE,
        "rotations": 3,
        "rx-spi": 5,
        "tx-spi": 9,
    }


@pytest.mark.parametrize("operation", ["get-stats", "rx-assoc"])
def test_a_device_that_refuses(kernel: Kernel, family: PspFamily, sock: socket.socket, operation: str) -> None:
    """The kernel's words are in the refusal."""
    kernel.answers[operation] = NetlinkError("out of keys", errno=errno.ENOSPC)
    with pytest.raises(DeviceRefused, match="the Rx association: out of keys"):
        device(family, sock).associate(GCM)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (NetlinkError("device or resource busy", errno=errno.EBUSY), PlainDataWaits),
        (NetlinkError("Tx key already set", errno=errno.EBUSY), DeviceRefused),
        (NetlinkError("no such device", errno=errno.ENODEV), DeviceRefused),
    ],
)
def test_a_switch_that_is_refused(
    kernel: Kernel, family: PspFamily, sock: socket.socket, error: NetlinkError, kind: type[Exception]
) -> None:
    """Plain data that waits is told apart from an association of somebody else's; no SPI is claimed."""
    association = device(family, sock).associate(GCM)
    kernel.answers["tx-assoc"] = error
    with pytest.raises(kind):
        association.switch(Grant(9, Key(THEIRS[:16])))
    assert association.parameters()["tx-spi"] == 0


@pytest.mark.parametrize("name", COMPLAINTS)
def test_each_complaint_of_the_device(kernel: Kernel, family: PspFamily, sock: socket.socket, name: str) -> None:
    """Its number since the association was made."""
    kernel.answers["get-stats"] = {"dev-id": DEVICE, name: number(4)}
    association = device(family, sock).associate(GCM)
    assert association.complaints() == ""
    kernel.answers["get-stats"] = {"dev-id": DEVICE, name: number(6), "rx-packets": number(99)}
    assert association.complaints() == f"{name} 2"
    assert {"stale-events", "rx-auth-fail", "rx-error", "rx-bad", "tx-error"} == set(COMPLAINTS)
