"""The tier `load`: the whole path with real processes, under load, under fire and under misuse."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

import pytest

from tests.load.traffic import Credentials


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/load" in item.path.as_posix():
            item.add_marker(pytest.mark.load)


@pytest.fixture(autouse=True)
def root() -> None:
    """Root, who may look into the service's processes: they hide from everybody else."""
    if os.geteuid():
        pytest.skip("only root sees the open files and the memory of processes that are not dumpable")


@pytest.fixture(scope="session")
def credentials() -> Credentials:
    return Credentials()


@pytest.fixture(scope="session", autouse=True)
def many_files() -> Iterator[None]:
    """The tests hold both ends of every connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
