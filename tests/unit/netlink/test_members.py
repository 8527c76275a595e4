"""Members of netlink groups, by recorded answers of the kernel, and the processes that have a socket open."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator

import pytest

from hsframework.errors import MessageError
from hsframework.netlink.holders import Holder, Process, Unnamed, holder_by_port, holders, open_sockets, process
from hsframework.netlink.members import MembersCodec, NetlinkSocket, netlink_sockets
from hsframework.netlink.socket import NetlinkError
from tests.unit.netlink.recorded import SOCK_DIAG, answering

RECORDED = SOCK_DIAG["members"]
GENERIC, ROUTE = 16, 0


def test_the_recorded_members() -> None:
    """tlshd and an unprivileged program, each once though the kernel lists it twice; the kernel's own socket is not."""
    with answering(RECORDED["hex"]) as (diag, far):
        found = netlink_sockets(diag, GENERIC)
        asked = far.recv(100)
    members = {(each.port, each.inode) for each in found if each.in_group(RECORDED["group"])}
    assert members == {(RECORDED[name]["port"], RECORDED[name]["inode"]) for name in ("tlshd", "program")}
    assert not any(each.in_group(RECORDED["group"] + 1) for each in found)
    # struct netlink_diag_req with NDIAG_SHOW_GROUPS, as a dump of SOCK_DIAG_BY_FAMILY
    assert asked == struct.pack("=IHHIIBBHIIII", 36, 20, 0x301, 1, 0, 16, GENERIC, 0, 0, 2, 0, 0)


def _answer(bitmap: bytes) -> bytes:
    body = struct.pack("=BBBBIIIIII", 16, 3, 16, 7, 5, 0, 0, 77, 0, 0)
    groups = struct.pack("=HH", 4 + len(bitmap), 1) + bitmap
    return struct.pack("=IHHII", 16 + len(body) + len(groups), 20, 2, 1, 0) + body + groups


@pytest.mark.parametrize("group", [1, 14, 32, 33, 64, 65, 128])
def test_groups_of_any_number(group: int) -> None:
    """A family's groups have any numbers, and /proc/net/netlink shows the first 32 alone."""
    words = [0, 0]
    words[(group - 1) // 64] = 1 << (group - 1) % 64
    found = MembersCodec().decode(_answer(struct.pack("@2L", *words))).values["socket"]
    assert found == NetlinkSocket(port=5, inode=77, groups=1 << group - 1)
    assert [number for number in range(1, 129) if found.in_group(number)] == [group]


@pytest.mark.parametrize(
    "data",
    [_answer(bytes(5)), _answer(bytes(8))[:40], struct.pack("=IHHII", 16, 21, 0, 1, 0)],
    ids=["half a word", "cut off", "another type"],
)
def test_answers_that_make_no_sense(data: bytes) -> None:
    """MessageError, and never an answer without members."""
    with pytest.raises(MessageError):
        MembersCodec().decode(data)


def test_a_kernel_without_it() -> None:
    """ENOENT says so, and is not taken for an empty answer."""
    refused = struct.pack("=IHHIIi", 36, 2, 0, 1, 0, -errno.ENOENT) + bytes(16)
    with answering(refused.hex()) as (diag, _), pytest.raises(NetlinkError, match="NETLINK_DIAG") as caught:
        netlink_sockets(diag, GENERIC)
    assert caught.value.errno == errno.ENOENT


def test_more_than_are_looked_through() -> None:
    """A family with more sockets than that is an error, and not the answer of a part."""
    with answering(RECORDED["hex"]) as (diag, _), pytest.raises(NetlinkError, match="more than 2") as caught:
        netlink_sockets(diag, GENERIC, most=2)
    assert caught.value.errno == errno.E2BIG


# Processes


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, ROUTE) as made:
        yield made


def inode_of(sock: socket.socket) -> int:
    return os.fstat(sock.fileno()).st_ino


@pytest.mark.parametrize("high", [0, 5 << 22], ids=["the kernel's port", "libnl's port"])
def test_a_port_names_its_process(sock: socket.socket, high: int) -> None:
    """By either convention, and the process's open files prove it."""
    sock.bind((os.getpid() | high, 0))
    found = holder_by_port(inode_of(sock), sock.getsockname()[0])
    assert isinstance(found, Holder)
    assert (found.process.pid, found.process.uid, found.certain) == (os.getpid(), os.geteuid(), True)


def test_a_port_that_names_another(sock: socket.socket) -> None:
    """A process may choose the number of any other, which is not accused where its files are shown."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        sock.bind((other.pid, 0))
        found = holder_by_port(inode_of(sock), other.pid)
        assert isinstance(found, Unnamed)
        assert str(other.pid) in found.reason
        by_files, _ = holders([inode_of(sock)])
        assert [named.pid for named in by_files[inode_of(sock)]] == [os.getpid()]
        other.communicate()


def test_a_port_that_names_nobody(sock: socket.socket) -> None:
    """The kernel chooses such a port for each further socket of a process."""
    sock.bind((0xFFFFE000, 0))
    assert isinstance(holder_by_port(inode_of(sock), 0xFFFFE000), Unnamed)


def test_files_that_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of a port is named all the same, without certainty; a look through all is incomplete."""

    def not_shown(path: str) -> list[str]:
        if path != "/proc":
            raise PermissionError
        return [str(os.getpid())]

    monkeypatch.setattr(os, "listdir", not_shown)
    found = holder_by_port(1, os.getpid())
    assert isinstance(found, Holder)
    assert (found.process.pid, found.certain) == (os.getpid(), False)
    assert holders([1]) == ({1: []}, False)


def test_every_process_that_has_it(sock: socket.socket) -> None:
    """A socket that was inherited has several."""
    with subprocess.Popen(["sleep", "60"], pass_fds=[sock.fileno()]) as heir:
        found, _ = holders([inode_of(sock)])
        heir.kill()
    assert {named.pid for named in found[inode_of(sock)]} == {os.getpid(), heir.pid}


def test_a_process_that_is_gone() -> None:
    """None, from each."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert process(ended.pid) is None
    assert open_sockets(ended.pid) is None


def test_a_name_that_a_process_gave_itself() -> None:
    """A character that would break a line or a terminal is not passed on."""
    code = "open('/proc/self/comm', 'w').write('tls\\x1bhd'); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as renamed:
        assert renamed.stdout is not None
        renamed.stdout.readline()
        assert process(renamed.pid) == Process(renamed.pid, os.geteuid(), "tls?hd")
        renamed.communicate(b"\n")
