"""A consumer's options for a handshake: checked on creation, and turned into the values of a ``submit`` message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hsframework.client.trusts import TRUST_ID, travels_alone
from hsframework.errors import ConfigurationError
from hsframework.interface import AuthMode, CertificateDemand, CrlCheck, Identity, PresharedKey, Role, Trust
from hsframework.tls.host_names import ascii_name
from hsframework.tls.priorities import parse_priorities

MAX_TIMEOUT = 3600.0
"""Seconds; the longest timeout that the service's configuration allows."""

PSK_HASHES = ("sha256", "sha384")
"""Hashes of a pre-shared key (RFC 8446 section 4.2.11)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeOptions:
    """The options of a handshake for a consumer in user space.  One object serves any number of sockets.

    Every field is checked on creation: :class:`~hsframework.errors.ConfigurationError` says what to change.
    """

    role: Role = Role.CLIENT
    """Our side of the handshake."""
    group: str = "tls13"
    """Multicast group whose agents run the handshake."""
    auth_mode: AuthMode | None = None
    """Kind of proof that our side gives of its identity.  None: PSK if there are keys, X.509 if there are identities;
    with a profile that of its keys; else a client is unauthenticated, and a server's proof is left to its protocol."""
    peer_name: str | None = None
    """For a client: the DNS name or IP address that the peer must prove, and that is sent to it (SNI)."""
    any_peer_name: bool = False
    """For a client: the peer's certificate may have any name; ``peer_name`` is then sent, and not compared."""
    profile: str | None = None
    """Profile of the service's configuration, with identities, keys and trust that the consumer never sees.  None: the
    profile ``default``, where one is configured.  Values in the options take precedence over the profile's."""
    identities: tuple[Identity, ...] = ()
    """Certificates that our side may present; with several, the peer's signature algorithms decide."""
    psks: tuple[PresharedKey, ...] = ()
    """Pre-shared keys: for a client in order of preference, for a server those that its peer may name."""
    trust: Trust | None = None
    """Trust anchors and revocation lists by which the peer's certificates are judged: 1 MiB of anchors at most, 64 MiB
    in all.  None: the profile's."""
    client_certificate: CertificateDemand | None = None
    """For a server: its demand on the client.  None: the profile's, or no demand without a profile."""
    alpn: tuple[str, ...] = ()
    """Application protocols in order of preference, 1 to 255 bytes each (RFC 7301)."""
    timeout: float | None = None
    """Seconds from the moment at which the service receives the request.  None: the service's limit for the role."""
    attributes: Mapping[str, Any] | bytes = field(default_factory=dict)
    """The protocol's own attributes, by the attribute set ``request`` of its specification, or their encoding."""
    tls_priorities: str | None = None
    """TLS policy of this request: versions, ciphers, groups and signatures, as a priority string in GnuTLS's syntax
    (:mod:`hsframework.tls.priorities`).  It holds beside the profile's, and within the plugin's settings."""
    urgency: int = 0
    """Place in the queue, 0 to 7: the most urgent requests are given to an agent first."""

    def __post_init__(self) -> None:
        self._check_kinds()
        self._check_texts()
        if self.timeout is not None and not 0 < self.timeout <= MAX_TIMEOUT:
            raise _wrong(f"timeout is {self.timeout}: give seconds, more than 0 and at most {MAX_TIMEOUT:.0f}")
        if not 0 <= self.urgency <= 7:
            raise _wrong(f"urgency is {self.urgency}: give a number from 0 to 7")
        if self.tls_priorities is not None:
            _check_policy(self.tls_priorities)
        for key in self.psks:
            _check_key(key)
        if self.auth_mode is AuthMode.OWN and (self.identities or self.psks):
            raise _wrong("identities and psks go with the auth modes X509 and PSK: leave them out, or auth_mode")
        if self.role is Role.SERVER:
            self._check_server()
        elif self.trust is not None and self.peer_name is None and not self.any_peer_name and not self.psks:
            raise _wrong(
                "peer_name is not set: name the peer, or set any_peer_name if its certificate may have any name"
            )
        elif self.client_certificate:
            raise _wrong("client_certificate is a server's demand on its client: leave it out, or set role to SERVER")

    def _check_kinds(self) -> None:
        """Check types also at run time where a wrong one would show its effect far from here."""
        if not isinstance(self.role, Role):
            raise _wrong(f"role is {self.role!r}: give Role.CLIENT or Role.SERVER")
        if not isinstance(self.trust, Trust | None):
            raise _wrong("trust is no Trust: give what load_trust or system_trust returns")

    def _check_texts(self) -> None:
        for name in ("group", "peer_name", "profile"):
            value = getattr(self, name)
            if not isinstance(value, str | None):
                raise _wrong(f"{name} is {value!r}: give a text")
            if value is not None and (not value or "\0" in value):
                raise _wrong(f"{name} is empty or holds a NUL: give a name or leave it out")
        alpn: object = self.alpn
        if isinstance(alpn, str):  # its letters would be taken for protocols
            raise _wrong(f"alpn is {self.alpn!r}: give a tuple, ({alpn!r},)")
        for item in self.alpn:
            given: object = item
            if not isinstance(given, str):
                raise _wrong(f"the ALPN protocol {given!r} is not a text: give 'h2', and not b'h2'")
            if not 1 <= len(item.encode(errors="surrogateescape")) <= 255:
                raise _wrong(f"the ALPN protocol {item!r} must have 1 to 255 bytes (RFC 7301)")

    def _check_server(self) -> None:
        if self.peer_name is not None or self.any_peer_name:
            raise _wrong("peer_name is what a client asks its server to prove: leave it out for a server")
        if self.effective_auth_mode is AuthMode.UNAUTHENTICATED:
            raise _wrong(
                "a server proves who it is: set auth_mode to X509 or PSK, or to OWN if its protocol has another proof"
            )

    @property
    def effective_auth_mode(self) -> AuthMode:
        """``auth_mode``, or the mode that follows from the other fields; X.509 where it is left to the profile."""
        if self.auth_mode is not None:
            return self.auth_mode
        if self.psks:
            return AuthMode.PSK
        if self.identities or self.profile or self.role is Role.SERVER:
            return AuthMode.X509
        return AuthMode.UNAUTHENTICATED

    @property
    def _left_to_the_profile(self) -> bool:
        left = bool(self.profile) or self.role is Role.SERVER
        return left and self.auth_mode is None and not self.psks and not self.identities

    def submit_values(self, attributes: bytes | None = None) -> dict[str, Any]:
        """Return the values of the ``submit`` message; ``attributes``: the protocol's own, encoded."""
        values: dict[str, Any] = {
            "group": self.group,
            "message-type": int(self.role),
            "auth-mode": None if self._left_to_the_profile else int(self.effective_auth_mode),
            "peername": None if self.peer_name is None else ascii_name(self.peer_name),
            "profile": self.profile,
        }
        if self.any_peer_name:
            values["any-peer-name"] = True
        if self.timeout is not None:
            values["timeout"] = max(1, round(self.timeout * 1000))
        if self.identities:
            values["identity"] = [
                {"certificate": item.chain, "private-key": item.private_key} for item in self.identities
            ]
        if self.psks:
            values["psk"] = [{"identity": item.identity, "key": item.key, "hash": item.hash} for item in self.psks]
        if self.trust is not None and travels_alone(self.trust):
            values["trust-id"] = TRUST_ID
        elif self.trust is not None:
            values["trust-anchor"] = self.trust.anchors
            values["crl"] = self.trust.crls
            if self.trust.crl_check is not CrlCheck.IF_PRESENT:
                values["crl-check"] = list(CrlCheck).index(self.trust.crl_check)
        if self.client_certificate is not None:
            values["client-certificate"] = int(self.client_certificate)
        if self.alpn:
            values["alpn"] = self.alpn
        if self.tls_priorities is not None:
            values["tls-priorities"] = (self.tls_priorities,)
        if self.urgency:
            values["urgency"] = self.urgency
        if attributes:
            values["attributes"] = attributes
        return values


def _check_key(key: PresharedKey) -> None:
    if not 1 <= len(key.identity) <= 65535:
        raise _wrong(f"a PSK identity has {len(key.identity)} bytes: 1 to 65535 are allowed (RFC 8446 section 4.2.11)")
    if not len(key.key):
        raise _wrong("a PSK has an empty key: give its bytes")
    if key.hash not in PSK_HASHES:
        raise _wrong(f"the hash of a PSK is {key.hash!r}: give {' or '.join(PSK_HASHES)}")


def _check_policy(text: object) -> None:
    if not isinstance(text, str):
        raise _wrong(f"tls_priorities is {text!r}: give a priority string")
    try:
        parse_priorities(text)
    except ConfigurationError as error:
        raise _wrong(f"tls_priorities: {error}") from None


def _wrong(message: str) -> ConfigurationError:
    return ConfigurationError(message)
