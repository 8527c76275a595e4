"""OpenSSL contexts, made once for each set of credentials and TLS policy; the least recently used are dropped when they
have more than their part of the process's bytes, and those with private keys when they are not used for a while
(:meth:`Contexts.age`): OpenSSL wipes a key that it frees.

A context holds what many handshakes share: cipher suites, groups, certificates and keys, and whether a certificate is
asked for.  All that belongs to one handshake (name, trust, ALPN, pre-shared key) hangs on the connection.

Certificates: a server's context has one identity and sends its chain as given; which identity is chosen before
(:mod:`hsframework.credentials.selection`).  A client learns only in mid-handshake which signatures its server takes:
its context may have several identities, one of each key type (the first of a type wins), and its connection then shows
the first that fits.  OpenSSL finds each leaf's chain among the intermediates of all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import cryptography.hazmat.primitives.serialization  # noqa: F401  pyOpenSSL imports it when a certificate is first used
from OpenSSL import SSL, crypto

from hsframework.caches import SizedCache
from hsframework.credentials.selection import key_type, read_chain
from hsframework.errors import ConfigurationError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import CertificateDemand, Identity, Request, Role
from hsframework_tls13.ciphers import CipherSuite
from hsframework_tls13.openssl import (
    MODE_NO_AUTO_CHAIN,
    MODE_RELEASE_BUFFERS,
    drain_errors,
    set_groups,
    set_signatures,
    use_private_key,
)
from hsframework_tls13.openssl_callbacks import install_callbacks
from hsframework_tls13.policy import Choices, Offer, offer_for
from hsframework_tls13.prediction import Predictions
from hsframework_tls13.settings import Settings

_Key = tuple[object, ...]

CONTEXT = 24 << 10
"""Bytes of a context, about: measured with OpenSSL 3.5 and 4.0."""
READ = 4
"""Bytes that OpenSSL takes for each byte of a certificate or a key, about."""

_VERIFY_MODES = {
    CertificateDemand.NONE: SSL.VERIFY_NONE,
    CertificateDemand.REQUEST: SSL.VERIFY_PEER,
    CertificateDemand.REQUIRE: SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
}


@dataclass(slots=True)
class _Kept:
    """A context.  ``secret``: it has a private key.  ``used``: since :meth:`Contexts.age` was last called."""

    context: SSL.Context
    secret: bool
    used: bool = True


class Contexts:
    """The contexts of one agent.  ``HandshakeFailed(NO_KEY)``: an identity that OpenSSL does not take."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.choices = Choices.of_settings(settings)
        """Those of a request without a TLS policy."""
        self.predictions = Predictions()
        self._contexts: SizedCache[_Key, _Kept] = SizedCache("OpenSSL contexts", share=3 / 16)

    def __len__(self) -> int:
        return len(self._contexts)

    def offer(self, request: Request, suites: Sequence[CipherSuite]) -> Offer:
        """Return what a request's handshake offers or accepts, by its TLS policy; ``suites``: without one.

        Raises HandshakeFailed (NOT_OFFERED_HERE).
        """
        return offer_for(request, self.settings, Offer(tuple(suites), self.choices))

    def check(self) -> None:
        """Make a context of each kind.  Raises ConfigurationError where OpenSSL does not take the settings."""
        self.client((), self.settings.suites)
        self.server(None, CertificateDemand.NONE, self.settings.suites)

    def client(
        self,
        identities: Sequence[Identity],
        suites: Sequence[CipherSuite],
        *,
        psk: bool = False,
        choices: Choices | None = None,
        best_group_alone: bool = False,
    ) -> SSL.Context:
        """Return a context for clients; with ``identities``, certificates to show when asked.

        ``choices``: None: the settings'.  ``best_group_alone``: of the groups that are offered, the first alone has a
        key share.
        """
        choices = choices or self.choices
        key = _key(Role.CLIENT, identities, suites, psk, choices, best_group_alone)
        mode, alone = SSL.VERIFY_PEER, best_group_alone
        make = partial(self._make, Role.CLIENT, identities, suites, mode, psk, choices, alone)
        return self._kept(key, make, identities)

    def server(
        self,
        identity: Identity | None,
        demand: CertificateDemand,
        suites: Sequence[CipherSuite],
        *,
        psk: bool = False,
        choices: Choices | None = None,
    ) -> SSL.Context:
        """Return a context for servers; ``identity`` None goes with ``psk``; ``choices`` None: the settings'."""
        choices = choices or self.choices
        identities = () if identity is None else (identity,)
        key = _key(Role.SERVER, identities, suites, psk, choices, demand)
        mode = _VERIFY_MODES[demand]
        make = partial(self._make, Role.SERVER, identities, suites, mode, psk, choices)
        return self._kept(key, make, identities)

    def age(self) -> bool:
        """Drop the contexts with private keys that were not used since the last call.  Return True if any is left.

        A handshake under way keeps its own.
        """
        left = False
        for key, kept in self._contexts.items():
            if kept.secret and not kept.used:
                self._contexts.pop(key)
            left = left or (kept.secret and kept.used)
            kept.used = kept.used and not kept.secret
        return left

    def _kept(self, key: _Key, make: Callable[[], SSL.Context], identities: Sequence[Identity]) -> SSL.Context:
        kept = self._contexts.get(key)
        if kept is None:
            kept = _Kept(make(), secret=bool(identities))
            own = sum(len(identity.private_key) + sum(map(len, identity.chain)) for identity in identities)
            self._contexts.put(key, kept, CONTEXT + READ * own)
        else:
            kept.used = True
        return kept.context

    def _make(
        self,
        role: Role,
        identities: Sequence[Identity],
        suites: Sequence[CipherSuite],
        verify_mode: int,
        psk: bool,
        choices: Choices,
        best_group_alone: bool = False,
    ) -> SSL.Context:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD if role is Role.CLIENT else SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_max_proto_version(SSL.TLS1_3_VERSION)
        context.set_options(SSL.OP_NO_TICKET)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_mode(MODE_RELEASE_BUFFERS)
        names, groups = ":".join(suite.name for suite in suites), choices.group_list(best_alone=best_group_alone)
        try:
            context.set_tls13_ciphersuites(names.encode("ascii"))
        except SSL.Error:
            raise ConfigurationError(f"plugins.tls13.ciphers: OpenSSL does not take {names!r}") from None
        if not set_groups(context, groups):
            raise ConfigurationError(f"plugins.tls13.groups: OpenSSL does not take {groups!r}")
        if choices.signatures and not set_signatures(context, choices.signature_list):
            raise ConfigurationError(f"OpenSSL does not take the signatures {choices.signature_list!r}")
        if choices.server_precedence:
            context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
        _load_identities(context, identities)
        # To choose among its identities.
        messages = role is Role.CLIENT and len(identities) > 1
        install_callbacks(context, verify_mode=verify_mode, psk=psk, messages=messages, server=role is Role.SERVER)
        return context


