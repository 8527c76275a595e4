"""Fixtures for the tests of plugins.  pytest finds them where ``hsframework[testing]`` is installed.

They cost nothing until a test asks for one: this module imports neither a cryptographic library nor the agent.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from hsframework.testing.certificates import Authority, Credential


@pytest.fixture(scope="session")
def hsframework_ca() -> Authority:
    """A certificate authority that is thrown away with the test run."""
    from hsframework.testing.certificates import Authority

    return Authority("Test Root")


@pytest.fixture(scope="session")
def hsframework_server(hsframework_ca: Authority) -> Credential:
    """A certificate of ``server.example`` and ``127.0.0.1``, with its key: ``.identity`` is what options take."""
    return hsframework_ca.issue(["server.example", "127.0.0.1"])


@pytest.fixture(scope="session")
def hsframework_client(hsframework_ca: Authority) -> Credential:
    """A certificate of ``client.example``, with its key."""
    return hsframework_ca.issue(["client.example"])


@pytest.fixture
def hsframework_run() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """``hsframework_run(coroutine)`` runs it to its end in virtual time."""
    from hsframework.testing.virtual_time import run

    return run
