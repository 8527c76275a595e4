"""Options of a consumer, and the message that follows from them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from hsframework.client import HandshakeOptions
from hsframework.client.submits import Submits, encode_submit
from hsframework.client.trusts import LARGE
from hsframework.errors import ConfigurationError, MessageError, RequestRefused
from hsframework.interface import (
    AuthMode,
    CertificateDemand,
    ClientUsage,
    CrlCheck,
    Identity,
    PresharedKey,
    Role,
    Secret,
    Trust,
)
from hsframework.local.packets import MAX_PACKET
from hsframework.netlink.messages import without_sequence
from hsframework.netlink.spec import builtin_specification
from tests.unit.client.fake_dispatcher import CODEC

IDENTITY = Identity((b"leaf", b"issuer"), Secret(b"key"))
KEY = PresharedKey(b"me", Secret(bytes(32)), "sha384")

OPTIONS: dict[str, Any] = {
    "role": Role.SERVER,
    "group": "g",
    "auth_mode": AuthMode.X509,
    "profile": "p",
    "identities": (IDENTITY,),
    "psks": (KEY,),
    "trust": Trust((b"root",), (b"list",), CrlCheck.REQUIRE),
    "client_certificate": CertificateDemand.NONE,
    "alpn": ("h2", "sunrpc"),
    "timeout": 1.5,
    "attributes": b"own",
    "urgency": 3,
    "tls_priorities": "SECURE192",
}
"""A value for each field that a server has."""
LARGE_TRUST = Trust((b"root",), (bytes(LARGE),), CrlCheck.REQUIRE)
CLIENT_ALONE = {"peername": "server.example", "any-peer-name": True}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"timeout": 0}, "timeout is 0"),
        ({"timeout": 3601}, "at most 3600"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"urgency": 8}, "0 to 7"),
        ({"tls_priorities": ("NORMAL",)}, "give a priority string"),
        ({"tls_priorities": ""}, "tls_priorities: a priority string is empty"),
        ({"tls_priorities": "NORMAL:+ROT13"}, "tls_priorities: word 2 of the priority string, '.ROT13', is not known"),
        ({"group": ""}, "group is empty"),
        ({"peer_name": "a\0b"}, "peer_name is empty or holds a NUL"),
        ({"profile": ""}, "profile is empty"),
        ({"group": 3}, "group is 3: give a text"),
        ({"role": "server"}, "Role.SERVER"),
        ({"trust": "ca.pem"}, "load_trust"),
        ({"alpn": "h2"}, "give a tuple"),
        ({"alpn": ("",)}, "1 to 255 bytes"),
        ({"alpn": ("x" * 256,)}, "1 to 255 bytes"),
        ({"psks": (PresharedKey(b"", Secret(b"k")),)}, "identity has 0 bytes"),
        ({"psks": (PresharedKey(b"i", Secret(b"")),)}, "empty key"),
        ({"psks": (PresharedKey(b"i", Secret(b"k"), "md5"),)}, "sha256 or sha384"),
        ({"role": Role.SERVER, "peer_name": "client.example"}, "leave it out for a server"),
        ({"role": Role.SERVER, "auth_mode": AuthMode.UNAUTHENTICATED}, "X509 or PSK"),
        ({"client_certificate": CertificateDemand.REQUIRE}, "set role to SERVER"),
    ],
)
def test_wrong_options_are_refused_when_they_are_made(fields: dict[str, Any], text: str) -> None:
    """Each rule raises ConfigurationError with a text that says what to change."""
    with pytest.raises(ConfigurationError, match=text):
        HandshakeOptions(**fields)


@pytest.mark.parametrize(
    ("fields", "mode"),
    [
        ({}, AuthMode.UNAUTHENTICATED),
        ({"psks": (KEY,)}, AuthMode.PSK),
        ({"identities": (IDENTITY,)}, AuthMode.X509),
        ({"profile": "nfs"}, AuthMode.X509),
        ({"role": Role.SERVER}, AuthMode.X509),
        ({"role": Role.SERVER, "psks": (KEY,)}, AuthMode.PSK),
        ({"identities": (IDENTITY,), "auth_mode": AuthMode.UNAUTHENTICATED}, AuthMode.UNAUTHENTICATED),
    ],
)
def test_auth_mode_follows_from_the_other_fields(fields: dict[str, Any], mode: AuthMode) -> None:
    """Unless it is named, the auth mode is what the credentials are for."""
    assert HandshakeOptions(**fields).effective_auth_mode is mode


def test_submit_carries_every_field() -> None:
    """The dispatcher decodes the values of the options."""
    message = CODEC.decode(Submits(None).encode(HandshakeOptions(**OPTIONS), 77))
    assert message.sequence == 77
    assert message.values == {
        "group": "g",
        "message-type": 2,
        "auth-mode": 3,
        "profile": "p",
        "timeout": 1500,
        "identity": [{"certificate": [b"leaf", b"issuer"], "private-key": Secret(b"key")}],
        "psk": [{"identity": b"me", "key": Secret(bytes(32)), "hash": "sha384"}],
        "trust-anchor": [b"root"],
        "crl": [b"list"],
        "crl-check": 1,
        "client-certificate": 0,
        "alpn": ["h2", "sunrpc"],
        "urgency": 3,
        "tls-priorities": ["SECURE192"],
        "attributes": b"own",
    }


def test_a_client_names_its_peer_or_says_that_any_name_will_do() -> None:
    """Trust without a peer's name is refused; any_peer_name reaches the service; IDN names go as A-labels."""
    trust = Trust((b"root",))
    with pytest.raises(ConfigurationError, match="any_peer_name"):
        HandshakeOptions(trust=trust)
    values = CODEC.decode(encode_submit(HandshakeOptions(trust=trust, any_peer_name=True), None)).values
    assert values["any-peer-name"] is True
    assert HandshakeOptions(trust=trust, peer_name="b\u00fccher.example").submit_values()["peername"] == (
        "xn--bcher-kva.example"
    )


