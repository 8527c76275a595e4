"""A request's TLS policy in TLS 1.3: what is offered, what is agreed on, and what cannot be kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import AuthMode, Demand, PresharedKey, Request, Result
from hsframework.tls.client_hello import ClientHello, parse_client_hello
from hsframework_tls13.ciphers import SUITES
from hsframework_tls13.contexts import Contexts
from hsframework_tls13.plugin import Tls13Handshaker
from hsframework_tls13.policy import Offer
from hsframework_tls13.protocol import Tls13Protocol
from hsframework_tls13.records import HEADER_SIZE
from hsframework_tls13.settings import KNOWN_GROUPS, Settings
from tests.unit.tls13.engines import client_engine
from tests.unit.tls13.support import CONTEXTS, KEY_256, KEY_384, ROOT
from tests.unit.tls13.test_plugin import AS_CLIENT, AS_SERVER, both, known, run
from tests.unit.tls13.test_prediction import NEAR, Hellos, handshake, handshaker

CHACHA20_X25519 = "NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305:-GROUP-ALL:+GROUP-X25519"
AES_256_P384 = "NORMAL:-CIPHER-ALL:+AES-256-GCM:-GROUP-ALL:+GROUP-SECP384R1"
X25519, HYBRID, P256, P384 = 29, 4588, 23, 24


def asked(request: Request, *policies: str) -> Request:
    return replace(request, tls_priorities=policies)


def offer(policy: str, **settings: Any) -> Offer:
    contexts = Contexts(Settings(**settings))
    return contexts.offer(asked(AS_CLIENT, policy), contexts.settings.suites)


def hello(policy: str) -> ClientHello:
    """Return the ClientHello of a client with this policy."""
    offered = CONTEXTS.offer(asked(AS_CLIENT, policy), CONTEXTS.settings.suites)
    data = client_engine(suites=offered.suites, choices=offered.choices).data_to_send()
    return parse_client_hello(data[HEADER_SIZE + 4 :])


def agreed(client: Request, server: Request, handshaker: Tls13Handshaker | None = None) -> tuple[str, str]:
    """Return cipher and group of a handshake that succeeds."""
    first, second = run(both(client, server, *([handshaker] if handshaker else [])))
    assert isinstance(first, Result), first
    assert isinstance(second, Result), second
    assert first.tags == second.tags
    return first.tags["cipher"], first.tags["group"]


def refused(client: Request, server: Request, handshaker: Tls13Handshaker | None = None) -> list[Failure]:
    """Return the failures of a handshake at each end."""
    ends = run(both(client, server, *([handshaker] if handshaker else [])))
    failures = []
    for end in ends:
        assert isinstance(end, HandshakeFailed), end
        failures.append(end.failure)
    return failures


def test_without_a_policy_the_settings_are_offered() -> None:
    """The very objects that are kept for it."""
    found = CONTEXTS.offer(AS_CLIENT, SUITES)
    assert found.suites == SUITES
    assert found.choices is CONTEXTS.choices
    assert (found.choices.groups, found.choices.signatures) == (Settings().groups, ())


def test_a_client_offers_no_more_than_its_policy() -> None:
    """Ciphers, groups, key shares and signatures, in the policy's order."""
    shown = hello(f"{AES_256_P384}:+GROUP-SECP256R1:-SIGN-ALL:+SIGN-EdDSA-Ed25519:+SIGN-ECDSA-SECP256R1-SHA256")
    assert set(shown.cipher_suites) - {0xFF} == {0x1302}
    assert (shown.supported_groups, shown.key_share_groups) == ((P384, P256), (P384,))
    assert shown.signature_algorithms == (0x0807, 0x0403)


@pytest.mark.parametrize(
    ("policy", "shares"),
    [
        ("NORMAL", (HYBRID, X25519)),
        ("NORMAL:-GROUP-X25519-MLKEM768", (X25519,)),
        ("NORMAL:-GROUP-ALL:+GROUP-SECP256R1:+GROUP-X25519", (X25519,)),
        ("NORMAL:-GROUP-ALL:+GROUP-SECP256R1:+GROUP-SECP384R1", (P256,)),
    ],
)
def test_key_shares(policy: str, shares: tuple[int, ...]) -> None:
    """Those of the settings that the policy leaves; where it leaves none, one for its first group."""
    assert hello(policy).key_share_groups == shares
    assert tuple(KNOWN_GROUPS[name] for name in offer(policy).choices.key_shares) == shares


