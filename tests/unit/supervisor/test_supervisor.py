"""`hsframework run` as a process: how it starts, stops, and keeps its children alive."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsframework.testing.certificates import Authority
from tests.support.running import (
    WAIT,
    Running,
    Service,
    await_end,
    install_plugin,
    only,
    running_service,
    short_folder,
    sockets,
    status_of,
    until,
    write_configuration,
)

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root sees the open files of others")


@contextlib.contextmanager
def started(folder: Path, configuration: str = "") -> Iterator[Service]:
    """Start a service in a folder that outlives it; nobody waits for its agents."""
    service = Service(folder, configuration)
    try:
        yield service
    finally:
        service.clean_up()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stops(number: signal.Signals) -> None:
    """SIGTERM and SIGINT: agents first, then the dispatcher; exit status 0 and no process left."""
    with running_service(only("tls13") + "[agents.tls13]\nprocesses = 2\n", agents=2) as service:
        assert len(service.processes()) == 6
        assert service.stop(number) == 0
        order = [event["event"] for event in service.log.events() if event["event"].endswith(" stops")]
        assert order == ["the agent stops", "the agent stops", "the dispatcher stops"]
        assert not [event for event in service.log.events() if event["level"] in ("warning", "error")]


@pytest.mark.parametrize("child", ["dispatcher", "agent of tls13"])
def test_stops_while_it_starts(child: str) -> None:
    """SIGTERM just after a child was forked reaches that child too."""
    with short_folder() as folder, started(folder) as service:
        service.log.wait("started", child=child)
        assert service.stop() == 0
        assert not service.log.events("does not stop and is killed")


def failed(service: Service) -> str:
    """Check that a service does not start: it ends with status 2 and leaves nothing.  Return its output."""
    assert service.process.wait(30) == 2
    assert not service.processes()
    return service.log.end()


@pytest.mark.parametrize(
    ("configuration", "words"),
    [
        ("[limits]\nper-sauce = 3\n", ("limits.per-sauce", "did you mean 'per-source'")),
        ("[limits\n", ("not TOML",)),
        ("[identities.web]\ncertificate = 'no.pem'\nprivate-key = 'no.key'\n", ("identities.web", "no.pem")),
        ("[trust.all]\nbundle = ['gone.pem']\n", ("trust.all", "gone.pem")),
        ("[groups.tls13]\nusers = ['nobody-has-this-name']\n", ("groups.tls13.users", "nobody-has-this-name")),
        ("[agents.tls13]\nuser = 'nobody-has-this-name'\n", ("nobody-has-this-name",)),
        ("[agents.tls13]\nprocesses = 0\n", ("processes must be from 1",)),
    ],
)
def test_broken_configuration(configuration: str, words: tuple[str, ...]) -> None:
    """Exit status 2, a message that names what to change, and nothing left running."""
    with short_folder() as folder, started(folder, configuration) as service:
        said = failed(service)
        assert all(word in said for word in words), said
        assert "Traceback" not in said


def test_a_port_in_use() -> None:
    """The metrics' port taken by another: the service serves, says so, and takes the port once it is free."""
    with short_folder() as folder, socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        with started(folder, only("tls13") + f"[metrics]\nlisten = '{listen}'\n") as service:
            service.wait_for_agents()
            said = service.log.wait("there are no metrics")
            assert "metrics.listen" in said["setting"]
            assert listen in said["setting"]
            other.close()
            service.log.wait("there are metrics again")
            assert service.stop() == 0


def test_a_wrong_address_of_the_metrics() -> None:
    """A text that is no address at all is an error of the configuration: status 2."""
    with short_folder() as folder, started(folder, "[metrics]\nlisten = '9464'\n") as service:
        assert "metrics.listen" in failed(service)


