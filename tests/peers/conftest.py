"""Fixtures of this tier: one service for all tests, and credentials on disk for the programs that we did not write."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from hsframework.registry.plugins import Registry, load_plugins
from tests.support import toy_plugin
from tests.support.doors import Door, open_door
from tests.support.meetings import Pki
from tests.support.service import Service, running_service


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """`hsframework run` with the TLS 1.3 plugin and a stranger's."""
    for program in ("openssl", "gnutls-serv", "gnutls-cli"):
        if shutil.which(program) is None:
            pytest.skip(f"the program {program} is not installed")
    plugins = tmp_path_factory.mktemp("plugins")
    toy_plugin.install(plugins)
    with running_service(groups=("tls13", toy_plugin.GROUP), plugins=plugins) as running:
        yield running


@pytest.fixture(scope="session")
def registry() -> Registry:
    """The plugins of a consumer that has the toy too."""
    found = load_plugins()
    assert found.register(toy_plugin, "toy").error is None
    return found


@pytest.fixture(params=["sync", "async"])
def door(request: pytest.FixtureRequest, service: Service, registry: Registry) -> Iterator[Door]:
    """The client library, in both forms."""
    with open_door(request.param, service.runtime, registry) as client:
        yield client


@pytest.fixture(scope="session")
def sync_door(service: Service, registry: Registry) -> Iterator[Door]:
    """The client library, in the form that the test does not depend on."""
    with open_door("sync", service.runtime, registry) as client:
        yield client


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("credentials"))
