"""The table ``[plugins.quic]`` of the configuration.  It is checked when it is made."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hsframework.errors import ConfigurationError
from hsframework.interface import Role
from hsframework_quic.algorithms import CIPHER_SUITES, GROUPS
from hsframework_quic.session import VERSION_1, VERSION_2

VERSION_NAMES = {"v1": VERSION_1, "v2": VERSION_2}
MAX_STREAMS = 1 << 14
"""One packet opens as many at once as the peer is allowed (RFC 9000 section 2.1), and each costs a kilobyte or two."""
_LARGEST = (1 << 62) - 1


@dataclass(frozen=True)
class Settings:
    """The settings of QUIC.

    ``versions`` in order of preference: a client begins with the first, a server takes the first of the *client's*
    that it has.  ``ciphers`` likewise in order of preference.  ``groups``: key exchange groups that a server takes;
    ``key_shares``: those that a client offers, with a key share for each (it answers no
    HelloRetryRequest).  ``max_datagram_size``: bytes of UDP payload that are sent, 1200 to 65527; what the network
    between both does not carry is lost.  The transport parameters that are told to the peer, and so the consumer's:
    ``idle_timeout`` (seconds), ``max_data`` and ``max_stream_data`` (bytes that the peer may send before the consumer
    raises it), ``max_streams`` (of each kind that the peer may open at once, 16384 at most), ``max_datagram_frame``
    (bytes; 0: no DATAGRAM frames).  ``tickets``: sessions kept for resumption, for each role; 0: none are given or
    used.

    For finding faults only, since they write during handshakes: ``keylog_file`` gets the secrets of all connections
    (without it the environment variable SSLKEYLOGFILE counts), ``qlog_dir`` a qlog of each handshake.
    """

    versions: tuple[str, ...] = ("v1", "v2")
    ciphers: tuple[str, ...] = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
    groups: tuple[str, ...] = ("X25519", "P-256", "P-384", "P-521", "X448")
    key_shares: tuple[str, ...] = ("X25519", "P-256")
    max_datagram_size: int = 1200
    idle_timeout: float = 60.0
    max_data: int = 1 << 20
    max_stream_data: int = 1 << 20
    max_streams: int = 128
    max_datagram_frame: int = 65535
    tickets: int = 1024
    keylog_file: Path | None = None
    qlog_dir: Path | None = None

    def __post_init__(self) -> None:
        _check_names("versions", self.versions, VERSION_NAMES)
        _check_names("ciphers", self.ciphers, CIPHER_SUITES)
        _check_names("groups", self.groups, GROUPS)
        _check_names("key_shares", self.key_shares, GROUPS)
        for name in ("versions", "ciphers", "groups", "key_shares"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _check_number("max_datagram_size", self.max_datagram_size, 1200, 65527)
        _check_number("max_data", self.max_data, 1, _LARGEST)
        _check_number("max_stream_data", self.max_stream_data, 1, _LARGEST)
        _check_number("max_streams", self.max_streams, 1, MAX_STREAMS)
        _check_number("max_datagram_frame", self.max_datagram_frame, 0, 65535)
        _check_number("tickets", self.tickets, 0, 1 << 20)
        timeout = self.idle_timeout
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0.1 <= timeout <= 86400:
            raise ConfigurationError(f"idle-timeout is from 0.1 to 86400 seconds, not {timeout!r}")

    @cached_property
    def wire_versions(self) -> tuple[int, ...]:
        """``versions`` as on the wire."""
        return tuple(VERSION_NAMES[name] for name in self.versions)

    @cached_property
    def suites(self) -> tuple[int, ...]:
        """``ciphers`` as on the wire."""
        return tuple(CIPHER_SUITES[name] for name in self.ciphers)

    def wire_groups(self, role: Role) -> tuple[int, ...]:
        """Return ``key_shares`` of a client, ``groups`` of a server, as on the wire."""
        return tuple(GROUPS[name] for name in (self.key_shares if role is Role.CLIENT else self.groups))


def _check_names(setting: str, value: object, known: Collection[str]) -> None:
    if not isinstance(value, (list, tuple)) or not value or not all(isinstance(name, str) for name in value):
        raise ConfigurationError(f"{setting.replace('_', '-')} is a list of one name or more, not {value!r}")
    if len(set(value)) != len(value):
        raise ConfigurationError(f"{setting.replace('_', '-')} has a name twice")
    for name in value:
        if name not in known:
            raise ConfigurationError(
                f"{setting.replace('_', '-')}: {name!r} is not known; use some of {', '.join(known)}"
            )


def _check_number(setting: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigurationError(f"{setting.replace('_', '-')} is a whole number from {least} to {most}, not {value!r}")
