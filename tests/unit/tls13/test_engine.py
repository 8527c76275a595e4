"""Handshakes that succeed: two engines, each mode, hash, key type and group."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from OpenSSL import SSL
from OpenSSL._util import lib

from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import CertificateDemand, Identity, PresharedKey, Role, Secret
from hsframework.testing.certificates import Authority, generate_key
from hsframework_tls13.ciphers import SUITES, CipherSuite
from hsframework_tls13.contexts import CONTEXT, Contexts
from hsframework_tls13.engine import ClientEngine, ServerEngine
from hsframework_tls13.engine_client import sni
from hsframework_tls13.events import Data
from hsframework_tls13.openssl import Connection
from hsframework_tls13.recordlayer import RecordLayer
from hsframework_tls13.settings import KNOWN_GROUPS, Settings
from tests.unit.tls13.support import (
    CLIENT,
    CONTEXTS,
    KEY_256,
    KEY_384,
    ROOT,
    SERVER,
    believe,
    exchange,
    feed,
    records,
)


def client_engine(contexts: Contexts = CONTEXTS, **options: object) -> ClientEngine:
    return ClientEngine(contexts, **{"server_name": "server.example", "verify": believe, **options})  # type: ignore[arg-type]


def server_engine(contexts: Contexts = CONTEXTS, **options: object) -> ServerEngine:
    return ServerEngine(contexts, **{"identities": (SERVER,), "verify": believe, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_both_sides_have_the_same_session(suite: CipherSuite) -> None:
    """Same suite, secrets and group on both sides; and the record layers made from them understand each other."""
    client, server = exchange(client_engine(suites=(suite,)), server_engine())
    assert client.suite is server.suite is suite
    assert (client.client_secret, client.server_secret) == (server.client_secret, server.server_secret)
    assert client.exporter_secret == server.exporter_secret
    assert client.client_secret != client.server_secret
    assert client.group == server.group == "X25519MLKEM768"
    assert (client.role, server.role) == (Role.CLIENT, Role.SERVER)
    near, far = (RecordLayer(end.role, suite, end.client_secret, end.server_secret) for end in (client, server))
    assert far.receive_data(near.encrypt(b"from the client")) == [Data(b"from the client")]
    assert near.receive_data(far.encrypt(b"from the server")) == [Data(b"from the server")]


def test_a_client_is_told_whom_it_reached() -> None:
    """The path that verification accepted is the peer's identity; a server without a demand has none."""
    client, server = exchange(client_engine(), server_engine())
    assert client.peer.certificates == SERVER.chain
    assert server.peer.certificates == ()
    assert client.peer.psk_identity is None


@pytest.mark.parametrize("demand", CertificateDemand)
@pytest.mark.parametrize("identities", [(), (CLIENT,)], ids=["without", "with"])
def test_client_certificates(demand: CertificateDemand, identities: tuple[Identity, ...]) -> None:
    """Shown when asked for and there; a server that requires one is another test."""
    if demand is CertificateDemand.REQUIRE and not identities:
        identities = (CLIENT, CLIENT)
    _, server = exchange(client_engine(identities=identities), server_engine(client_certificate=demand))
    shown = bool(identities) and demand is not CertificateDemand.NONE
    assert server.peer.certificates == (CLIENT.chain if shown else ())


@pytest.mark.parametrize("key", [KEY_256, KEY_384], ids=["sha256", "sha384"])
def test_psk(key: PresharedKey) -> None:
    """An external PSK of either hash, NVMe's identities with their spaces; no certificates."""
    asked: list[bytes] = []
    client, server = client_engine(psk=key), server_engine(psk=True, identities=())
    for record in records(client.data_to_send()):
        server.feed(record)
    asked += server.psk_identities
    server.provide_psk(key)
    ends = exchange(client, server)
    assert asked == [key.identity]
    assert all(end.peer.psk_identity == key.identity and not end.peer.certificates for end in ends)
    assert all(end.suite.hash == key.hash for end in ends)
    assert ends[0].client_secret == ends[1].client_secret


