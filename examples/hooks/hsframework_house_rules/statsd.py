"""Metrics of the agents' handshakes for StatsD: begun, in hand, ended by outcome, and their time.

    [plugins.statsd]
    address = "127.0.0.1:8125"
    prefix = "storage"

Hooks run in agents, which are several processes: what they count is sent, and added up by who receives it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from dataclasses import dataclass

import hsframework
from hsframework.errors import ConfigurationError, HsframeworkError
from hsframework.interface import Request, Result

hsframework_interface_version = 1


@dataclass(frozen=True)
class Settings:
    """The table ``[plugins.statsd]``.  Without an address nothing is sent."""

    address: str = ""
    prefix: str = "hsframework"

    def __post_init__(self) -> None:
        if self.address:
            split(self.address)


def split(address: str) -> tuple[str, int]:
    """Return host and port of an address in numbers: no name is looked up here.  Raises ConfigurationError."""
    host, _, port = address.rpartition(":")
    try:
        return str(ipaddress.ip_address(host.strip("[]"))), int(port)
    except ValueError:
        raise ConfigurationError(
            f"address = {address!r}: write it as address:port, for example 127.0.0.1:8125"
        ) from None


class Metrics:
    """The socket that metrics are sent to."""

    def __init__(self, settings: Settings) -> None:
        address = split(settings.address)
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.connect(address)
        self._prefix = settings.prefix

    def close(self) -> None:
        self._socket.close()

    def send(self, *items: str) -> None:
        """Send the items in one datagram, without waiting for the receiver."""
        with contextlib.suppress(OSError):
            self._socket.send("\n".join(f"{self._prefix}.{item}" for item in items).encode())


metrics: Metrics | None = None


@hsframework.hookimpl
def hsframework_settings() -> type[Settings]:
    return Settings


@hsframework.hookimpl
def hsframework_configure(settings: Settings) -> None:
    global metrics
    if metrics is not None:
        metrics.close()
    metrics = Metrics(settings) if settings.address else None


@hsframework.hookimpl
def hsframework_handshake_started(request: Request) -> None:
    if metrics is not None:
        metrics.send(f"{request.group}.begun:1|c", f"{request.group}.in_hand:+1|g")


@hsframework.hookimpl
def hsframework_handshake_finished(request: Request, outcome: Result | HsframeworkError, duration: float) -> None:
    if metrics is not None:
        word = "success" if isinstance(outcome, Result) else outcome.errno_name
        group = request.group
        metrics.send(f"{group}.in_hand:-1|g", f"{group}.ended.{word}:1|c", f"{group}.time:{duration * 1000:.1f}|ms")
