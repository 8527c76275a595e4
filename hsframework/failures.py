"""The table of failures: every documented way in which a handshake fails, with the alert to the peer, the errno for the
consumer, and the side to blame.

The alert numbers are those of TLS (RFC 8446 section 6, RFC 7301 section 3.2); a protocol with other codes maps from
them.  ``alert`` None: nothing can or should be said to the peer.  The errnos are those that Linux consumers tell apart:
NFS retries on ETIMEDOUT alone, nvme-tcp removes a controller on EKEYREJECTED and ENOKEY.
"""

from __future__ import annotations

import enum
import errno

from hsframework.errors import HandshakeError


class Blame(enum.Enum):
    """The side that a failure comes from, and so the place to look for the remedy."""

    PEER = "peer"
    """The peer broke the protocol, did not prove its identity, is not allowed in, or refused by an alert of its own."""
    US = "us"
    """This side: a fault of the service, whose log has more, or the consumer, which withdrew the request."""
    CONFIGURATION = "configuration"
    """No side misbehaved: the settings of the two do not fit together, or this one lacks a key, a kernel module or a
    feature that the request needs."""
    NETWORK = "network"
    """The connection ended or fell silent; the network cannot be told from a peer that is gone."""


class Failure(enum.Enum):
    """One way to fail: ``(alert to the peer or None, errno for the consumer, side to blame, meaning)``."""

    PEER_REFUSED = (None, errno.EACCES, Blame.PEER, "the peer refused the handshake with an alert of its own")
    UNTRUSTED = (
        48,
        errno.EKEYREJECTED,
        Blame.PEER,
        "the peer's certificate chain does not lead to a trusted authority",
    )
    BAD_CERTIFICATE = (
        42,
        errno.EKEYREJECTED,
        Blame.PEER,
        "the peer's certificate is malformed, or a signature in its chain is wrong",
    )
    WRONG_USAGE = (
        43,
        errno.EKEYREJECTED,
        Blame.PEER,
        "the peer's certificate may not be used for this (key usage, EKU, basic constraints)",
    )
    REVOKED = (44, errno.EKEYREVOKED, Blame.PEER, "the peer's certificate, or one above it, is revoked")
    EXPIRED = (
        45,
        errno.EKEYEXPIRED,
        Blame.PEER,
        "the peer's certificate, or one above it, is expired or not valid yet",
    )
    WRONG_NAME = (42, errno.EKEYREJECTED, Blame.PEER, "the peer's certificate does not name the peer")
    NO_PEER_NAME = (
        80,
        errno.EINVAL,
        Blame.CONFIGURATION,
        "the request names no peer, and does not say that any name will do",
    )
    WRONG_KEY = (46, errno.EKEYREJECTED, Blame.PEER, "the peer's public key is not one of those that were asked for")
    NO_PEER_CERTIFICATE = (116, errno.EACCES, Blame.PEER, "the peer was required to show a certificate and showed none")
    UNKNOWN_PSK = (115, errno.ENOKEY, Blame.PEER, "no pre-shared key is known for the identity")
    BAD_BINDER = (51, errno.EKEYREJECTED, Blame.PEER, "the peer does not have the pre-shared key that it names")
    BAD_SIGNATURE = (
        51,
        errno.EKEYREJECTED,
        Blame.PEER,
        "a handshake signature or Finished of the peer does not verify",
    )
    NOT_AUTHORIZED = (49, errno.EACCES, Blame.PEER, "the peer is who it says, and is not allowed to connect")
    GARBAGE = (50, errno.EPROTO, Blame.PEER, "the peer sent something that is not this protocol")
    UNEXPECTED_MESSAGE = (10, errno.EPROTO, Blame.PEER, "the peer sent a message out of its turn")
    RECORD_OVERFLOW = (22, errno.EPROTO, Blame.PEER, "the peer sent a record longer than the protocol allows")
    BAD_RECORD_MAC = (20, errno.EBADMSG, Blame.PEER, "a protected record does not authenticate")
    ILLEGAL_PARAMETER = (47, errno.EPROTO, Blame.PEER, "the peer sent a value that the protocol does not allow")
    MISSING_EXTENSION = (109, errno.EPROTO, Blame.PEER, "the peer left out an extension that the protocol asks for")
    UNSUPPORTED_EXTENSION = (110, errno.EPROTO, Blame.PEER, "the peer answered with an extension that was not offered")
    VERSION = (70, errno.EPROTONOSUPPORT, Blame.CONFIGURATION, "the peer does not speak a version that is allowed here")
    NO_COMMON_PARAMETERS = (
        40,
        errno.EPROTONOSUPPORT,
        Blame.CONFIGURATION,
        "no cipher, group or signature algorithm in common",
    )
    NO_COMMON_ALPN = (120, errno.EPROTONOSUPPORT, Blame.CONFIGURATION, "no application protocol (ALPN) in common")
    PEER_GONE = (None, errno.ECONNRESET, Blame.NETWORK, "the peer closed or reset the connection")
    SILENCE = (None, errno.ETIMEDOUT, Blame.NETWORK, "the handshake did not end by its deadline")
    NO_KEY = (80, errno.ENOKEY, Blame.CONFIGURATION, "our own certificate or key is missing or unusable")
    NO_KERNEL_SESSION = (
        80,
        errno.EOPNOTSUPP,
        Blame.CONFIGURATION,
        "the kernel does not take the session, and the consumer is in the kernel",
    )
    NOT_OFFERED_HERE = (80, errno.EOPNOTSUPP, Blame.CONFIGURATION, "the protocol does not do what the request asks for")
    CANCELLED = (90, errno.ECANCELED, Blame.US, "the consumer withdrew the request")
    SHORTAGE = (80, errno.ENOMEM, Blame.US, "this host has no memory for the handshake; a later one may succeed")
    INTERNAL = (80, errno.EIO, Blame.US, "the service itself failed; its log says how")

    @property
    def alert(self) -> int | None:
        """Return the TLS alert description, 0 to 255; None: none is sent."""
        alert: int | None = self.value[0]
        return alert

    @property
    def errno(self) -> int:
        """Return the positive errno for the consumer."""
        number: int = self.value[1]
        return number

    @property
    def blame(self) -> Blame:
        """Return the side that the failure comes from."""
        side: Blame = self.value[2]
        return side

    @property
    def meaning(self) -> str:
        """Return one line for people."""
        text: str = self.value[3]
        return text


class HandshakeFailed(HandshakeError):
    """A handshake that failed in one of the documented ways.

    ``detail`` says more (a name, a date, a serial number), and never holds a secret.  ``peer_alert``: the alert that
    the peer sent, when it sent one.  A peer that does not know the identity of our pre-shared key (alert 115) is
    EKEYREJECTED: NVMe stops reconnecting for this errno alone.
    """

    def __init__(self, failure: Failure, detail: str = "", *, peer_alert: int | None = None) -> None:
        number = failure.errno
        if failure is Failure.PEER_REFUSED and peer_alert == Failure.UNKNOWN_PSK.alert:
            number = errno.EKEYREJECTED
        super().__init__(f"{failure.meaning}: {detail}" if detail else failure.meaning, errno=number)
        self.failure = failure
        self.detail = detail
        self.peer_alert = peer_alert
