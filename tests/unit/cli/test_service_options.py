"""Options of the commands that serve, and the limits that follow from the process's own."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from hsframework.cli.main import build_parser
from hsframework.cli.options.service import configuration
from hsframework.configuration.settings import Configuration, KernelSettings, RawSettings
from hsframework.dispatcher.main import within_fd_limit
from hsframework.dispatcher.requests.limits import reserve


@pytest.mark.parametrize("command", ["run", "dispatcher"])
def test_network_namespaces_are_added_up(command: str, tmp_path: Path) -> None:
    """--netns may be given several times, adds to the file's, and names none twice."""
    file = tmp_path / "hsframework.toml"
    file.write_text('[kernel]\nnamespaces = ["red"]\n')
    words = ["--netns", "blue", "--netns", "red", "--netns", "/proc/1/ns/net", "--netns", "blue"]
    arguments = build_parser(command).parse_args([command, "--config", str(file), *words])
    assert configuration(arguments).kernel.namespaces == ("red", "blue", "/proc/1/ns/net")


GROUPS = Configuration().limits.groups
CONFIGURED = Configuration().limits.per_source
TWO_NAMESPACES = KernelSettings(namespaces=("red",), raw=RawSettings(enabled=True))


@pytest.mark.parametrize(
    ("kernel", "sources"),
    [(KernelSettings(enabled=False), 1), (KernelSettings(), 2), (TWO_NAMESPACES, 5)],
)
@pytest.mark.parametrize("share", [1, 7, CONFIGURED - 1])
def test_no_more_requests_than_fds(
    monkeypatch: pytest.MonkeyPatch, kernel: KernelSettings, sources: int, share: int
) -> None:
    """Each source has an equal share in each group of what RLIMIT_NOFILE leaves for requests, half of it at least."""
    configuration = Configuration(kernel=kernel)
    wanted = share * sources * GROUPS
    fds = min(2 * wanted, wanted + reserve(configuration))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (fds, fds))
    assert within_fd_limit(configuration).limits.per_source == share
    monkeypatch.setattr(resource, "getrlimit", lambda _: (fds - 1, fds - 1))
    assert within_fd_limit(configuration).limits.per_source == max(1, share - 1)


@pytest.mark.parametrize("fds", [1 << 20, resource.RLIM_INFINITY])
def test_as_many_requests_as_configured(monkeypatch: pytest.MonkeyPatch, fds: int) -> None:
    """The configured number holds where there are fds enough."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (fds, fds))
    assert within_fd_limit(Configuration()).limits.per_source == CONFIGURED