def _key(
    role: Role,
    identities: Sequence[Identity],
    suites: Sequence[CipherSuite],
    psk: bool,
    choices: Choices,
    variant: int = 0,
) -> _Key:
    """Return the key of a context.

    ``variant``: a server's demand on its client; whether a client sends one key share.
    """
    # Plain values: an enum's hash costs more than the rest.
    codes = tuple([suite.code for suite in suites])
    if not identities:
        return int(role), psk, int(variant), codes, choices.key
    shown = [(identity.chain, hashlib.sha256(identity.private_key.reveal()).digest()) for identity in identities]
    return int(role), psk, int(variant), codes, choices.key, *shown


def _load_identities(context: SSL.Context, identities: Sequence[Identity]) -> None:
    try:
        if len(identities) == 1:
            context.set_mode(MODE_NO_AUTO_CHAIN)
            _load_leaf(context, identities[0])
            for certificate in read_chain(identities[0])[1:]:
                context.add_extra_chain_cert(certificate)
        elif identities:
            _load_several(context, identities)
    except (SSL.Error, crypto.Error, ValueError, IndexError) as error:
        problems = [problem.reason for problem in drain_errors()]
        if isinstance(error, (SSL.Error, crypto.Error)) and error.args and isinstance(error.args[0], list):
            problems += [entry[2] for entry in error.args[0]]
        detail = "; ".join(problems) or str(error)
        raise HandshakeFailed(Failure.NO_KEY, f"OpenSSL does not take our certificate and key: {detail}") from None


def _load_several(context: SSL.Context, identities: Sequence[Identity]) -> None:
    store = context.get_cert_store()
    assert store is not None
    loaded: set[str] = set()
    intermediates: set[bytes] = set()
    for identity in identities:
        intermediates.update(identity.chain[1:])
        kind = key_type(identity)
        if kind not in loaded:
            loaded.add(kind)
            _load_leaf(context, identity)
    for der in intermediates:
        store.add_cert(crypto.load_certificate(crypto.FILETYPE_ASN1, der))


def _load_leaf(context: SSL.Context, identity: Identity) -> None:
    context.use_certificate(read_chain(identity)[0])
    use_private_key(context, identity.private_key.reveal())
    context.check_privatekey()
