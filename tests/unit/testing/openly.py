"""Module of a broken plugin: a proof that is compared by its bytes, one after the other."""

from __future__ import annotations

from hsframework.interface import Secret
from tests.unit.testing.toy_plugin import ToyPlugin, ToyProtocol


class OpenProtocol(ToyProtocol):
    """The toy, whose module compares a proof openly."""


def right(proof: bytes, expected: bytes) -> bool:
    """Return True if a proof is the expected one."""
    return proof == expected and len(proof) == 32


def right_in_secret(proof: bytes, expected: Secret) -> bool:
    """Return True if a proof is the expected one, compared in constant time."""
    return Secret(proof) == expected


PLUGIN = ToyPlugin(OpenProtocol)