@pytest.mark.parametrize(("theirs", "ours"), [("sha256", "sha384"), ("sha384", "sha256")])
def test_psk_of_another_hash(theirs: str, ours: str) -> None:
    """One key, two ideas of its hash: said so, where OpenSSL finds garbage."""
    client = client_engine(psk=replace(KEY_256, hash=theirs))
    server = server_engine(psk=True, identities=())
    for record in records(client.data_to_send()):
        server.feed(record)
    with pytest.raises(HandshakeFailed, match=f"it is for {ours}") as caught:
        server.provide_psk(replace(KEY_256, hash=ours))
    assert caught.value.failure is Failure.NO_COMMON_PARAMETERS
    for record in records(server.data_to_send()):
        with pytest.raises(HandshakeFailed) as refused:
            client.feed(record)
    assert refused.value.peer_alert == 40


@pytest.mark.parametrize("identity", [b"\0", b"a\0b", b"x" * 1000, bytes(range(256)), "schlüssel".encode()])
@pytest.mark.parametrize("size", [1, 16, 48, 64, 512])
def test_psk_identities_and_keys_of_any_form(identity: bytes, size: int) -> None:
    """NUL bytes, long names, short and long keys."""
    key = PresharedKey(identity, Secret(b"k" * size))
    client, server = exchange(client_engine(psk=key), server_engine(psk=True), key)
    assert client.peer.psk_identity == server.peer.psk_identity == identity


@pytest.mark.parametrize("key_type", ["rsa-2048", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519", "ml-dsa-44",
                                      "ml-dsa-65", "ml-dsa-87"])  # fmt: skip
def test_every_key_type(key_type: str) -> None:
    """A server's and a client's key of each type, with an intermediate in the chain."""
    authority = Authority(key_type=key_type)
    leaf = authority.intermediate(key_type=key_type).issue(key_type=key_type).identity
    client, server = exchange(
        client_engine(identities=(leaf,)),
        server_engine(identities=(leaf,), client_certificate=CertificateDemand.REQUIRE),
    )
    assert client.peer.certificates == server.peer.certificates == leaf.chain
    assert len(leaf.chain) == 2


@pytest.mark.parametrize("group", KNOWN_GROUPS)
def test_every_group(group: str) -> None:
    """Each group that the settings know is negotiated when it is the only one."""
    contexts = Contexts(Settings(groups=(group,), key_shares=(group,)))
    client, server = exchange(client_engine(contexts), server_engine(contexts))
    assert client.group.lower() == server.group.lower() == openssl_name(group)


def openssl_name(group: str) -> str:
    return {"P-256": "secp256r1", "P-384": "secp384r1", "P-521": "secp521r1"}.get(group, group).lower()


def test_hello_retry_request() -> None:
    """A server that wants a group of which the client sent no key share gets it in a second ClientHello."""
    wants_p384 = Contexts(Settings(groups=("P-384",), key_shares=("P-384",)))
    client = client_engine()
    assert len(client._output) > 1000
    established, _ = exchange(client, server_engine(wants_p384))
    assert established.group == "secp384r1"


def test_hello_retry_request_with_a_psk() -> None:
    """The same while a PSK is offered: its binder is made again."""
    wants_p384 = Contexts(Settings(groups=("P-384",), key_shares=("P-384",)))
    client, server = exchange(client_engine(psk=KEY_384), server_engine(wants_p384, psk=True), KEY_384)
    assert client.group == "secp384r1"
    assert server.peer.psk_identity == KEY_384.identity


RSA = Authority("RSA Root", "rsa-2048").intermediate("RSA Issuing", "rsa-2048")
EC = Authority("EC Root").intermediate("EC Issuing")
RSA_LEAF, EC_LEAF = RSA.issue(["server.example"], "rsa-2048").identity, EC.issue(["server.example"]).identity


