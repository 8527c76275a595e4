"""`hsframework run` in the test kernel, serving the kernel's own consumers, and what the kernel tells of it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hsframework.testing.certificates import Authority, Credential
from tests.kernel import confined
from tests.support.running import (
    Running,
    Service,
    install_plugin,
    install_project,
    only,
    short_folder,
    status_of,
    until,
    write_configuration,
)

ROOT = Authority("Kernel Test Root")


@dataclass(frozen=True)
class End:
    """Content of a profile for the kernel's requests."""

    credential: Credential | None = None
    trust: Authority = ROOT
    groups: tuple[str, ...] = ()
    """Those that it is tied to; empty: none."""

    def lines(self, folder: Path, name: str, *rest: str) -> list[str]:
        """Return the tables of a configuration file, and put their files in place."""
        bundle = self.trust.write(folder, f"{name}-trust")
        tables = [f"[trust.{name}]", f'bundle = ["{bundle}"]']
        identities = ""
        if self.credential is not None:
            files = self.credential.write(folder, name)
            tables += [f"[identities.{name}]", f'certificate = "{files.certificate}"']
            tables += [f'private-key = "{files.private_key}"']
            identities = f'"{name}"'
        rest = (*rest, f"groups = {list(self.groups)}") if self.groups else rest
        return [*tables, f"[profiles.{name}]", f"identities = [{identities}]", f'trust = "{name}"', *rest]


class House(Service):
    """`hsframework run` with further words on its command line."""

    def __init__(self, folder: Path, configuration: str, words: Sequence[str], plugins: Path | None) -> None:
        file = write_configuration(folder, configuration)
        Running.__init__(self, ("run", "--config", str(file), *words), folder, plugins)


class ConfinedHouse(House):
    """The same, which can lose the file system: :mod:`tests.kernel.confined`."""

    program = (str(Path(confined.__file__)),)

    def confined(self) -> list[int]:
        """Return the pids of all processes but the reader, which waits for files so that no other does."""
        reader = self.reader
        return [pid for pid in self.processes() if pid != reader]

    def confine(self) -> None:
        """Confine the processes: one that opens, looks up or executes a file from now on is killed."""
        for pid in self.confined():
            _confine(pid)


H = TypeVar("H", bound=House)


def _confine(pid: int) -> None:
    own = filters_of(pid)
    os.kill(pid, signal.SIGUSR1)
    until(lambda: filters_of(pid) > own, "the filter is in place")


def filters_of(pid: int) -> int:
    """Return the number of seccomp filters of the process: agents and their keepers have some of their own."""
    return int(status_of(pid)["Seccomp_filters"])


@contextlib.contextmanager
def house(**options: Any) -> Iterator[House]:
    """Run a house with the options of :func:`house_of`."""
    with house_of(House, **options) as service:
        yield service


@contextlib.contextmanager
def house_of(
    kind: type[H],
    *,
    client: End | None = None,
    server: End | None = None,
    words: Sequence[str] = (),
    namespaces: Sequence[str] = (),
    plugins: Mapping[str, str] | None = None,
    projects: Sequence[Path] = (),
    installed: Sequence[str] = ("tls13",),
    more: str = "",
) -> Iterator[H]:
    """Run `hsframework run` with these profiles, and yield it once it has joined the kernel's group.

    ``plugins``: source texts by name, and ``projects``: the folders of further ones, beside those that are
    ``installed``, of which no others are started.
    """
    with short_folder() as folder:
        lines: list[str] = []
        if client is not None:
            lines += client.lines(folder, "kernel-client")
        if server is not None:
            lines += server.lines(folder, "kernel-server", 'client-certificate = "request"')
        words = [*words, *(word for name in namespaces for word in ("--netns", name))]
        for name, source in (plugins or {}).items():
            install_plugin(folder / "site", name, source)
        for project in projects:
            install_project(folder / "site", project)
        site = folder / "site" if plugins or projects else None
        service = kind(folder, only(*installed) + "\n".join([more, *lines]), words, site)
        try:
            service.wait_for_agents()
            yield service
        finally:
            try:
                service.stop()
            finally:
                service.clean_up()


@contextlib.contextmanager
def dispatcher(configuration: str = "", *words: str) -> Iterator[Running]:
    """Run `hsframework dispatcher` alone."""
    with short_folder() as folder:
        file = write_configuration(folder, configuration)
        process = Running(("dispatcher", "--config", str(file), *words), folder)
        try:
            process.log.wait("the dispatcher is ready")
            yield process
            process.stop()
        finally:
            process.clean_up()
            print(process.log.text)


def tls_sessions() -> int:
    """Count the directions of kTLS that are in use in this network namespace."""
    lines = (line.split() for line in Path("/proc/net/tls_stat").read_text().splitlines())
    return sum(int(value) for name, value in lines if name in ("TlsCurrTxSw", "TlsCurrRxSw"))