def test_every_signature_is_one_of_openssl() -> None:
    """OpenSSL takes each scheme that a policy can name."""
    everything = CONTEXTS.offer(asked(AS_CLIENT, "NORMAL"), SUITES)
    assert hello("NORMAL").signature_algorithms == everything.choices.signatures


def test_two_peers_at_the_same_time() -> None:
    """One handshaker speaks ChaCha20 with X25519 to one peer and AES-256 with P-384 to another."""
    assert agreed(asked(AS_CLIENT, CHACHA20_X25519), AS_SERVER) == ("TLS_CHACHA20_POLY1305_SHA256", "x25519")
    assert agreed(asked(AS_CLIENT, AES_256_P384), AS_SERVER) == ("TLS_AES_256_GCM_SHA384", "secp384r1")
    assert agreed(AS_CLIENT, asked(AS_SERVER, CHACHA20_X25519)) == ("TLS_CHACHA20_POLY1305_SHA256", "x25519")
    assert agreed(AS_CLIENT, asked(AS_SERVER, AES_256_P384)) == ("TLS_AES_256_GCM_SHA384", "secp384r1")
    assert agreed(AS_CLIENT, AS_SERVER) == ("TLS_AES_128_GCM_SHA256", "X25519MLKEM768")


@pytest.mark.parametrize("key", [KEY_256, KEY_384], ids=["sha256", "sha384"])
def test_with_a_pre_shared_key(key: PresharedKey) -> None:
    """Of the policy's ciphers, those with the key's hash; its groups hold as well."""
    client = replace(AS_CLIENT, auth_mode=AuthMode.PSK, psks=(key,))
    server = replace(AS_SERVER, auth_mode=AuthMode.PSK, identities=(), psk_lookup=known(key))
    policy = "NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305:+AES-256-GCM:-GROUP-ALL:+GROUP-SECP384R1"
    fitting = {"sha256": "TLS_CHACHA20_POLY1305_SHA256", "sha384": "TLS_AES_256_GCM_SHA384"}[key.hash]
    assert agreed(asked(client, policy), server) == (fitting, "secp384r1")
    assert agreed(client, asked(server, policy)) == (fitting, "secp384r1")


def test_a_pre_shared_key_whose_hash_no_cipher_has() -> None:
    """The failure of any settings without such a cipher, before anything is sent."""
    client = replace(AS_CLIENT, auth_mode=AuthMode.PSK, psks=(KEY_256,))
    ours, _ = run(both(asked(client, AES_256_P384), AS_SERVER))
    assert isinstance(ours, HandshakeFailed)
    assert ours.failure is Failure.NO_COMMON_PARAMETERS
    assert "no cipher that may be used has the key's hash sha256" in ours.detail


def test_policies_of_both_ends_without_anything_in_common() -> None:
    """The server finds nothing, and the client is told."""
    failures = refused(asked(AS_CLIENT, CHACHA20_X25519), asked(AS_SERVER, AES_256_P384))
    assert failures == [Failure.PEER_REFUSED, Failure.NO_COMMON_PARAMETERS]


def test_server_precedence() -> None:
    """Without it the client's preference counts, with it the server's."""
    client = asked(AS_CLIENT, "PERFORMANCE:-GROUP-ALL:+GROUP-SECP256R1:+GROUP-SECP384R1")
    server = "NORMAL:-GROUP-ALL:+GROUP-SECP384R1:+GROUP-SECP256R1"
    assert agreed(client, asked(AS_SERVER, server)) == ("TLS_AES_128_GCM_SHA256", "secp256r1")
    cipher, _ = agreed(client, asked(AS_SERVER, f"{server}:%SERVER_PRECEDENCE"))
    assert cipher == "TLS_AES_256_GCM_SHA384"


def test_a_server_shows_the_certificate_that_its_policy_can_sign_with() -> None:
    """Of two identities, the one whose key has a signature in the policy, also where the client prefers the other."""
    rsa, ecdsa = (ROOT.issue(["server.example"], key).identity for key in ("rsa-2048", "ecdsa-p256"))
    server = replace(AS_SERVER, identities=(rsa, ecdsa))
    for signature, identity in (("ECDSA-SECP256R1-SHA256", ecdsa), ("RSA-PSS-RSAE-SHA256", rsa)):
        policy = f"NORMAL:-SIGN-ALL:+SIGN-{signature}"
        client, _ = run(both(AS_CLIENT, asked(server, policy)))
        assert isinstance(client, Result), client
        assert client.peer.certificates[0] == identity.chain[0]
    only_ed25519 = asked(server, "NORMAL:-SIGN-ALL:+SIGN-EdDSA-Ed25519")
    assert refused(AS_CLIENT, only_ed25519) == [Failure.PEER_REFUSED, Failure.NO_COMMON_PARAMETERS]


