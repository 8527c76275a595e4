"""The callbacks of one handshake, for OpenSSL."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from hsframework.failures import Failure
from hsframework.interface import PresharedKey


class Callbacks(ABC):
    """The callbacks of one handshake."""

    psk_identity_memory: Any = None
    """The memory of the identity that OpenSSL was given; OpenSSL copies it after the callback has returned."""

    def __init__(self) -> None:
        self.key_log: list[bytes] = []
        """Lines ``LABEL client_random secret``, in the order in which the secrets come to be."""

    @abstractmethod
    def on_certificate_request(self, body: bytes) -> None:
        """Take a server's CertificateRequest, before OpenSSL does.

        Called where the context was made with ``messages`` (``install_callbacks``).
        """

    @abstractmethod
    def on_certificate(self, chain: Callable[[], tuple[bytes, ...]]) -> Failure | None:
        """Judge the peer's certificates.  OpenSSL calls this for each check of its own, at least once.

        ``chain()``: DER, the leaf first; for a server the leaf alone, since OpenSSL has the others only when the
        handshake is over (``Connection.client_certificates``).
        """

    @abstractmethod
    def on_alpn(self, offered: tuple[bytes, ...]) -> bytes | None:
        """Return the server's choice; None: nothing in common.  Not called when :attr:`wants_alpn` is false."""

    @abstractmethod
    def on_psk(self, identity: bytes | None) -> PresharedKey | None:
        """Return the server's key for ``identity``, or the key that a client offers (``identity`` None)."""

    used_server_name = False
    """True for a server that chose its certificate by the client's server_name: it says so (RFC 6066 section 3)."""

    @property
    @abstractmethod
    def wants_alpn(self) -> bool: ...

    @abstractmethod
    def callback_failed(self, error: Exception) -> None:
        """Note that one of the other methods raised ``error``."""
