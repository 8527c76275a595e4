"""Each way to fail, with OpenSSL and GnuTLS at the other end: the consumer's errno and the alert that the peer saw are
those of the table in ``hsframework.failures``."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest

from hsframework.client import HandshakeOptions
from hsframework.errors import HandshakeError
from hsframework.failures import Failure
from hsframework.interface import CertificateDemand, Identity, PresharedKey, Role, Secret, Trust
from tests.support.doors import Door
from tests.support.long_lists import entry, list_of
from tests.support.meetings import GNUTLS_PSK, SHA256, SHA384, TIMEOUT, Pki, meeting
from tests.support.peer_programs import Kind, Setup
from tests.support.processes import unread

pytestmark = pytest.mark.peers

BOTH: tuple[Kind, ...] = ("openssl", "gnutls")
OPENSSL: tuple[Kind, ...] = ("openssl",)
GNUTLS: tuple[Kind, ...] = ("gnutls",)
TLS12: dict[str, Any] = {"version": "-tls1_2", "priority": "NORMAL:-VERS-ALL:+VERS-TLS1.2"}
NO_CIPHER: dict[str, Any] = {
    "openssl": ["-ciphersuites", "TLS_AES_128_CCM_8_SHA256"],
    "priority": "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-CCM-8",
}
NO_GROUP: dict[str, Any] = {
    "openssl": ["-groups", "X448"],
    "priority": "NORMAL:-VERS-ALL:+VERS-TLS1.3:-GROUP-ALL:+GROUP-X448",
}
WRONG_KEY = PresharedKey(SHA256.identity, Secret(bytes(32)))
UNKNOWN = PresharedKey(b"NVMe1R01 nqn.2014-08.org.nvmexpress:nobody nqn.x", Secret(bytes(32)))


@dataclass(frozen=True)
class Row:
    """``options`` and ``setup`` are ours and the peer's.  ``says``: alerts of a peer that refuses us.

    Several: the two libraries, or versions of one, differ; the consumer is told which it was.
    """

    title: str
    failure: Failure
    options: Callable[[Pki], HandshakeOptions]
    setup: Callable[[Pki], Setup]
    kinds: tuple[Kind, ...] = BOTH
    says: tuple[int, ...] = ()

    def __str__(self) -> str:
        return self.title.replace(" ", "-")


def shows(what: str) -> Callable[[Pki], Setup]:
    """Let the peer show a certificate with a property."""
    return lambda pki: Setup(identity=pki.files(what))


def does(**changes: Any) -> Callable[[Pki], Setup]:
    """Let the peer show a good certificate, and be otherwise as said."""
    return lambda pki: Setup(**{"identity": pki.files("good"), **changes})


def anonymous(**changes: Any) -> Callable[[Pki], Setup]:
    """Let the peer show no certificate, and be as said."""
    return lambda pki: Setup(**changes)


def verifies(ca: Literal["ca", "strange_ca"], name: str | None = None) -> Callable[[Pki], Setup]:
    """Let the peer be a client that trusts one authority and wants a name."""
    return lambda pki: Setup(trust=getattr(pki, ca), name=name)


def wants(**changes: Any) -> Callable[[Pki], HandshakeOptions]:
    """Let us be a client, as said."""
    return lambda pki: pki.client(**changes)


def serves(**changes: Any) -> Callable[[Pki], HandshakeOptions]:
    """Let us be a server, as said."""
    return lambda pki: pki.server(**changes)


def shows_ours(what: str) -> Callable[[Pki], HandshakeOptions]:
    """Let us be a server whose certificate has a property."""
    return lambda pki: pki.server(identities=(pki.leaf(what).identity,))


def demands(pki: Pki) -> HandshakeOptions:
    """Let us be a server that requires a certificate."""
    return pki.server(trust=pki.trust, client_certificate=CertificateDemand.REQUIRE)


def revoking(pki: Pki) -> Trust:
    """Return trust with the lists of every authority; the good certificate and one intermediate are revoked."""
    return pki.root.trust(pki.issuing.crl([pki.leaf("good")]), pki.root.crl([pki.retired]), pki.retired.crl())


@cache
def revoking_at_length(pki: Pki) -> Trust:
    """Return trust with a list of 100,000 entries, 4 MB, whose last is the good certificate."""
    others = (entry((1 << 120) + number) for number in range(100_000))
    return pki.root.trust(list_of(pki.issuing, [*others, entry(pki.leaf("good").serial_number)]))


def wants_long_list(pki: Pki) -> HandshakeOptions:
    return pki.client(trust=revoking_at_length(pki))


def demands_long_list(pki: Pki) -> HandshakeOptions:
    return pki.server(trust=revoking_at_length(pki), client_certificate=CertificateDemand.REQUIRE)


def wants_revoking(pki: Pki) -> HandshakeOptions:
    return pki.client(trust=revoking(pki))


def demands_revoking(pki: Pki) -> HandshakeOptions:
    return pki.server(trust=revoking(pki), client_certificate=CertificateDemand.REQUIRE)


def wants_without_key(pki: Pki) -> HandshakeOptions:
    return pki.client(identities=(without_its_key(pki),))


def serves_without_key(pki: Pki) -> HandshakeOptions:
    return pki.server(identities=(without_its_key(pki),))


def wants_listed(pki: Pki) -> HandshakeOptions:
    """Let us be a client that admits nobody but one peer, which this one is not."""
    return pki.client(trust=replace(pki.trust, admit=("dns:another.example",)))


def demands_listed(pki: Pki) -> HandshakeOptions:
    return replace(demands(pki), trust=replace(pki.trust, admit=("dns:another.example", "uri:spiffe://example/**")))


def without_its_key(pki: Pki) -> Identity:
    return Identity(pki.leaf("good").chain, pki.leaf("expired").identity.private_key)


def with_psk(role: Role, *keys: PresharedKey) -> Callable[[Pki], HandshakeOptions]:
    return lambda pki: HandshakeOptions(role=role, psks=keys, timeout=TIMEOUT)


def has_psk(key: PresharedKey) -> Callable[[Pki], Setup]:
    return lambda pki: Setup(psk=key, priority=GNUTLS_PSK)


AS_CLIENT = [
    Row("unknown authority", Failure.UNTRUSTED, wants(), shows("a stranger's")),
    Row("self-signed", Failure.UNTRUSTED, wants(), shows("self-signed")),
    Row("no trust at all", Failure.UNTRUSTED, wants(trust=None), shows("good")),
    Row("wrong name", Failure.WRONG_NAME, wants(peer_name="other.example"), shows("good")),
    Row("wrong address", Failure.WRONG_NAME, wants(peer_name="127.0.0.2"), shows("good")),
    Row("expired", Failure.EXPIRED, wants(), shows("expired")),
    Row("not yet valid", Failure.EXPIRED, wants(), shows("not yet valid")),
    Row("revoked", Failure.REVOKED, wants_revoking, shows("good")),
    Row("revoked in a long list", Failure.REVOKED, wants_long_list, shows("good")),
    Row("authority revoked", Failure.REVOKED, wants_revoking, shows("below retired")),
    Row("not on the list", Failure.NOT_AUTHORIZED, wants_listed, shows("good")),
    Row("not for servers", Failure.WRONG_USAGE, wants(), shows("for clients")),
    Row("spoilt signature", Failure.BAD_CERTIFICATE, wants(), shows("spoilt")),
    Row("certificate where a key was wanted", Failure.NO_COMMON_PARAMETERS, with_psk(Role.CLIENT, SHA256),
        shows("good")),
    Row("our key does not fit", Failure.NO_KEY, wants_without_key, shows("good"), GNUTLS),
    Row("only TLS 1.2", Failure.PEER_REFUSED, wants(), does(**TLS12), says=(70, 40)),
    Row("no common cipher", Failure.PEER_REFUSED, wants(), does(**NO_CIPHER), says=(40,)),
    Row("no common group", Failure.PEER_REFUSED, wants(), does(**NO_GROUP), says=(40,)),
    Row("no common protocol", Failure.PEER_REFUSED, wants(alpn=("sunrpc",)), does(alpn=("h2",)), says=(120,)),
    Row("unknown key", Failure.PEER_REFUSED, with_psk(Role.CLIENT, UNKNOWN), has_psk(SHA256), says=(40, 47, 115)),
    Row("wrong key", Failure.PEER_REFUSED, with_psk(Role.CLIENT, WRONG_KEY), has_psk(SHA256), says=(47, 51)),
]  # fmt: skip

AS_SERVER = [
    Row("no certificate", Failure.NO_PEER_CERTIFICATE, demands, anonymous()),
    Row("unknown authority", Failure.UNTRUSTED, demands, shows("a stranger's")),
    Row("expired", Failure.EXPIRED, demands, shows("expired")),
    Row("not yet valid", Failure.EXPIRED, demands, shows("not yet valid")),
    Row("revoked", Failure.REVOKED, demands_revoking, shows("good")),
    Row("revoked in a long list", Failure.REVOKED, demands_long_list, shows("good")),
    Row("not on the list", Failure.NOT_AUTHORIZED, demands_listed, shows("good")),
    Row("not for clients", Failure.WRONG_USAGE, demands, shows("for servers")),
    Row("spoilt signature", Failure.BAD_CERTIFICATE, demands, shows("spoilt")),
    Row("our key does not fit", Failure.NO_KEY, serves_without_key, anonymous()),
    Row("only TLS 1.2", Failure.VERSION, serves(), anonymous(**TLS12)),
    Row("only TLS 1.2 and a key", Failure.VERSION, with_psk(Role.SERVER, SHA256), anonymous(**TLS12)),
    Row("no common cipher", Failure.NO_COMMON_PARAMETERS, serves(), anonymous(**NO_CIPHER)),
    Row("no common group", Failure.NO_COMMON_PARAMETERS, serves(), anonymous(**NO_GROUP)),
    Row("no common signature", Failure.NO_COMMON_PARAMETERS, serves(), anonymous(openssl=["-sigalgs",
        "RSA-PSS+SHA256"]), OPENSSL),
    Row("no common protocol", Failure.NO_COMMON_ALPN, serves(alpn=("sunrpc",)), anonymous(alpn=("h2",))),
    Row("no key offered", Failure.NO_COMMON_PARAMETERS, with_psk(Role.SERVER, SHA256), anonymous()),
    Row("unknown key", Failure.UNKNOWN_PSK, with_psk(Role.SERVER, SHA256, SHA384), has_psk(UNKNOWN)),
    Row("wrong key", Failure.BAD_BINDER, with_psk(Role.SERVER, SHA256), has_psk(WRONG_KEY)),
    Row("peer does not trust us", Failure.PEER_REFUSED, serves(), verifies("strange_ca", "server.example"),
        OPENSSL, (48,)),
    Row("peer wants another name", Failure.PEER_REFUSED, serves(), verifies("ca", "other.example"), OPENSSL, (42,)),
    Row("we are expired", Failure.PEER_REFUSED, shows_ours("expired"), verifies("ca"), OPENSSL, (45,)),
]  # fmt: skip


def cases(rows: list[Row]) -> list[Any]:
    return [pytest.param(kind, row, id=f"{row}-{kind}") for row in rows for kind in row.kinds]


@pytest.mark.parametrize(("kind", "row"), cases(AS_CLIENT))
def test_as_client(kind: Kind, row: Row, sync_door: Door, pki: Pki, tmp_path: Path) -> None:
    """We are the client."""
    check(Role.CLIENT, kind, row, sync_door, pki, tmp_path)


@pytest.mark.parametrize(("kind", "row"), cases(AS_SERVER))
def test_as_server(kind: Kind, row: Row, sync_door: Door, pki: Pki, tmp_path: Path) -> None:
    """We are the server."""
    check(Role.SERVER, kind, row, sync_door, pki, tmp_path)


def check(role: Role, kind: Kind, row: Row, door: Door, pki: Pki, folder: Path) -> None:
    """Check that the handshake fails in the way that the row says, for both sides."""
    with meeting(role, kind, row.setup(pki), folder) as (peer, sock):
        with pytest.raises(HandshakeError) as caught:
            door.handshake(sock, row.options(pki))
        assert caught.value.errno == row.failure.errno, caught.value
        assert str(caught.value).startswith(row.failure.meaning), caught.value
        if row.failure is Failure.PEER_REFUSED:
            assert any(f"alert {alert} " in str(caught.value) for alert in row.says), caught.value
        if row.failure.alert is not None:
            assert peer.alert() == row.failure.alert


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("role", list(Role))
def test_not_authorized(kind: Kind, role: Role, door: Door, pki: Pki, tmp_path: Path) -> None:
    """A plugin's hook refuses a peer that TLS has no objection to: no session for us, access_denied for the peer."""
    setup = Setup(identity=pki.files("unwelcome"))
    with meeting(role, kind, setup, tmp_path) as (peer, sock):
        with pytest.raises(HandshakeError, match=r"unwelcome\.example") as caught:
            door.handshake(sock, pki.client() if role is Role.CLIENT else demands(pki))
        assert caught.value.errno == Failure.NOT_AUTHORIZED.errno
        assert peer.alert() == Failure.NOT_AUTHORIZED.alert


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("role", list(Role))
def test_who_is_on_the_list_is_admitted(kind: Kind, role: Role, door: Door, pki: Pki, tmp_path: Path) -> None:
    """By its name, and by the authority that has issued its certificate; a list in a trust reaches the judge."""
    for listed in ("dns:server.example", f"issuer:{pki.issuing.subject.rfc4514_string()}"):
        trust = replace(pki.trust, admit=("dns:another.example", listed))
        options = pki.client() if role is Role.CLIENT else demands(pki)
        with meeting(role, kind, Setup(identity=pki.files("good")), tmp_path) as (_, sock):
            door.handshake(sock, replace(options, trust=trust)).close()


