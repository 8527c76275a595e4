"""The table ``[plugins.tls13]`` of the configuration.  It is checked when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from hsframework.errors import ConfigurationError
from hsframework_tls13.ciphers import BY_NAME, CipherSuite

KNOWN_GROUPS: Mapping[str, int] = {
    "X25519MLKEM768": 0x11EC,
    "SecP256r1MLKEM768": 0x11EB,
    "SecP384r1MLKEM1024": 0x11ED,
    "X25519": 0x001D,
    "X448": 0x001E,
    "P-256": 0x0017,
    "P-384": 0x0018,
    "P-521": 0x0019,
    "ffdhe2048": 0x0100,
    "ffdhe3072": 0x0101,
    "ffdhe4096": 0x0102,
}
"""Key exchange groups: OpenSSL's names, and the numbers on the wire (RFC 8446 section 4.2.7)."""

LEAST_PAYLOAD, MOST_PAYLOAD = 63, 16384
"""Bytes of a record's content that TLS_TX_MAX_PAYLOAD_LEN takes for TLS 1.3."""

KTLS_OPTIONS = ("ktls_zerocopy_sendfile", "ktls_no_pad", "ktls_max_payload")
"""The settings that are socket options of kTLS."""


@dataclass(frozen=True)
class Settings:
    """The settings of TLS 1.3.

    ``ciphers`` in order of preference; a request's TLS policy narrows them, and ``groups``, and never widens them.
    ``groups`` likewise; of these a client sends key shares for ``key_shares`` at
    once, and a server that wants another one asks for it (HelloRetryRequest); to a server that took the first of
    ``groups`` the last time, for that one alone.  ``kernel_offload``: put sessions into
    the socket (kTLS) where the kernel can.  ``require_alpn``: where the request names application protocols, a peer
    that uses no ALPN at all is refused too (RFC 7301 leaves that open; a peer with a *different* one always is).

    The settings that begin with ``ktls_`` are for sessions in the kernel (``docs/howto/offload.md``).
    ``ktls_ciphers``: of ``ciphers``, those with which a session is put into the socket; none named: all.
    ``ktls_zerocopy_sendfile``: TLS_TX_ZEROCOPY_RO.  ``ktls_no_pad``: TLS_RX_EXPECT_NO_PAD.  ``ktls_max_payload``:
    bytes of a sent record's content at most, TLS_TX_MAX_PAYLOAD_LEN; 0: the kernel's own limit.  ``ktls_require``: of
    these three, by their keys in the file, those without which there is no session in the kernel.
    """

    ciphers: tuple[str, ...] = (
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_AES_128_CCM_SHA256",
    )
    groups: tuple[str, ...] = (
        "X25519MLKEM768",
        "X25519",
        "SecP256r1MLKEM768",
        "P-256",
        "SecP384r1MLKEM1024",
        "P-384",
        "P-521",
    )
    key_shares: tuple[str, ...] = ("X25519MLKEM768", "X25519")
    kernel_offload: bool = True
    require_alpn: bool = False
    ktls_ciphers: tuple[str, ...] = ()
    ktls_zerocopy_sendfile: bool = False
    ktls_no_pad: bool = False
    ktls_max_payload: int = 0
    ktls_require: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("ciphers", "groups", "key_shares"):
            _check_names(name, getattr(self, name))
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _check_known("ciphers", self.ciphers, tuple(BY_NAME))
        _check_known("groups", self.groups, tuple(KNOWN_GROUPS))
        _check_known("key_shares", self.key_shares, self.groups)
        for name in ("kernel_offload", "require_alpn", "ktls_zerocopy_sendfile", "ktls_no_pad"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(f"{_key(name)} is true or false, not {getattr(self, name)!r}")
        self._check_ktls()

    def _check_ktls(self) -> None:
        size = self.ktls_max_payload
        if isinstance(size, bool) or not isinstance(size, int) or (size and not LEAST_PAYLOAD <= size <= MOST_PAYLOAD):
            raise ConfigurationError(f"ktls-max-payload is 0, or from {LEAST_PAYLOAD} to {MOST_PAYLOAD}, not {size!r}")
        for name in ("ktls_ciphers", "ktls_require"):
            if getattr(self, name) != ():
                _check_names(name, getattr(self, name))
                object.__setattr__(self, name, tuple(getattr(self, name)))
        _check_known("ktls_ciphers", self.ktls_ciphers, self.ciphers)
        _check_known("ktls_require", self.ktls_require, tuple(map(_key, KTLS_OPTIONS)))
        for name in KTLS_OPTIONS:
            if _key(name) in self.ktls_require and not getattr(self, name):
                raise ConfigurationError(f"ktls-require: {_key(name)} is not set; set it too")

    @cached_property
    def suites(self) -> tuple[CipherSuite, ...]:
        """``ciphers`` as cipher suites."""
        return tuple(BY_NAME[name] for name in self.ciphers)

    @cached_property
    def kernel_suites(self) -> tuple[CipherSuite, ...]:
        """The cipher suites with which a session may be in the kernel, in the order of ``ciphers``."""
        return tuple(suite for suite in self.suites if not self.ktls_ciphers or suite.name in self.ktls_ciphers)


def _check_names(setting: str, value: object) -> None:
    if not isinstance(value, (list, tuple)) or not value or not all(isinstance(name, str) for name in value):
        raise ConfigurationError(f"{_key(setting)} is a list of one name or more, not {value!r}")
    if len(set(value)) != len(value):
        raise ConfigurationError(f"{_key(setting)} has a name twice")


def _check_known(setting: str, names: tuple[str, ...], known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            raise ConfigurationError(f"{_key(setting)}: {name!r} is not known; use some of {', '.join(known)}")


def _key(setting: str) -> str:
    """Return the setting's name as the file has it."""
    return setting.replace("_", "-")
