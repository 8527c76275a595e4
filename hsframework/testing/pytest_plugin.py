"""Fixtures for the tests of plugins.  pytest finds them if ``hsframework[testing]`` is installed.

They cost nothing until a test uses one: this module imports neither a cryptographic library nor the agent.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from hsframework.testing.certificates import Authority, Credential


@pytest.fixture(scope="session")
def hsframework_ca() -> Authority:
    """Make a certificate authority for the test run."""
    from hsframework.testing.certificates import Authority

    return Authority("Test Root")


@pytest.fixture(scope="session")
def hsframework_server(hsframework_ca: Authority) -> Credential:
    """Make a certificate of ``server.example`` and ``127.0.0.1`` with its key; its ``identity`` is for options."""
    return hsframework_ca.issue(["server.example", "127.0.0.1"])


@pytest.fixture(scope="session")
def hsframework_client(hsframework_ca: Authority) -> Credential:
    """Make a certificate of ``client.example`` with its key; its ``identity`` is for options."""
    return hsframework_ca.issue(["client.example"])


@pytest.fixture
def hsframework_run() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Return the function that runs a coroutine to its end in virtual time."""
    from hsframework.testing.virtual_time import run

    return run
