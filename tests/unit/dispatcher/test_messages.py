"""Parameters of a request for its agent: by the specification's lists, and from one place."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from typing import Any

import pytest

from hsframework.configuration.settings import Configuration, Profile
from hsframework.dispatcher.messages import CREDENTIALS, MOMENT, SOURCE, passed_on
from hsframework.errors import ConfigurationError
from hsframework.interface import Secret
from hsframework.netlink.spec import Specification, builtin_specification
from tests.support.house import REQUEST, connected_pair, house

LOCAL = builtin_specification("local")
REPLY = LOCAL.operations["accept"].reply or frozenset()
SUBMIT = LOCAL.operations["submit"].request or frozenset()
KEY = {"identity": b"who", "key": b"k" * 32, "hash": "sha256"}
IDENTITY = {"certificate": [b"leaf"], "private-key": b"key"}


def _listed(name: str, *operations: str) -> Specification:
    """Return the local family with one more name in the reply to accept, or in the request of submit."""
    changed = dict(LOCAL.operations)
    for operation in operations:
        form = {"accept": "reply", "submit": "request"}[operation]
        names = getattr(changed[operation], form) | {name}
        changed[operation] = dataclasses.replace(changed[operation], **{form: names})
    return dataclasses.replace(LOCAL, operations=changed)


def test_the_lists_are_covered() -> None:
    """Each attribute of the reply comes from one place, and no place names what the reply has not."""
    places = [MOMENT, CREDENTIALS, SOURCE, frozenset(passed_on(LOCAL))]
    assert sum(map(len, places)) == len(REPLY)
    assert frozenset().union(*places) == REPLY


def test_an_attribute_that_nothing_supplies() -> None:
    """In the reply alone it is an error with its name; in both it is passed on; in submit alone it is not."""
    with pytest.raises(ConfigurationError, match="count: nothing supplies it"):
        passed_on(_listed("count", "accept"))
    assert "count" in passed_on(_listed("count", "accept", "submit"))
    assert "count" not in passed_on(_listed("count", "submit"))


@pytest.mark.parametrize(
    ("auth_mode", "told"),
    [(1, set()), (2, {"psk"}), (3, {"identity"})],
    ids=["nobody", "psk", "x509"],
)
async def test_all_that_a_consumer_says_reaches_the_agent(auth_mode: int, told: set[str]) -> None:
    """But for the keys that the auth mode has no use for, and trust, which has a message of its own.

    A consumer brings its trust, or names one with ``trust-id``.
    """
    said: dict[str, Any] = {
        **REQUEST,
        "auth-mode": auth_mode,
        "timeout": 5000,
        "peername": "server.example",
        "profile": "web",
        "identity": [IDENTITY],
        "psk": [KEY],
        "trust-anchor": [b"anchor"],
        "crl": [b"list"],
        "crl-check": 1,
        "any-peer-name": True,
        "client-certificate": 2,
        "alpn": ["h2", "h3"],
        "attributes": b"its own",
        "urgency": 3,
        "tls-priorities": ["SECURE192"],
    }
    assert {*said, "trust-id"} == SUBMIT, "an attribute of submit that is new: say it here"
    with connected_pair() as (ours, _):
        async with house(Configuration(profiles={"web": Profile()})) as home:
            agent, consumer = await home.agent("toy", **{"tls-policies": True}), await home.consumer()
            consumer.send("submit", said, ours.fileno())
            await agent.expect("ready")
            agent.send("accept", {"group": "toy"})
            found = [await agent.receive() for _ in range(2)]
            assert [message.operation for message, _ in found] == ["trust", "accept"]
            values = found[1][0].values
            for _, fd in found:
                assert fd is not None
                os.close(fd)
    assert set(values) == (SUBMIT & REPLY) - {"identity", "psk"} | told | MOMENT - {"trace"} | {"user", "source"}
    for name in set(values) & SUBMIT - {"timeout", "identity", "psk", "trust-id"}:
        assert values[name] == said[name], name
    for name in told:
        assert _revealed(values[name]) == said[name]


def _revealed(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {name: value.reveal() if isinstance(value, Secret) else value for name, value in item.items()} for item in items
    ]


def test_a_new_attribute_needs_no_code() -> None:
    """One that stands in both lists reaches the agent of a dispatcher, and of the one for the tests of plugins."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.unit.dispatcher.new_attribute"], capture_output=True, text=True, check=False
    )
    assert ran.stdout.split() == ["dispatcher:", "blue", "in-memory:", "blue"], ran.stderr
