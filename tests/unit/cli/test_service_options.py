"""Options of the commands that serve, and the limits that follow from the process's own."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from hsframework.cli.main import build_parser
from hsframework.cli.options.service import configuration
from hsframework.configuration.settings import Configuration
from hsframework.dispatcher.main import within_fd_limit


@pytest.mark.parametrize("command", ["run", "dispatcher"])
def test_network_namespaces_are_added_up(command: str, tmp_path: Path) -> None:
    """--netns may be given several times, adds to the file's, and names none twice."""
    file = tmp_path / "hsframework.toml"
    file.write_text('[kernel]\nnamespaces = ["red"]\n')
    words = ["--netns", "blue", "--netns", "red", "--netns", "/proc/1/ns/net", "--netns", "blue"]
    arguments = build_parser((command,)).parse_args([command, "--config", str(file), *words])
    assert configuration(arguments).kernel.namespaces == ("red", "blue", "/proc/1/ns/net")


@pytest.mark.parametrize(("fds", "total"), [(64, 32), (1, 1), (1 << 20, Configuration().limits.total)])
def test_no_more_requests_than_fds(monkeypatch: pytest.MonkeyPatch, fds: int, total: int) -> None:
    """Half of what RLIMIT_NOFILE allows, if that is less than configured, and never none."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (fds, fds))
    assert within_fd_limit(Configuration()).limits.total == total
