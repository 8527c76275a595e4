"""Subordinate user ids: whoever has 65,536 of them is one user."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hsframework.configuration.settings import AllowRule, Configuration, Limits
from hsframework.dispatcher.policy import PeerCredentials, Policy
from hsframework.dispatcher.subordinates import Range, Subordinates, load_subordinates
from tests.support.house import house

FILE = """\
1000:100000:65536

# no such line
root:300000:10
nobody-of-that-name:400000:10
1001:200000
1001:two:10
1001:200000:3
"""


@pytest.fixture
def ranges(tmp_path: Path) -> Subordinates:
    (tmp_path / "subuid").write_text(FILE)
    return load_subordinates(tmp_path / "subuid")


@pytest.mark.parametrize(
    ("uid", "owner"),
    [
        (100_000, 1000),
        (165_535, 1000),
        (165_536, 165_536),
        (99_999, 99_999),
        (200_002, 1001),
        (200_003, 200_003),
        (300_000, 0),
        (400_000, 400_000),
        (1000, 1000),
    ],
)
def test_owners(ranges: Subordinates, uid: int, owner: int) -> None:
    """By number and by name; a line that makes no sense says nothing."""
    assert ranges.owner(uid) == owner


def test_without_a_file(tmp_path: Path) -> None:
    """Every user is his own."""
    assert load_subordinates(tmp_path / "none").owner(100_000) == 100_000


@pytest.mark.parametrize(
    ("uid", "account"), [(100_007, 1000), (100_033, 100_033), (300_000, 300_000), (1000, 1000), (0, 0)]
)
def test_for_whom_limits_count(ranges: Subordinates, uid: int, account: int) -> None:
    """For the owner; a rule that names a number makes it a user, and what is root's counts for itself."""
    policy = Policy(Configuration(allow=(AllowRule(users=("100033",)),)), subordinates=ranges, own_uid=0)
    assert policy.account(PeerCredentials(1, uid, 500)) == account


async def test_the_limit_for_a_user_holds_for_all_his_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections of one member of an allowed group, each under another number, end at his limit."""
    peers = (PeerCredentials(1, uid, 500) for uid in range(100_000, 100_009))
    monkeypatch.setattr("hsframework.dispatcher.connections.peer_credentials", lambda _: next(peers))
    monkeypatch.setattr(
        "hsframework.dispatcher.policy.load_subordinates",
        lambda: Subordinates([Range(range(100_000, 165_536), 1000)]),
    )
    allowed = (AllowRule(groups=("500",)),)
    async with house(Configuration(limits=Limits(connections_per_user=2), allow=allowed)) as home:
        first, second = await home.consumer(), await home.consumer()
        for _ in range(2):
            await (await home.consumer()).closed()
        first.close()
        while len(home.local.listener.connections) == 2:
            await asyncio.sleep(0)
        await home.consumer()
        while len(home.local.listener.connections) == 1:
            await asyncio.sleep(0)
        assert not second.channel.closed