@pytest.mark.parametrize("kind", BOTH)
def test_refused_without_a_trace(kind: Kind, door: Door, pki: Pki, tmp_path: Path) -> None:
    """After a failure the service goes on: the next handshake succeeds, with either form of the client."""
    for name, number in (("other.example", errno.EKEYREJECTED), ("server.example", 0)):
        with meeting(Role.CLIENT, kind, Setup(identity=pki.files("good")), tmp_path) as (_, sock):
            if number:
                with pytest.raises(HandshakeError) as caught:
                    door.handshake(sock, pki.client(peer_name=name))
                assert caught.value.errno == number
            else:
                door.handshake(sock, pki.client(peer_name=name)).close()


@pytest.mark.parametrize("kind", BOTH)
def test_peer_refuses_our_name(kind: Kind, sync_door: Door, pki: Pki, tmp_path: Path) -> None:
    """A client that refuses our certificate in its own way; what it says is what the consumer is told."""
    setup = Setup(trust=pki.strange_ca, name="server.example")
    with meeting(Role.SERVER, kind, setup, tmp_path) as (_, sock):
        with pytest.raises(HandshakeError, match=r"alert (42|46|48) ") as caught:
            sync_door.handshake(sock, pki.server())
        assert caught.value.errno == Failure.PEER_REFUSED.errno


