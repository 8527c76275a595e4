"""Other members of the kernel's groups, as ``doctor`` finds and reports them."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from hsframework.cli.commands import doctor
from hsframework.cli.options import members as options
from hsframework.cli.options.members import Members, Other, listening_sockets, told_apart
from hsframework.configuration.settings import Configuration, KernelSettings
from hsframework.dispatcher.sources.kernel.others import FormGroups, Member, NotSeen
from hsframework.netlink.holders import Holder, Process, Unnamed
from hsframework.netlink.members import NetlinkSocket
from hsframework.netlink.socket import NetlinkError

FORM = FormGroups("kernel", 16, {"tlshd": 14})
OURS, TLSHD, PROGRAM, LISTENER = 1, 2, 3, 4
SERVICE, SYSTEMD, C_AGENT = Process(700, 0, "hsframework"), Process(1, 0, "systemd"), Process(812, 0, "tlshd")
SQUATTER = Process(900, 4_000_000_000, "hsframework")


def _member(inode: int) -> Member:
    return Member("kernel", "tlshd", NetlinkSocket(0, inode, 1 << 13))


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[Process]]:
    """The processes that have each socket open; the service has its listener, as the service manager has."""
    having = {OURS: [SERVICE], LISTENER: [SYSTEMD, SERVICE], TLSHD: [C_AGENT], PROGRAM: [SQUATTER]}
    seen = [_member(inode) for inode in (OURS, TLSHD, PROGRAM)]
    monkeypatch.setattr(options, "members", lambda forms, namespace: seen)
    monkeypatch.setattr(options, "listening_sockets", lambda path: {LISTENER})
    monkeypatch.setattr(options, "holders", lambda inodes: ({inode: having[inode] for inode in inodes}, True))
    return having


def test_ours_is_known_by_its_listener(host: dict[int, list[Process]]) -> None:
    """And by no name: a program that calls itself as we do is another's."""
    found = told_apart([FORM], None, Path("/run/hsframework/consumer.sock"))
    assert found == Members(
        1,
        (
            Other(_member(TLSHD), Holder(C_AGENT, certain=True), certain=True),
            Other(_member(PROGRAM), Holder(SQUATTER, certain=True), certain=True),
        ),
    )


def test_a_socket_that_the_service_manager_keeps(host: dict[int, list[Process]]) -> None:
    """It is ours as long as one of those who have it open is."""
    host[OURS] = [SYSTEMD, SERVICE]
    found = told_apart([FORM], None, Path("/run/hsframework/consumer.sock"))
    assert isinstance(found, Members)
    assert found.ours == 1


def test_without_root_nobody_is_accused(monkeypatch: pytest.MonkeyPatch, host: dict[int, list[Process]]) -> None:
    """A member may be ours where the files of processes are not shown."""
    monkeypatch.setattr(options, "holders", lambda inodes: ({inode: [] for inode in inodes}, False))
    monkeypatch.setattr(options, "holder_by_port", lambda inode, port: Holder(SERVICE, certain=False))
    found = told_apart([FORM], None, Path("/run/hsframework/consumer.sock"))
    assert isinstance(found, Members)
    assert {(other.holder, other.certain) for other in found.others} == {(Holder(SERVICE, certain=False), False)}


def test_listening_sockets(tmp_path: Path) -> None:
    """The one that listens at the path; not those that were accepted from it, which have the same path."""
    path = tmp_path / "a b.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        assert listening_sockets(path) == set()
        listener.listen()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.connect(str(path))
            accepted, _ = listener.accept()
            with accepted:
                assert listening_sockets(path) == {os.fstat(listener.fileno()).st_ino}
    assert listening_sockets(tmp_path / "nothing") == set()


# The findings


def _found(monkeypatch: pytest.MonkeyPatch, found: Members | NotSeen, *namespaces: str) -> list[doctor.Finding]:
    monkeypatch.setattr(doctor, "form_groups", lambda settings: [FORM])
    monkeypatch.setattr(doctor, "told_apart", lambda forms, namespace, listener: found)
    return list(doctor.check_members(Configuration(kernel=KernelSettings(namespaces=namespaces))))


@pytest.mark.parametrize(("uid", "verdict"), [(0, "missing"), (1000, "note")])
def test_others_are_named(monkeypatch: pytest.MonkeyPatch, uid: int, verdict: str) -> None:
    """Process, user and program, and how to mend it: needed for root, who alone may serve the kernel."""
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    others = [Other(_member(1), Holder(who, certain=True), certain=True) for who in (C_AGENT, SQUATTER)]
    first, second = _found(monkeypatch, Members(1, tuple(others)))
    assert (first.verdict, second.verdict) == (verdict, verdict)
    assert "pid 812 (user root, program tlshd) is a member of 'tlshd', and not ours" in first.detail
    assert first.mend == "systemctl disable --now tlshd"
    assert "pid 900 (user 4000000000, program hsframework)" in second.detail
    assert second.mend == "end it: kill 900"


@pytest.mark.parametrize(("ours", "detail"), [(1, "the service alone"), (0, "there is none")])
def test_nobody_else(monkeypatch: pytest.MonkeyPatch, ours: int, detail: str) -> None:
    """In each namespace that is served."""
    own, blue = _found(monkeypatch, Members(ours, ()), "blue")
    assert (own.verdict, own.detail, own.subject) == ("ok", detail, "members of the kernel's groups")
    assert (blue.verdict, blue.subject) == ("ok", "members of the kernel's groups in blue")


def test_who_cannot_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of another PID namespace is not shown, and its membership is told all the same."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (finding,) = _found(monkeypatch, Members(0, (Other(_member(1), Unnamed("no process has it"), certain=True),)))
    assert finding.verdict == "missing"
    assert "a process that cannot be named (no process has it) is a member of 'tlshd'" in finding.detail


def test_who_may_be_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A note, and the advice to look as root."""
    other = Other(_member(1), Holder(SERVICE, certain=False), certain=False)
    (finding,) = _found(monkeypatch, Members(0, (other,)))
    assert finding.verdict == "note"
    assert finding.detail == "pid 700 (user root, program hsframework), by its port alone, is a member of 'tlshd'"
    assert "as root" in finding.mend


def test_a_look_that_fails_is_not_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is told, in place of ``ok``; also where the kernel cannot be asked for its groups."""
    (finding,) = _found(monkeypatch, NotSeen("this kernel has no CONFIG_NETLINK_DIAG"))
    assert finding.verdict == "note"
    assert finding.detail == "cannot be looked up: this kernel has no CONFIG_NETLINK_DIAG"

    def refused(settings: Configuration) -> list[FormGroups]:
        raise NetlinkError("the kernel takes no request", errno=errno.EPERM)

    monkeypatch.setattr(doctor, "form_groups", refused)
    (finding,) = doctor.check_members(Configuration())
    assert (finding.verdict, finding.detail) == ("note", "cannot be looked up: the kernel takes no request")