@pytest.mark.parametrize(("algorithms", "expected"), [("RSA-PSS+SHA256", RSA_LEAF), ("ECDSA+SHA256", EC_LEAF)])
@pytest.mark.parametrize("order", [(RSA_LEAF, EC_LEAF), (EC_LEAF, RSA_LEAF)], ids=["rsa first", "ec first"])
def test_the_peers_signature_algorithms_choose(
    algorithms: str, expected: Identity, order: tuple[Identity, ...]
) -> None:
    """Two identities: a server's and a client's choice, each with the chain of its own leaf."""
    only = limited_contexts(algorithms)
    client, _ = exchange(client_engine(only), server_engine(identities=order))
    assert client.peer.certificates == expected.chain
    _, server = exchange(
        client_engine(identities=order),
        server_engine(only, identities=(expected,), client_certificate=CertificateDemand.REQUIRE),
    )
    assert server.peer.certificates == expected.chain


def limited_contexts(algorithms: str) -> Contexts:
    """Make contexts whose peers are offered these signature algorithms alone."""

    class Limited(Contexts):
        def _make(self, *arguments: object) -> SSL.Context:
            context = super()._make(*arguments)  # type: ignore[arg-type]
            assert lib.SSL_CTX_set1_sigalgs_list(context._context, algorithms.encode()) == 1
            return context

    return Limited(Settings())


@pytest.mark.parametrize("name", ["one.example", "two.example", "host.wild.example", "TWO.EXAMPLE."])
def test_the_clients_name_chooses_between_alike(name: str) -> None:
    """Identities of one key type: the one whose certificate has the name that the client asks for; else the first."""
    identities = {"one": ROOT.issue(["one.example"]), "two": ROOT.issue(["two.example"]),
                  "wild": ROOT.issue(["*.wild.example"])}  # fmt: skip
    expected = identities[{"host": "wild"}.get(name.partition(".")[0].lower(), name.partition(".")[0].lower())]
    server = server_engine(identities=[credential.identity for credential in identities.values()])
    client, _ = exchange(client_engine(server_name=name), server)
    assert client.peer.certificates == expected.chain
    server = server_engine(identities=[credential.identity for credential in identities.values()])
    client, _ = exchange(client_engine(server_name="other.example"), server)
    assert client.peer.certificates == identities["one"].chain


def test_a_client_with_two_keys_of_one_type_shows_the_first() -> None:
    """As documented: OpenSSL has one place for each type."""
    other = ROOT.issue(["other.example"]).identity
    _, server = exchange(
        client_engine(identities=(CLIENT, other)), server_engine(client_certificate=CertificateDemand.REQUIRE)
    )
    assert server.peer.certificates == CLIENT.chain


@pytest.mark.parametrize(
    ("offered", "accepted", "chosen"),
    [(("h2", "sunrpc"), ("sunrpc",), "sunrpc"), (("b", "a"), ("a", "b"), "a"), ((), ("a",), None), (("a",), (), None),
     ((), (), None)],
)  # fmt: skip
def test_alpn(offered: tuple[str, ...], accepted: tuple[str, ...], chosen: str | None) -> None:
    """The server's preference decides; without ALPN on one side there is none (unless settings ask for it)."""
    ends = exchange(client_engine(alpn=offered), server_engine(alpn=accepted))
    assert [end.alpn for end in ends] == [chosen, chosen]


@pytest.mark.parametrize(
    ("name", "sent"),
    [("server.example", b"server.example"), ("server.example.", b"server.example"), ("192.0.2.1", None),
     ("2001:db8::1", None), ("[2001:db8::1]", None), ("fe80::1%eth0", None), ("x" * 254, None), ("ü.example", None),
     ("", None), ("xn--tda.example", b"xn--tda.example"), ("server.example\0.other.example", None)],
)  # fmt: skip
def test_server_name(name: str, sent: bytes | None) -> None:
    """DNS names go into SNI, IP literals never, nor what is no name at all."""
    assert sni(name) == sent
    hello = client_engine(server_name=name).data_to_send()
    assert (b"\x00" + len(sent).to_bytes(2, "big") + sent in hello) if sent else name.encode() not in hello or not name


def test_no_tickets_are_sent() -> None:
    """After the client's Finished the server has nothing to send, so its first record has number 0."""
    client, server = client_engine(), server_engine()
    feed(server, client.data_to_send())
    feed(client, server.data_to_send())
    feed(server, client.data_to_send())
    assert server.finished
    assert server.data_to_send() == b""