@pytest.mark.parametrize(
    ("policies", "words"),
    [
        (("NORMAL:+ROT13",), "word 2 of the priority string"),
        ((CHACHA20_X25519, AES_256_P384), "no cipher in common"),
        (("NORMAL:-CIPHER-ALL:+AES-128-CCM",), "none of the ciphers in the settings: TLS_AES_256_GCM_SHA384"),
        (("NORMAL:-GROUP-ALL:+GROUP-X448",), "none of the groups in the settings: X25519, P-384"),
    ],
)
@pytest.mark.parametrize("role", ["client", "server"])
def test_what_cannot_be_kept(policies: tuple[str, ...], words: str, role: str) -> None:
    """NOT_OFFERED_HERE with the reason, and the peer gets it at once."""
    narrow = handshaker(
        ciphers=("TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"),
        groups=("X25519", "P-384"),
        key_shares=("X25519",),
    )
    ends = [asked(AS_CLIENT, *policies), AS_SERVER] if role == "client" else [AS_CLIENT, asked(AS_SERVER, *policies)]
    ours, theirs = run(both(ends[0], ends[1], narrow))[:: 1 if role == "client" else -1]
    assert isinstance(ours, HandshakeFailed), ours
    assert ours.failure is Failure.NOT_OFFERED_HERE
    assert words in ours.detail
    assert isinstance(theirs, HandshakeFailed), theirs
    assert theirs.peer_alert == Failure.NOT_OFFERED_HERE.alert


def test_a_policy_is_never_wider_than_the_settings() -> None:
    """A policy is never wider than the settings, with any words in any order."""
    narrow = {"ciphers": ("TLS_AES_256_GCM_SHA384",), "groups": ("P-384", "X25519"), "key_shares": ("X25519",)}
    for policy in ("NORMAL", "PERFORMANCE", "NORMAL:+GROUP-X448"):
        found = offer(policy, **narrow)
        assert [suite.name for suite in found.suites] == list(narrow["ciphers"])
        assert set(found.choices.groups) == set(narrow["groups"])
        assert found.choices.key_shares == ("X25519",)


def test_the_kernels_ciphers_are_a_bound_too() -> None:
    """A kernel consumer gets no session with a cipher that kTLS does not take."""
    request = replace(asked(AS_CLIENT, CHACHA20_X25519), kernel_consumer=True)
    with pytest.raises(HandshakeFailed, match="none of the ciphers of kTLS here: TLS_AES_128_GCM_SHA256"):
        CONTEXTS.offer(request, SUITES[:1])


def test_contexts_are_kept_for_each_policy() -> None:
    """Equal policies share a context; different ones never do, whatever differs."""
    contexts = Contexts(Settings())
    policies = ("NORMAL", "normal", "SECURE128", "NORMAL:-AES-128-CCM", "NORMAL:-GROUP-X25519",
                "NORMAL:-SIGN-EdDSA-Ed448", "NORMAL:%SERVER_PRECEDENCE")  # fmt: skip
    offers = [contexts.offer(asked(AS_CLIENT, policy), SUITES) for policy in policies]
    made = {id(contexts.client((), found.suites, choices=found.choices)) for found in offers}
    assert len(made) == len(contexts) == len(policies) - 1
    assert id(contexts.client((), SUITES)) not in made


def test_predictions_are_for_each_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    """One key share is sent where the same policy's best group was taken the last time."""
    hellos, client, server = Hellos(monkeypatch), handshaker(), handshaker()
    by_policy = asked(NEAR, "NORMAL")
    assert handshake(hellos, client, server) == ((HYBRID, X25519),)
    assert handshake(hellos, client, server, by_policy) == ((HYBRID, X25519),)
    assert handshake(hellos, client, server, by_policy) == ((HYBRID,),)
    assert handshake(hellos, client, server) == ((HYBRID,),)
    only = asked(NEAR, "NORMAL:-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1")
    for _ in range(2):
        assert handshake(hellos, client, server, only) == ((X25519,),)


def test_numbers_of_groups() -> None:
    """Each group of the settings is the one that OpenSSL offers under its name."""
    for name, code in KNOWN_GROUPS.items():
        alone = Contexts(Settings(groups=(name,), key_shares=(name,)))
        data = client_engine(alone).data_to_send()
        assert parse_client_hello(data[HEADER_SIZE + 4 :]).supported_groups == (code,)


def test_the_protocol_says_so() -> None:
    """Else the agent would refuse each request that has a policy."""
    assert Demand.TLS_POLICIES in Tls13Protocol.understands
