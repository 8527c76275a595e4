"""Other members of the kernel's groups, as the log and ``doctor`` name them: tlshd, a program without rights."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hsframework.cli.commands import doctor
from hsframework.configuration.settings import Configuration
from hsframework.netlink.members import NETLINK_SOCK_DIAG, netlink_sockets
from hsframework.netlink.route import NETLINK_ROUTE
from hsframework.netlink.socket import NETLINK_ADD_MEMBERSHIP, SOL_NETLINK, RequestSocket
from hsframework.netlink.spec import builtin_specification
from tests.kernel import raw
from tests.kernel.consumers import in_namespace, tlshd
from tests.kernel.genl import GenericNetlink
from tests.kernel.house import dispatcher
from tests.kernel.machine import NOBODY, debian, in_a_child
from tests.kernel.scripted import ScriptedAgent
from tests.support.running import Running, write_configuration

MEMBER = "another process is a member of the kernel's group: requests may wait for it"
SUBJECT = "members of the kernel's groups"
PLAIN: dict[str, dict[str, str]] = {"authenticate.client": {}, "authenticate.server": {}}
JOIN = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16)
sock.bind((0, 0))
sock.setsockopt(270, 1, int(sys.argv[1]))
print("joined", flush=True)
input()
"""


@contextlib.contextmanager
def squatter(namespace: str | None = None) -> Iterator[int]:
    """Run a program of the user nobody that joins the kernel's group and serves nothing; yield its pid."""
    with GenericNetlink() as kernel:
        group = kernel.family("handshake").groups["tlshd"]
    # nsenter and Python replace one another: the pid stays.
    command = in_namespace(namespace, sys.executable, "-c", JOIN, str(group))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"joined\n"
        yield program.pid
        program.kill()


