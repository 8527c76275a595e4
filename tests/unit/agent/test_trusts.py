"""Trusts of a link: equal ones are one object, and what different ones share is kept once."""

from __future__ import annotations

import gc

import pytest

from hsframework.agent import trusts as trusts_module
from hsframework.agent.trusts import Trusts
from hsframework.interface import Trust
from hsframework.local.trustfile import create_trust_file
from hsframework.netlink.messages import Message


def send(trusts: Trusts, number: int, trust: Trust) -> Trust:
    """Have a trust received, and return it as requests will get it."""
    fd, size = create_trust_file(trust)
    trusts.received([(Message("trust", {"trust-id": number, "size": size}, 0), fd)])
    found = trusts.named_by({"trust-id": number})
    assert found == trust
    return found


@pytest.fixture
def trusts() -> Trusts:
    return Trusts()


def test_shared_items_are_kept_once(trusts: Trusts) -> None:
    """Two hundred trusts with one bundle and one list: one object for each certificate and list."""
    bundle, crl = tuple(b"authority %d" % number for number in range(5)), b"list"
    made = [send(trusts, number, Trust((*bundle, b"own %d" % number), (crl,))) for number in range(1, 201)]
    for trust in made:
        assert all(mine is first for mine, first in zip(trust.anchors[:5], made[0].anchors, strict=False))
        assert trust.crls[0] is made[0].crls[0]
    assert sum(number for kept, number in trusts_module._items.values() if kept in (*bundle, crl)) == 200 * 6


def test_nothing_is_left_of_trusts_that_are_gone(trusts: Trusts) -> None:
    """An item goes with the last trust that has it."""
    send(trusts, 1, Trust((b"shared item", b"first item")))
    kept = send(trusts, 2, Trust((b"shared item", b"second item")))
    send(trusts, 1, Trust((b"third item",)))
    gc.collect()
    assert b"first item" not in trusts_module._items
    assert trusts_module._items[b"shared item"] == (b"shared item", 1)
    del kept
    trusts.clear()
    gc.collect()
    assert not {b"shared item", b"second item", b"third item"} & trusts_module._items.keys()