def test_every_field_and_every_attribute_is_tried() -> None:
    """A new field of the options, or attribute of ``submit``, has its line in the test above, and in the message."""
    fields = {field.name for field in dataclasses.fields(HandshakeOptions)}
    assert {*OPTIONS, "peer_name", "any_peer_name"} == fields, "say the new field in OPTIONS"
    large = HandshakeOptions(trust=LARGE_TRUST, any_peer_name=True).submit_values()
    assert large.keys().isdisjoint({"trust-anchor", "crl", "crl-check"})
    values = {**HandshakeOptions(**OPTIONS).submit_values(b"own"), **CLIENT_ALONE, **large}
    assert values.keys() == builtin_specification("local").operations["submit"].request


def test_what_is_not_said_is_not_sent() -> None:
    """A plain client sends its group, role and auth mode alone, so that the profile's values stand."""
    message = CODEC.decode(encode_submit(HandshakeOptions(), None))
    assert message.values == {"group": "tls13", "message-type": 1, "auth-mode": 1}


@pytest.mark.parametrize(
    ("fields", "sent"),
    [({}, None), ({"auth_mode": AuthMode.PSK}, 2), ({"identities": (IDENTITY,)}, 3), ({"psks": (KEY,)}, 2)],
    ids=["nothing", "a mode", "identities", "keys"],
)
def test_the_auth_mode_is_left_to_the_profile(fields: dict[str, Any], sent: int | None) -> None:
    """Unless the options name one or bring keys: the program does not know what the profile has."""
    assert HandshakeOptions(profile="p", **fields).submit_values()["auth-mode"] == sent


def test_timeout_is_at_least_a_millisecond() -> None:
    """A tiny timeout does not become 0, which means something else on the wire."""
    assert HandshakeOptions(timeout=0.0001).submit_values()["timeout"] == 1


def test_a_request_too_large_for_a_message_is_refused() -> None:
    """Many keys: the text says how many bytes, and what to do instead."""
    options = HandshakeOptions(psks=tuple(PresharedKey(bytes(60000), Secret(b"key")) for _ in range(4)))
    with pytest.raises(RequestRefused, match=f"{MAX_PACKET} fit into one.*name a profile") as caught:
        encode_submit(options, None)
    assert caught.value.errno_name == "EMSGSIZE"


def test_an_item_too_large_for_an_attribute_is_refused() -> None:
    """One certificate of more than 64 KiB is named by its attribute."""
    with pytest.raises(RequestRefused, match="certificate"):
        encode_submit(HandshakeOptions(identities=(Identity((bytes(70000),), Secret(b"key")),)), None)


def test_an_unusual_trust_is_named_too() -> None:
    """A submit has no attribute for the usage of clients' certificates, which the file has."""
    trust = Trust((b"root",), client_usage=ClientUsage.TLS)
    options = HandshakeOptions(trust=trust, role=Role.SERVER, client_certificate=CertificateDemand.REQUIRE)
    values = CODEC.decode(encode_submit(options, None)).values
    assert values["trust-id"]
    assert "trust-anchor" not in values


@pytest.mark.parametrize("size", [LARGE - 1, LARGE])
def test_a_large_trust_is_named_and_not_brought(size: int) -> None:
    """From 64 KiB on a submit has the number of the trust alone; below it, all that the trust has."""
    trust = Trust((b"root",), (bytes(size - 4),), CrlCheck.REQUIRE)
    values = CODEC.decode(encode_submit(HandshakeOptions(trust=trust, any_peer_name=True), None)).values
    assert ("trust-id" in values) is (size >= LARGE)
    assert ("crl" in values) is ("crl-check" in values) is ("trust-anchor" in values) is (size < LARGE)


def test_options_do_not_show_secrets() -> None:
    """Neither key appears in a repr."""
    options = HandshakeOptions(identities=(Identity((b"leaf",), Secret(b"TOPSECRET")),))
    assert "TOPSECRET" not in repr(options)


def test_a_number_changes_itself_alone() -> None:
    """The rest of the message stays byte for byte."""
    options = HandshakeOptions(peer_name="server.example")
    data = encode_submit(options, None)
    other = Submits(None).encode(options, 0xFFFFFFFF)
    assert len(other) == len(data)
    assert without_sequence(other) == without_sequence(data)
    assert CODEC.decode(other).values == CODEC.decode(data).values
    with pytest.raises(MessageError):
        CODEC.decode(other[:-4])
