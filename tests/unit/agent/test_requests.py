"""Requests from the values of the reply to ACCEPT: every attribute is read, and every field is filled in."""

from __future__ import annotations

import dataclasses
import errno
from typing import Any

import pytest

from hsframework.agent.requests import decode_request
from hsframework.agent.served import Served
from hsframework.configuration.settings import Profile
from hsframework.errors import ConfigurationError, HandshakeError
from hsframework.interface import PeerIdentity, PresharedKey, Request, Secret, Trust
from hsframework.netlink.attributes import attribute_codec
from hsframework.netlink.spec import builtin_specification
from tests.unit.agent.fakes import ToyProtocol, succeeds

LOCAL = builtin_specification("local")
READ_ELSEWHERE = {"timeout", "trust-id", "source", "dialect", "trace"}
"""Attributes from which the caller makes the deadline, the trust and the place that a restore names."""
READ_NOWHERE = {"urgency"}
"""Attributes for agents in other languages: the dispatcher's queue has kept to the urgency already."""

REPLY: dict[str, Any] = {
    "request-id": 7,
    "group": "toy",
    "message-type": 1,
    "auth-mode": 3,
    "peername": "server.example",
    "any-peer-name": True,
    "local-address": "192.0.2.1:4",
    "peer-address": "192.0.2.2:5",
    "profile": "web",
    "user": 1000,
    "identity": [{"certificate": [b"leaf"], "private-key": Secret(b"key")}],
    "psk": [{"identity": b"who", "key": Secret(b"k" * 32), "hash": "sha256"}],
    "client-certificate": 2,
    "alpn": ["h2"],
    "tls-priorities": ["SECURE192"],
    "kernel-consumer": True,
    "attributes": attribute_codec(LOCAL, "tag").encode({"name": "mood"}),
}
"""A value for each attribute of the reply, which no field has by default."""


class Noting(dict[str, Any]):
    """Values that note which of their names are asked for."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.names.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self.names.add(str(name))
        return super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value, as a dict does."""
        self.names.add(name)
        return super().get(name, default)


class Keeping(ToyProtocol):
    """Protocol that keeps to TLS policies."""

    tls_policies = True


async def look_up(identity: bytes) -> PresharedKey | None:
    """Find nothing."""
    return None


async def open_netlink(family: int) -> Any:
    """Open nothing."""


def authorize(peer: PeerIdentity) -> None:
    """Allow every peer."""


def test_every_attribute_arrives_in_a_field() -> None:
    """One that is new in the specification, or a new field, has its line in ``decode_request`` or fails here."""
    protocol = Keeping(succeeds)
    served = Served(protocol, protocol.prepare(None), "toy", request_codec=attribute_codec(LOCAL, "tag"))
    values = Noting(REPLY)
    request = decode_request(
        values,
        served,
        deadline=1.0,
        trust=Trust((b"root",)),
        psk_lookup=look_up,
        open_netlink=open_netlink,
        authorize=authorize,
    )
    assert values.names | READ_ELSEWHERE | READ_NOWHERE == (LOCAL.operations["accept"].reply or set())
    assert values.names == REPLY.keys()
    unset = [field.name for field in dataclasses.fields(Request) if getattr(request, field.name) == default_of(field)]
    assert not unset


def default_of(field: dataclasses.Field[Any]) -> Any:
    """Return the default of a field of the request; MISSING where it has none."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


@pytest.mark.parametrize("names", [["\u00e9"], [""], ["x" * 256], ["h2", "a\nb\u2028"], ["x" * 250] * 300])
def test_names_of_application_protocols_that_no_message_holds(names: list[str]) -> None:
    """The consumer's mistake is refused with EINVAL: a plugin would fail on it, as if the fault were the service's."""
    protocol = Keeping(succeeds)
    with pytest.raises(HandshakeError, match="alpn: ") as refused:
        decode_request(
            {**REPLY, "alpn": names},
            Served(protocol, protocol.prepare(None), "toy", request_codec=attribute_codec(LOCAL, "tag")),
            deadline=1.0,
            trust=None,
            psk_lookup=look_up,
            authorize=authorize,
        )
    assert refused.value.errno == errno.EINVAL
    with pytest.raises(ConfigurationError, match="alpn: "):
        Profile(alpn=tuple(names))