def test_a_file_breaks_while_the_service_runs() -> None:
    """A certificate cut in half, then a crash: the service goes on with what it had, and says which file it is."""
    with short_folder() as folder:
        files = Authority("Test Root").issue(["server.example"]).write(folder)
        tables = f"[identities.web]\ncertificate = '{files.certificate}'\nprivate-key = '{files.private_key}'\n"
        with started(folder, only("tls13") + tables + "[profiles.web]\nidentities = ['web']\n") as service:
            service.wait_for_agents()
            whole = files.certificate.read_text()
            files.certificate.write_text(whole[: len(whole) // 2])
            mark = service.log.mark
            os.kill(service.dispatcher, signal.SIGKILL)
            said = service.log.wait("a file has become unusable; the service goes on with what it had", since=mark)
            assert str(files.certificate) in said["reason"]
            service.wait_for_agents(since=mark)
            assert service.stop() == 0
        with started(folder, only("tls13") + tables) as service:
            assert str(files.certificate) in failed(service), "who starts it anew is told at once"


def test_no_plugin_to_run() -> None:
    """A service that could serve nothing does not start: status 2, and what to change."""
    with short_folder() as folder, started(folder, only()) as service:
        assert "blocked-plugins" in failed(service)


@pytest.mark.parametrize("child", ["dispatcher", "agent of tls13"])
def test_a_child_that_is_stopped_is_replaced(child: str) -> None:
    """A dispatcher and a keeper that are stopped (SIGSTOP) are killed, and others serve in their place."""
    with running_service(only("tls13")) as service:
        mark = service.log.mark
        os.kill(service.dispatcher if child == "dispatcher" else service.keeper(), signal.SIGSTOP)
        service.log.wait("is stopped and is killed", child=child, since=mark)
        service.wait_for_agents(since=mark)
        assert service.stop() == 0


def test_a_worker_that_is_stopped_is_replaced() -> None:
    """The only agent process is stopped while it is idle: its keeper kills it, and another joins."""
    with running_service(only("tls13")) as service:
        mark = service.log.mark
        (worker,) = service.workers()
        os.kill(worker, signal.SIGSTOP)
        service.log.wait("a worker is stopped and is killed", process=worker, since=mark)
        service.wait_for_agents(since=mark)
        assert service.stop() == 0


def test_a_runtime_dir_in_use() -> None:
    """A second service in the same folder ends with a clear message and does not disturb the first."""
    with running_service(only("tls13")) as service:
        before = service.processes()
        with started(service.folder) as second:
            assert "another dispatcher listens here" in failed(second)
        assert service.processes() == before
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            probe.connect(str(service.runtime_dir / "consumer.sock"))


def test_no_runtime_dir() -> None:
    """A runtime directory that cannot be made is named."""
    with short_folder() as folder:
        (folder / "run").write_text("a file")
        with started(folder) as service:
            said = failed(service)
            assert f"{folder}/run" in said
            assert "--runtime-dir" in said


def test_wrong_settings_of_a_plugin() -> None:
    """Its agent is not started again and the log names the key; it was the only one, so the service ends (2)."""
    with short_folder() as folder, started(folder, only("tls13") + "[plugins.tls13]\nciphrs = []\n") as service:
        assert "plugins.tls13.ciphrs" in service.log.wait("the agent cannot start")["reason"]
        assert service.log.wait("ended and is not started again", child="agent of tls13")["status"] == 2
        assert service.process.wait(30) == 2


def test_wrong_settings_of_one_plugin_of_two() -> None:
    """The rest of the house stands: the other agent serves."""
    with short_folder() as folder:
        settings = only("tls13", "psp") + "[plugins.psp]\ndevices = []\n"
        with started(folder, settings) as service:
            assert service.log.wait("ended and is not started again", child="agent of psp")["status"] == 2
            service.wait_for_agents()
            assert service.stop() == 0


def test_killed() -> None:
    """kill -9 of the supervisor: everything ends by itself, and a new one can start in the same folder at once."""
    with running_service("[agents.tls13]\nprocesses = 2\n", agents=2) as service:
        os.kill(service.pid, signal.SIGKILL)
        until(lambda: not service.processes(), "its children have ended")
        with started(service.folder) as second:
            second.wait_for_agents()
            assert second.stop() == 0


@only_root
def test_what_children_inherit() -> None:
    """An agent has no socket of the supervisor or of the dispatcher; the dispatcher has the way to the copies that the
    supervisor keeps, and no listener."""
    with running_service("[agents.tls13]\nprocesses = 2\n", agents=2) as service:
        supervisor, dispatcher = sockets(service.pid), sockets(service.dispatcher)
        assert len(supervisor & dispatcher) == 1
        for pid in (service.keeper(), *service.workers()):
            assert not sockets(pid) & (supervisor | dispatcher)
        one, other = map(sockets, service.workers())
        assert not one & other


def test_a_keeper_is_killed() -> None:
    """Its workers die with it, and the supervisor starts another."""
    with running_service("[agents.tls13]\nprocesses = 2\n", agents=2) as service:
        keeper, workers, mark = service.keeper(), service.workers(), service.log.mark
        os.kill(keeper, signal.SIGKILL)
        for pid in workers:
            await_end(pid)
        service.wait_for_agents(2, since=mark)
        assert service.keeper() != keeper
        assert len(service.workers()) == 2


def test_a_dispatcher_that_dies_again_and_again() -> None:
    """It is started at once, then after growing pauses, half a second at most; its agents are the same all along."""
    with running_service() as service:
        agents, begun = service.workers(), service.log.mark
        for _ in range(4):
            mark = service.log.mark
            os.kill(service.dispatcher, signal.SIGKILL)
            service.log.wait("started", since=mark, child="dispatcher")
            service.wait_for_agents(since=mark)
        pauses = [event["pause"] for event in service.log.events("ended and is started again", since=begun)]
        assert pauses == [0.0, 0.1, 0.5, 0.5]
        assert service.workers() == agents


GREEDY = """
import hsframework
from hsframework.interface import Handshaker, Protocol


class Nothing(Handshaker):
    async def handshake(self, request, endpoint):
        raise NotImplementedError

    def close(self):
        pass


class Greedy(Protocol):
    name = "greedy"
    groups = ("greedy", "tlshd", "tls13", "other")

    def prepare(self, settings):
        return Nothing()


@hsframework.hookimpl
def hsframework_protocols():
    yield Greedy()
"""


@only_root
def test_a_plugin_claims_groups_that_are_not_its_own() -> None:
    """The kernel's, another plugin's and nobody's are not granted, so it may not join; the others serve as ever."""
    with running_service(plugins={"greedy": GREEDY}) as service:
        service.log.wait("the dispatcher does not let the agent join")
        refused = service.log.events("a plugin wants a group that it may not join")
        assert {event["group"] for event in refused} == {"tlshd", "tls13", "other"}
        assert not service.log.events("joined", protocol="greedy")


@only_root
def test_a_plugin_is_given_groups() -> None:
    """A plugin may join the groups that the configuration grants it, by any name."""
    granted = '[agents.greedy]\ngroups = ["greedy", "tlshd", "tls13", "other"]\n'
    with running_service(granted, plugins={"greedy": GREEDY}) as service:
        service.log.wait("joined", protocol="greedy")
        assert not service.log.events("a plugin wants a group that it may not join")


def test_a_required_plugin_is_not_installed() -> None:
    """The service does not start, and says which one is missing."""
    with short_folder() as folder, started(folder, 'required-plugins = ["audit"]\n') as service:
        assert "required-plugins: no plugin 'audit' is installed" in failed(service)


def test_a_required_plugin_is_broken() -> None:
    """No agent serves, the log says why, and the service ends with status 1; without the requirement the others
    serve."""
    broken = {"audit": "import left_pad\n"}
    with short_folder() as folder:
        install_plugin(folder / "site", "audit", broken["audit"])
        service = Service(folder, 'required-plugins = ["audit"]\n', folder / "site")
        try:
            event = service.log.wait("the agent cannot start")
            assert "the plugin 'audit' is required and cannot be used, so nothing is served" in event["reason"]
            assert "left_pad" in event["reason"]
            assert service.process.wait(WAIT) == 1
            assert service.log.wait("the service ends: it can serve nothing")["level"] == "error"
            assert not service.log.events("joined")
        finally:
            service.clean_up()
    with running_service(plugins=broken):
        pass


def test_a_blocked_plugin() -> None:
    """It gets no agent, and nobody imports it."""
    breaks = "import sys\nprint('IMPORTED', file=sys.stderr)\n"
    with running_service('blocked-plugins = ["noise"]\n', plugins={"noise": breaks}) as service:
        assert not service.log.events("started", child="agent of noise")
        assert "IMPORTED" not in service.log.text


UNREAD = "nobody reads a table"


def test_tables_that_nobody_reads() -> None:
    """Tables that nobody reads are warned of once, with advice; a protocol is not the name of an agent."""
    tables = "[plugins.tls31]\n[plugins.tls13]\n[plugins.greedy]\n"
    tables += "[agents.audit]\nprocesses = 2\n[agents.tls13]\n[agents.greedy]\n"
    with running_service(tables, plugins={"several": GREEDY, "broken": "import left_pad\n"}) as service:
        service.log.wait(UNREAD, number=3)
        mark = service.log.mark
        os.kill(service.keeper(), signal.SIGKILL)
        service.wait_for_agents(since=mark)
        assert service.stop() == 0
        warned = [
            (event["level"], event["table"], event["reason"], event["mend"]) for event in service.log.events(UNREAD)
        ]
        assert warned == [
            (
                "warning",
                "agents.audit",
                "no plugin 'audit' is installed",
                "install hsframework-audit, or remove the table; an agent is named by its plugin",
            ),
            (
                "warning",
                "agents.greedy",
                "'greedy' is a protocol of the plugin 'several', by which its agent is named",
                "write [agents.several]",
            ),
            (
                "warning",
                "plugins.tls31",
                "no plugin 'tls31' is installed; did you mean 'tls13'?",
                "install hsframework-tls31, or remove the table",
            ),
        ]


def test_tables_where_there_is_no_plugin() -> None:
    """They are warned of although the only plugin that is loaded cannot be used."""
    with short_folder() as folder:
        install_plugin(folder / "site", "broken", "raise RuntimeError('not today')\n")
        service = Service(folder, only("broken") + "[plugins.tiny]\n", folder / "site")
        try:
            assert service.log.wait(UNREAD)["table"] == "plugins.tiny"
            assert service.process.wait(30) == 2
        finally:
            service.clean_up()


def test_memory_is_left_alone() -> None:
    """Unless it is asked for."""
    with running_service() as service:
        assert {status_of(pid)["VmLck"] for pid in service.processes()} == {"0 kB"}


def test_the_dispatcher_alone_knows_a_broken_configuration_too() -> None:
    """`hsframework dispatcher`: exit status 2 and the same message."""
    with short_folder() as folder:
        file = write_configuration(folder, "[trust.all]\nbundle = ['gone.pem']\n")
        process = Running(("dispatcher", "--config", str(file)), folder)
        assert process.process.wait(30) == 2
        assert "gone.pem" in process.log.end()
        process.clean_up()


def test_stops_a_child_that_does_not_listen() -> None:
    """An agent that is stopped (SIGSTOP) is killed after ten seconds; the dispatcher still ends in good order."""
    with running_service() as service:
        (worker,) = service.workers()
        os.kill(worker, signal.SIGSTOP)
        assert service.stop() == 0
        assert service.log.events("does not stop and is killed", child="agent of tls13")
        assert service.log.events("the dispatcher stops")


NOISY = """
import os
import socket

import hsframework
from hsframework.interface import Protocol
from hsframework.local.control import WorkerJoined


class Noisy(Protocol):
    name = "noisy"
    groups = ("noisy",)

    def prepare(self, settings):
        for name in os.listdir("/proc/self/fd"):
            try:
                sock = socket.socket(fileno=os.dup(int(name)))
                sock.setblocking(True)
                sock.getpeername()
            except OSError:
                continue
            while sock.family == socket.AF_UNIX and sock.type == socket.SOCK_SEQPACKET:
                sock.send(DATA)


@hsframework.hookimpl
def hsframework_protocols():
    yield Noisy()
"""


@pytest.mark.parametrize("data", ["b'no JSON'", "WorkerJoined(1).encode()"], ids=["nonsense", "flood"])
def test_a_plugin_that_writes_to_the_supervisor(data: str) -> None:
    """Its keeper is killed and started again after growing pauses; the agents of others serve on."""
    with running_service(plugins={"noisy": NOISY.replace("DATA", data)}) as service:
        service.log.wait("a child breaks the protocol and is killed", child="agent of noisy", number=3)
        ended = service.log.events("ended and is started again", child="agent of noisy", status=-signal.SIGKILL)
        assert [line["pause"] for line in ended[:2]] == [0.0, 0.1]
        assert len(service.log.events("started", child="agent of tls13")) == 1
        mark = service.log.mark
        os.kill(service.keeper(), signal.SIGKILL)
        service.wait_for_agents(since=mark)
        assert service.stop() == 0


def test_titles_and_versions() -> None:
    """Each process says what it is, to ps and to top; the log begins with the versions."""
    with running_service() as service:
        (worker,) = service.workers()
        titles = {
            service.pid: "hsframework run",
            service.dispatcher: "hsframework dispatcher",
            service.keeper(): "hsframework agent tls13",
            worker: "hsframework agent tls13, worker",
        }
        for pid, title in titles.items():
            assert Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode() == title
            assert Path(f"/proc/{pid}/comm").read_text().strip() == title.removeprefix("hsframework ")[:15].strip()
        started = service.log.events("hsframework starts")
        assert len(started) == 1
        assert {"version", "python", "plugins", "kernel"} <= started[0].keys()