@pytest.mark.parametrize("kind", BOTH)
def test_peer_that_hangs(kind: Kind, door: Door, pki: Pki, tmp_path: Path) -> None:
    """A server that is stopped says nothing: the handshake ends at its deadline."""
    with meeting(Role.CLIENT, kind, Setup(identity=pki.files("good")), tmp_path) as (peer, sock):
        os.kill(peer.pid, signal.SIGSTOP)
        try:
            with pytest.raises(HandshakeError) as caught:
                door.handshake(sock, pki.client(timeout=0.3))
        finally:
            os.kill(peer.pid, signal.SIGCONT)
        assert caught.value.errno == Failure.SILENCE.errno


@pytest.mark.parametrize("kind", BOTH)
def test_peer_that_dies(kind: Kind, door: Door, pki: Pki, tmp_path: Path) -> None:
    """A server that is killed when our ClientHello has come, and its answer has not, is gone, which is told at once."""
    with meeting(Role.CLIENT, kind, Setup(identity=pki.files("good")), tmp_path) as (peer, sock):
        os.kill(peer.pid, signal.SIGSTOP)
        our_port = sock.getsockname()[1]

        def kill() -> None:
            peer.poll_until(lambda: unread(peer.port, our_port) > 0, "a ClientHello")
            os.kill(peer.pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(HandshakeError) as caught:
            door.handshake(sock, pki.client())
        killer.join()
        assert caught.value.errno == Failure.PEER_GONE.errno
