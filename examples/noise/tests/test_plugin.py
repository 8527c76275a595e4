"""The handshaker by hand, without a service."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest
from hsframework.errors import ConfigurationError, HandshakeError
from hsframework.interface import AuthMode, Request, Role
from hsframework.testing.memory import MemoryStream

from hsframework_noise.plugin import NoiseProtocol
from hsframework_noise.settings import Settings


def test_prepare_loads_the_keys() -> None:
    """A key that is not there is an error at start, not in the first handshake."""
    with pytest.raises(ConfigurationError, match=r"plugins\.noise\.keys\.host"):
        NoiseProtocol().prepare(Settings(keys={"host": Path("/no/such/file")}))


def test_a_kernel_consumer() -> None:
    """No kernel takes a Noise session: refused before anything is said."""
    handshaker = NoiseProtocol().prepare(Settings())
    request = Request(
        id=1,
        group="noise",
        role=Role.CLIENT,
        auth_mode=AuthMode.UNAUTHENTICATED,
        deadline=0.0,
        kernel_consumer=True,
    )
    with pytest.raises(HandshakeError, match="no kernel takes") as caught:
        asyncio.run(handshaker.handshake(request, MemoryStream()))
    assert caught.value.errno in errno.errorcode