def doctor_says(process: Running, configuration: str = "") -> tuple[int, list[dict[str, Any]]]:
    """Return the exit status of ``doctor``, and what it finds of members."""
    file = write_configuration(process.folder, configuration, name="doctor.toml")
    command = [sys.executable, "-m", "hsframework", "doctor", "--json", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    findings = json.loads(done.stdout)
    return done.returncode, [each for each in findings if each["subject"].startswith(SUBJECT)]


@pytest.fixture
def serving() -> Iterator[Running]:
    """A dispatcher that is a member itself."""
    with dispatcher() as process, ScriptedAgent(process.runtime_dir):
        process.log.wait("joined the kernel's group")
        yield process


def test_we_are_not_another(serving: Running) -> None:
    """The dispatcher does not log its own membership, and doctor knows it by its listener."""
    status, findings = doctor_says(serving)
    assert [(each["verdict"], each["detail"]) for each in findings] == [("ok", "the service alone")]
    assert status == 0
    assert not serving.log.events(MEMBER)


def test_tlshd_beside_us(serving: Running) -> None:
    """The C agent comes after us: process, user and program in the log and by doctor, which says how to mend it."""
    with tlshd(PLAIN) as agent:
        event = serving.log.wait(MEMBER)
        named = {name: event[name] for name in ("source", "group", "process", "uid", "program")}
        assert named == {"source": "kernel", "group": "tlshd", "process": agent.pid, "uid": 0, "program": "tlshd"}
        status, (finding,) = doctor_says(serving)
    assert status == 1
    assert finding["verdict"] == "missing"
    assert f"pid {agent.pid} (user root, program tlshd) is a member of 'tlshd', and not ours" in finding["detail"]
    assert finding["mend"] == "systemctl disable --now tlshd"


def test_tlshd_before_us() -> None:
    """The C agent is there when the dispatcher starts, which says so before anything is served."""
    with tlshd(PLAIN) as agent, dispatcher() as process:
        assert process.log.events(MEMBER, process=agent.pid, program="tlshd")


def test_a_program_without_rights(serving: Running) -> None:
    """Anybody may join: named each time that one comes, and once; gone, doctor finds us alone again."""
    for _ in range(2):
        mark = serving.log.mark
        with squatter() as pid:
            event = serving.log.wait(MEMBER, since=mark)
            assert (event["process"], event["uid"]) == (pid, NOBODY)
            status, (finding,) = doctor_says(serving)
            assert (status, finding["mend"]) == (1, f"end it: kill {pid}")
            assert f"pid {pid} (user nobody, program " in finding["detail"]
        _, (finding,) = doctor_says(serving)
        assert finding["detail"] == "the service alone"
    assert len(serving.log.events(MEMBER)) == 2


def test_the_dispatcher_without_the_right_to_trace(serving: Running) -> None:
    """It keeps no capability that shows another's files: the process is named by its port, and marked so."""
    with squatter() as pid:
        event = serving.log.wait(MEMBER)
        assert (event["port"], event["process"], event["certain"]) == (pid, pid, False)


def test_further_namespaces() -> None:
    """Each that is served is looked at, and its member is not taken for one of ours."""
    debian("ip", "netns", "add", "blue")
    try:
        with dispatcher("", "--netns", "blue") as process, ScriptedAgent(process.runtime_dir):
            process.log.wait("joined the kernel's group", source="kernel:blue")
            with squatter("blue") as pid:
                event = process.log.wait(MEMBER, source="kernel:blue")
                assert event["process"] == pid
                status, (own, blue) = doctor_says(process, '[kernel]\nnamespaces = ["blue"]')
            assert not process.log.events(MEMBER, source="kernel")
        assert status == 1
        assert (own["subject"], own["detail"]) == (SUBJECT, "the service alone")
        assert blue["subject"] == f"{SUBJECT} in blue"
        assert f"pid {pid} (user nobody" in blue["detail"]
    finally:
        debian("ip", "netns", "delete", "blue")


def test_a_namespace_that_is_missing(serving: Running) -> None:
    """Cannot be looked at, which is not the same as nobody."""
    _, (_, missing) = doctor_says(serving, '[kernel]\nnamespaces = ["no-such"]')
    assert missing["verdict"] == "note"
    assert missing["detail"].startswith("cannot be looked up: network namespace 'no-such'")


def test_the_raw_form() -> None:
    """The groups of the module are looked at where it is served."""
    raw.inserted()
    configuration = "[kernel.raw]\nenabled = true\n"
    with dispatcher(configuration) as process, raw.Agent(raw.QUIC):
        event = process.log.wait(MEMBER, source="kernel-raw")
        assert (event["group"], event["process"]) == ("quic", os.getpid())
        _, (finding,) = doctor_says(process, configuration)
        assert f"pid {os.getpid()} (user root, program " in finding["detail"]
        assert "is a member of 'quic' (kernel-raw), and not ours" in finding["detail"]


def test_without_root() -> None:
    """Doctor sees the members, names them by their ports, and accuses nobody."""
    configuration = Configuration(runtime_dir=Path("/run/no-such"))
    for name in ("handshake", "handshake-raw", "nlctrl"):
        builtin_specification(name)  # read while we may: the checkout need not be readable to others

    with tlshd(PLAIN) as agent:

        def look() -> None:
            (finding,) = doctor.check_members(configuration)
            assert finding.verdict == "note"
            named = f"pid {agent.pid} (user root, program tlshd), by its port alone, is a member of 'tlshd'"
            assert finding.detail == named
            assert finding.mend.startswith("run it as root")

        in_a_child(look, NOBODY)


@pytest.mark.parametrize("bound", [True, False])
def test_what_the_table_in_proc_does_not_show(bound: bool) -> None:
    """A group beyond the 32nd, and a member that is not bound: both are seen."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE) as sock:
        if bound:
            sock.bind((0, 0))
        sock.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, 33)
        inode = os.fstat(sock.fileno()).st_ino
        rows = [line.split() for line in Path("/proc/net/netlink").read_text().splitlines()]
        assert [row[3] for row in rows if row[-1] == str(inode)] == (["00000000"] if bound else [])
        diag = RequestSocket(NETLINK_SOCK_DIAG)
        try:
            (found,) = [each for each in netlink_sockets(diag, NETLINK_ROUTE) if each.in_group(33)]
        finally:
            diag.close()
        assert found.inode == inode
