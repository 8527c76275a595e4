"""The table ``[plugins.spake2]`` of the configuration.  It is checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass

from hsframework.errors import ConfigurationError

LEAST_COST, MOST_COST = 8, 20


@dataclass(frozen=True)
class Settings:
    """The settings of SPAKE2.

    ``cost``: log2 of scrypt's N, equal at both ends; a handshake takes 2**(cost + 10) bytes, and at 15 about 0.1 s.
    """

    cost: int = 15

    def __post_init__(self) -> None:
        if not LEAST_COST <= self.cost <= MOST_COST:
            raise ConfigurationError(f"cost is {self.cost}; use a number from {LEAST_COST} to {MOST_COST}")
