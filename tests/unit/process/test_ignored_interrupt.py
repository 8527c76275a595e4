"""A program that was started with SIGINT ignored (nohup, or `command &` in a script): all its processes leave it so."""

from __future__ import annotations

import os
import signal

from hsframework.agent.privileges import agent_user
from hsframework.testing.certificates import Authority
from tests.support.running import (
    Running,
    Service,
    await_end,
    children,
    only,
    running_service,
    short_folder,
    status_of,
    until,
    write_configuration,
)

IGNORING = (
    "-c",
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "os.execv(sys.executable, [sys.executable, '-m', 'hsframework', *sys.argv[1:]])",
)
"""The words for an interpreter that starts hsframework with SIGINT ignored."""


def ignores(pid: int) -> bool:
    """True if SIGINT is ignored, which also says that no handler is in its place."""
    return bool(int(status_of(pid)["SigIgn"], 16) >> signal.SIGINT - 1 & 1)


class Ignoring(Running):
    program = IGNORING


class IgnoringService(Service):
    program = IGNORING


def test_the_whole_service() -> None:
    """All of its processes ignore it, the reader too, also those that are started later; SIGTERM ends them."""
    with short_folder() as folder:
        service = IgnoringService(folder, only("tls13"))
        try:
            service.wait_for_agents()
            assert len(service.processes()) == 5
            assert all(map(ignores, service.processes()))
            for pid in service.processes():
                os.kill(pid, signal.SIGINT)
            (worker,), mark = service.workers(), service.log.mark
            os.kill(worker, signal.SIGKILL)
            await_end(worker)
            service.wait_for_agents(since=mark)
            mark = service.log.mark
            os.kill(service.dispatcher, signal.SIGKILL)
            service.log.wait("the dispatcher is ready", since=mark)
            assert len(service.processes()) == 5
            assert all(map(ignores, service.processes()))
            assert service.stop() == 0
        finally:
            service.clean_up()


def test_processes_that_run_apart() -> None:
    """`hsframework dispatcher` and `hsframework agent` too."""
    with short_folder() as folder:
        user = agent_user(None, "tls13")
        members = f"users = {[] if user is None else [str(user.uid)]}\n"
        file = write_configuration(folder, f"[groups.tls13]\n{members}[groups.tlshd]\n{members}")
        dispatcher = Ignoring(("dispatcher", "--config", str(file)), folder)
        try:
            dispatcher.log.wait("the dispatcher is ready")
            agent = Ignoring(("agent", "tls13", "--config", str(file)), folder)
            try:
                agent.log.wait("joined", protocol="tls13")
                processes = [dispatcher.pid, agent.pid, *children(agent.pid)]
                assert len(processes) == 3
                assert all(map(ignores, processes))
                for pid in processes:
                    os.kill(pid, signal.SIGINT)
                assert (agent.stop(), dispatcher.stop()) == (0, 0)
            finally:
                agent.clean_up()
        finally:
            dispatcher.clean_up()


def test_a_consumer() -> None:
    """`hsframework listen`, which a shell's script may start beside others."""
    with running_service() as service:
        files = Authority("Test Root").issue(["server.example"]).write(service.folder)
        words = ("listen", "0", "--cert", str(files.certificate), "--key", str(files.private_key))
        listener = Ignoring((*words, "--runtime-dir", str(service.runtime_dir)), service.folder)
        try:
            until(lambda: "listening on" in listener.log.text, "it listens")
            os.kill(listener.pid, signal.SIGINT)
            assert ignores(listener.pid)
            assert listener.stop() == -signal.SIGTERM
        finally:
            listener.clean_up()


def test_as_a_terminal_starts_it() -> None:
    """The same look at a service that was started as usual: none of its processes ignores SIGINT."""
    with short_folder() as folder:
        service = Service(folder, only("tls13"))
        try:
            service.wait_for_agents()
            assert not any(map(ignores, service.processes()))
            assert service.stop(signal.SIGINT) == 0
        finally:
            service.clean_up()
