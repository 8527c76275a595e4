"""The engine of either role: OpenSSL on memory BIOs, driven record by record.  The rules: :mod:`.engine`."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from binascii import unhexlify
from collections.abc import Sequence
from dataclasses import dataclass

from hsframework.credentials.judgement import Verify
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import PeerIdentity, PresharedKey, Role, Secret
from hsframework_tls13.callbacks import Callbacks
from hsframework_tls13.ciphers import BY_NAME, CipherSuite
from hsframework_tls13.contexts import Contexts
from hsframework_tls13.events import SessionBroken
from hsframework_tls13.openssl import (
    Connection,
    Problem,
)
from hsframework_tls13.openssl_failures import verdict_on
from hsframework_tls13.policy import Choices
from hsframework_tls13.protection import Opener, Sealer
from hsframework_tls13.records import (
    ALERT,
    ALERT_LEVEL_FATAL,
    ALERT_SIZE,
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    CHANGE_CIPHER_SPEC_SIZE,
    HEADER_SIZE,
    MAX_PLAINTEXT,
    last_record,
    plaintext_alert,
    with_versions_ignored,
)

MAX_PSK = 512
"""Bytes of a pre-shared key: OpenSSL's limit."""

_CLIENT_SECRET = b"CLIENT_TRAFFIC_SECRET_0"
_SERVER_SECRET = b"SERVER_TRAFFIC_SECRET_0"
_EXPORTER_SECRET = b"EXPORTER_SECRET"
_CLIENT_HANDSHAKE = b"CLIENT_HANDSHAKE_TRAFFIC_SECRET"
_CHANGE_CIPHER_SPEC = bytes((CHANGE_CIPHER_SPEC, 3, 3, 0, 1, 1))
_PROTECTED = bytes((APPLICATION_DATA,))
_USED = frozenset((_CLIENT_SECRET, _SERVER_SECRET, _EXPORTER_SECRET, _CLIENT_HANDSHAKE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Established:
    """The session of a finished handshake.  Both directions start at sequence number 0."""

    role: Role
    suite: CipherSuite
    client_secret: Secret
    server_secret: Secret
    exporter_secret: Secret
    group: str
    alpn: str | None
    peer: PeerIdentity
    max_payload: int = MAX_PLAINTEXT
    """Bytes of a record's content at most, in both directions, by max_fragment_length (RFC 6066 section 4)."""


class Engine(Callbacks):
    """A handshake in either role."""

    role: Role

    def __init__(
        self,
        contexts: Contexts,
        *,
        alpn: Sequence[str],
        verify: Verify,
        suites: Sequence[CipherSuite],
        choices: Choices | None,
    ) -> None:
        super().__init__()
        self._contexts = contexts
        self._suites = tuple(suites) or contexts.settings.suites
        self._choices = choices or contexts.choices
        self._alpn = tuple(name.encode("ascii") for name in alpn)
        self._verify = verify
        self._connection: Connection | None = None
        self._output = b""
        self._psk: PresharedKey | None = None
        self._believed: tuple[bytes, ...] | None = None
        self._refusal: HandshakeFailed | None = None
        self._failed: HandshakeFailed | None = None
        self._established: Established | None = None
        self._alert: int | None = None
        """OpenSSL's alert, where the refusal is OpenSSL's."""
        self._sent_change = False
        """True if OpenSSL's output began with change_cipher_spec: a client's, behind a HelloRetryRequest."""
        self._deferred = False
        self.psk_identities: tuple[bytes, ...] = ()
        """Not empty: the client offers these, and ``provide_psk`` has to be called before the next ``feed``."""

    @property
    def finished(self) -> bool:
        """True if the handshake has succeeded; the output of ``data_to_send`` still has to go out."""
        return self._established is not None

    @property
    def established(self) -> Established:
        """The session, once ``finished``."""
        if self._established is None:
            raise RuntimeError("the handshake has not finished")
        return self._established

    def feed(self, records: bytes) -> int:
        """Take whole records from the peer, one or several.  Return the number of bytes that were taken.

        Fewer than all: the handshake has finished, or asks for something, before the last of them; the rest is still
        the peer's.  Raises HandshakeFailed; the same again once it has failed.
        """
        if self._failed is not None:
            raise fresh(self._failed)
        if self._established is not None:
            raise RuntimeError("the handshake has finished: this record is not ours")
        try:
            return self._feed(records)
        except HandshakeFailed as error:
            self._fail(error)
            raise

    def data_to_send(self) -> bytes:
        """Return the output for the peer, each byte once."""
        output, self._output = self._output, b""
        return output

    def provide_psk(self, psk: PresharedKey | None) -> None:
        """Take the key of one of ``psk_identities``; None: there is none.  Raises HandshakeFailed."""
        raise RuntimeError("no pre-shared key was asked for")

    def abort(self, failure: HandshakeFailed) -> HandshakeFailed:
        """Give up for a reason of the caller's; ``data_to_send`` has the alert where the keys allow one.

        Returns the error that counts: what we have against the peer goes before what became of the connection.
        """
        if self._failed is None and self._established is None:
            self._fail(failure if self._refusal is None else self._refusal)
        return failure if self._failed is None else fresh(self._failed)

    # Callbacks of OpenSSL.

    @property
    def wants_alpn(self) -> bool:
        return bool(self._alpn)

    def on_certificate_request(self, body: bytes) -> None:
        """Do nothing; a client with several identities chooses one."""

    def on_alpn(self, offered: tuple[bytes, ...]) -> bytes | None:
        return next((name for name in self._alpn if name in offered), None)

    def on_psk(self, identity: bytes | None) -> PresharedKey | None:
        if self._psk is not None and identity in (None, self._psk.identity):
            return self._psk
        return None

    def callback_failed(self, error: Exception) -> None:
        if isinstance(error, HandshakeFailed):
            self._refusal = self._refusal or fresh(error)
        else:
            self._refusal = HandshakeFailed(Failure.INTERNAL, f"{type(error).__name__} while OpenSSL asked: {error}")

    # Different in each role.

    @abstractmethod
    def _feed(self, records: bytes) -> int: ...

    @abstractmethod
    def _check(self, connection: Connection) -> None:
        """Check the handshake before it succeeds.  Raises HandshakeFailed."""

    # The engine's own work.

    def _take(self, records: bytes) -> int:
        """Give records to OpenSSL, which reads no further than the handshake's last one; return the bytes read.

        A change_cipher_spec alone moves nothing: it waits for the next record, once.
        """
        connection = self._connection
        assert connection is not None
        connection.write(with_versions_ignored(records))
        if len(records) == CHANGE_CIPHER_SPEC_SIZE and records[0] == CHANGE_CIPHER_SPEC and not self._deferred:
            self._deferred = True
            return len(records)
        self._deferred = False
        self._step(connection)
        return len(records) - (0 if self._established is None else connection.unread)

    def _step(self, connection: Connection) -> None:
        step = connection.step(self)
        if step.done:
            self._finish(connection)
            return
        output = connection.read()
        self._sent_change = self._sent_change or output[:1] == _CHANGE_CIPHER_SPEC[:1]
        self._output += output
        if step.problems:
            raise self._problem(step.problems, output)
        if step.closed:
            raise HandshakeFailed(Failure.PEER_GONE, "the peer said close_notify", peer_alert=0)

    def _problem(self, problems: Sequence[Problem], output: bytes) -> HandshakeFailed:
        if self._refusal is not None:
            if self._written_alert(output) not in (None, self._refusal.failure.alert):
                # OpenSSL has no error of verification for every alert, such as access_denied: ours goes in its place.
                self._output = b""
            return fresh(self._refusal)
        failure, self._alert = verdict_on(problems, self._written_alert(output))
        return failure

    def _written_alert(self, output: bytes) -> int | None:
        """Return the alert that OpenSSL wrote as its last record, or None."""
        record = last_record(output)
        if len(record) == HEADER_SIZE + ALERT_SIZE and record[0] == ALERT:
            return record[-1]
        secret = self._secrets().get(_SERVER_SECRET)
        if self.role is Role.CLIENT or secret is None or record[:1] != _PROTECTED or self._connection is None:
            return None
        with contextlib.suppress(SessionBroken):
            opener = Opener(BY_NAME[self._connection.cipher], secret)
            kind, content = opener.open(record[:HEADER_SIZE], record[HEADER_SIZE:])
            if kind == ALERT and len(content) == ALERT_SIZE:
                return content[1]
        return None

    def _finish(self, connection: Connection) -> None:
        if self._refusal is not None:
            raise fresh(self._refusal)
        # Where we have named none, OpenSSL refuses a peer's choice itself.
        alpn = connection.alpn if self._alpn else b""
        self._check(connection)
        self._check_alpn(alpn)
        if self.role is Role.CLIENT:
            self._output += connection.read()
        secrets = self._secrets()
        self._established = Established(
            role=self.role,
            suite=BY_NAME[connection.cipher],
            client_secret=secrets[_CLIENT_SECRET],
            server_secret=secrets[_SERVER_SECRET],
            exporter_secret=secrets[_EXPORTER_SECRET],
            group=connection.group,
            alpn=alpn.decode("ascii") or None,
            peer=PeerIdentity(
                certificates=self._believed or (),
                psk_identity=None if self._psk is None else self._psk.identity,
            ),
            max_payload=(connection.max_fragment if self.role is Role.SERVER else None) or MAX_PLAINTEXT,
        )
        self._release()

    def _fail(self, error: HandshakeFailed) -> None:
        self._failed = fresh(error)
        alert = error.failure.alert if self._alert is None else self._alert
        if alert is not None:
            secret = self._secrets().get(_CLIENT_HANDSHAKE if self.role is Role.CLIENT else _SERVER_SECRET)
            if secret is None:
                self._output = plaintext_alert(alert)
            elif not self._output or self._output[0] == ALERT:
                # Until its last flight OpenSSL's client sends alerts in the clear; not every server accepts that.
                self._output = self._protected_alert(alert, secret)
        self._release()

    def _secrets(self) -> dict[bytes, Secret]:
        secrets = {}
        for line in self.key_log:
            label, _, value = line.split(b" ")
            if label in _USED:
                secrets[label] = Secret(unhexlify(value))
        return secrets

    def _protected_alert(self, description: int, secret: Secret) -> bytes:
        """Return an alert that OpenSSL has not made, as the first record under our present keys.

        A client has sent nothing under its handshake keys before its last flight (OpenSSL puts them in place only
        then: its alerts are in plain text up to there); a server has sent nothing under its application keys before
        it is finished, and its own flight ends in the call in which it begins.
        """
        assert self._connection is not None
        sealer = Sealer(BY_NAME[self._connection.cipher], secret)
        alert = sealer.seal(ALERT, bytes((ALERT_LEVEL_FATAL, description)))
        # A client's first protected record comes behind its change_cipher_spec (section D.4); a server's has been sent.
        return alert if self.role is Role.SERVER or self._sent_change else _CHANGE_CIPHER_SPEC + alert

    def _release(self) -> None:
        """Let go of OpenSSL's state, which is most of a handshake's memory, and of the secrets."""
        self._connection = None
        self.key_log.clear()
        self._psk = None
        self.psk_identity_memory = None

    def _check_alpn(self, chosen: bytes) -> None:
        if chosen and chosen not in self._alpn:
            raise HandshakeFailed(Failure.NO_COMMON_ALPN, f"the server chose {chosen!r}, which was not offered")
        if self._alpn and not chosen and self._contexts.settings.require_alpn:
            raise HandshakeFailed(Failure.NO_COMMON_ALPN, "the peer uses no ALPN")


def fresh(error: HandshakeFailed) -> HandshakeFailed:
    """Return the same error, without the traceback that would tie it to the engine that keeps it."""
    return HandshakeFailed(error.failure, error.detail, peer_alert=error.peer_alert)


def suites_for(suites: Sequence[CipherSuite], psk: PresharedKey) -> tuple[CipherSuite, ...]:
    """Return the suites with the hash of a PSK (RFC 8446 section 4.2.11).  Raises HandshakeFailed for a useless key."""
    if not 1 <= len(psk.key) <= MAX_PSK:
        raise HandshakeFailed(Failure.NO_KEY, f"a pre-shared key of {len(psk.key)} bytes; it may have 1 to {MAX_PSK}")
    fitting = tuple(suite for suite in suites if suite.hash == psk.hash)
    if not fitting:
        raise HandshakeFailed(Failure.NO_COMMON_PARAMETERS, f"no cipher that may be used has the key's hash {psk.hash}")
    return fitting