def test_nothing_is_fed_after_the_end() -> None:
    """A record after the end is the session's: the engine refuses to take it."""
    client, server = client_engine(), server_engine()
    exchange(client, server)
    for engine in (client, server):
        with pytest.raises(RuntimeError, match="finished"):
            engine.feed(b"\x17\x03\x03\x00\x01x")


def test_the_session_is_not_there_before() -> None:
    """``established`` before the end is a mistake of the caller."""
    with pytest.raises(RuntimeError):
        client_engine().established  # noqa: B018


def test_the_caller_may_give_up() -> None:
    """``abort`` before the end: the peer gets the alert; after the end it changes nothing."""
    client, server = client_engine(), server_engine()
    feed(server, client.data_to_send())
    server.data_to_send()
    server.abort(HandshakeFailed(Failure.INTERNAL))
    assert server.data_to_send()
    finished = client_engine()
    exchange(finished, server_engine())
    finished.abort(HandshakeFailed(Failure.INTERNAL))
    assert finished.finished
    assert finished.data_to_send() == b""


def test_contexts_are_kept_and_bounded() -> None:
    """The same credentials share a context; the bytes of contexts have an end."""
    contexts = Contexts(Settings())
    contexts._contexts._own = 4 * CONTEXT
    for _ in range(3):
        exchange(client_engine(contexts), server_engine(contexts))
    assert len(contexts) == 2
    for _ in range(5):
        exchange(client_engine(contexts), server_engine(contexts, identities=(ROOT.issue().identity,)))
    assert len(contexts) == 3


def test_many_identities_have_a_context_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five hundred server certificates take turns: each context is made once, in the bytes of a process's default."""
    made: list[Identity] = []
    contexts = Contexts(Settings())
    make = Contexts._make

    def counted(self: Contexts, role: Role, identities: Sequence[Identity], *rest: Any) -> Any:
        made.extend(identities)
        return make(self, role, identities, *rest)

    monkeypatch.setattr(Contexts, "_make", counted)
    key = generate_key()
    identities = [ROOT.issue([f"host{number}.example"], key=key).identity for number in range(500)]
    for identity in (*identities, *identities):
        contexts.server(identity, CertificateDemand.NONE, SUITES)
    assert made == identities


def test_contexts_differ_where_credentials_do() -> None:
    """No two different sets of credentials have one key, however their bytes are cut."""
    shifted = replace(SERVER, chain=(*SERVER.chain, SERVER.chain[0]))
    contexts = Contexts(Settings())
    made = [
        contexts.server(SERVER, CertificateDemand.NONE, SUITES),
        contexts.server(SERVER, CertificateDemand.REQUEST, SUITES),
        contexts.server(SERVER, CertificateDemand.NONE, SUITES[:1]),
        contexts.server(shifted, CertificateDemand.NONE, SUITES),
        contexts.client((SERVER,), SUITES),
        contexts.client((), SUITES),
        contexts.client((), SUITES, psk=True),
    ]
    assert len({id(context) for context in made}) == len(made) == len(contexts)


def handshake_to_the_end() -> None:
    exchange(client_engine(), server_engine())


def handshake_given_up() -> None:
    feed(server_engine(), client_engine().data_to_send())


def handshake_refused() -> None:
    client, server = client_engine(verify=lambda _: 1 / 0), server_engine()
    feed(server, client.data_to_send())
    with pytest.raises(HandshakeFailed):
        feed(client, server.data_to_send())


@pytest.mark.parametrize("run", [handshake_to_the_end, handshake_given_up, handshake_refused])
def test_nothing_is_left_behind(run: Callable[[], None]) -> None:
    """No object of a handshake outlives it, and none needs the cycle collector: finished, given up or failed."""
    run()
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for _ in range(50):
            run()
        assert len(gc.get_objects()) - before < 50
    finally:
        gc.enable()


def test_a_connection_before_its_handshake() -> None:
    """Nothing is agreed on, and to ask for it is no crash."""
    connection = Connection(CONTEXTS.client((), SUITES), client=True)
    assert (connection.cipher, connection.group, connection.alpn) == ("", "", b"")
    assert not connection.resumed
    assert (connection.read(), connection.unread) == (b"", 0)
