"""The limits on pending requests: those that refuse a request are asked before the kernel's ACCEPT takes one."""

from __future__ import annotations

import dataclasses
import errno

import pytest
from hypothesis import given, strategies as st

from hsframework.configuration.settings import Configuration, KernelSettings, Limits, RawSettings
from hsframework.dispatcher.requests.limits import (
    FD_RESERVE,
    Claim,
    Counted,
    PendingLimits,
    give_back,
    places,
    reserve,
    within_fds,
)
from hsframework.errors import RequestRefused
from hsframework.local.networks import network_of
from tests.support.house import connected_pair
from tests.support.played_kernel import GROUP, stage

NOT_OF_REQUESTS = {"connections", "connections_per_user", "groups", "ipv4_prefix", "ipv6_prefix"}
"""Limits that never refuse a request."""

SHOWN_BY_ACCEPT = {"per_address"}
"""Limits on what is unknown before ACCEPT."""

ASKED = [item.name for item in dataclasses.fields(Limits) if item.name not in NOT_OF_REQUESTS | SHOWN_BY_ACCEPT]
"""All others, also those that are still to be written."""

GROUPS, SOURCES = ("tlshd", "quic"), ("local", "kernel:red")
CONSUMERS, ADDRESSES = ("one", "two"), ("192.0.2.1", "192.0.2.2")
SMALL = st.integers(1, 4)
SMALL_LIMITS = st.builds(Limits, **dict.fromkeys([*ASKED, *SHOWN_BY_ACCEPT], SMALL))
CLAIMS = st.builds(
    Claim,
    group=st.sampled_from(GROUPS),
    source=st.sampled_from(SOURCES),
    consumer=st.sampled_from(CONSUMERS),
    address=st.sampled_from(ADDRESSES),
)


@pytest.mark.parametrize("name", ASKED)
async def test_a_full_dispatcher_takes_nothing_from_the_kernel(name: str) -> None:
    """Each limit leaves the next request in the kernel's queue, where it lives on; a completed one makes room."""
    with connected_pair() as (one, _), connected_pair() as (two, _):
        async with stage(limits=Limits(**{name: 1})) as played:
            agent = await played.home.agent(GROUP)
            played.submit(one)
            first = await agent.take_message(GROUP)
            announced = played.service.drains
            played.submit(two)
            await played.until(lambda: played.service.drains > announced)
            assert len(played.service.queues[GROUP]) == 1
            assert not played.service.told
            agent.send("done", {"request-id": first.values["request-id"], "status": errno.EACCES})
            second = await agent.take_message(GROUP)
            agent.send("done", {"request-id": second.values["request-id"], "status": errno.EACCES})
            await played.until(lambda: played.service.told == [(errno.EACCES, [])] * 2)


async def test_an_address_is_shown_by_accept() -> None:
    """A request past the limit by address is refused at once, with the status that NFS retries."""
    with connected_pair() as (one, _), connected_pair() as (two, _):
        async with stage(limits=Limits(per_address=1)) as played:
            agent = await played.home.agent(GROUP)
            played.submit(one)
            await agent.take_message(GROUP)
            played.submit(two)
            await played.until(lambda: played.service.told)
            assert played.service.told == [(errno.ETIMEDOUT, [])]


@given(SMALL_LIMITS, st.lists(CLAIMS, max_size=12), CLAIMS)
def test_room_is_promised_exactly_where_it_is(limits: Limits, taken: list[Claim], claim: Claim) -> None:
    """A request from an address without any is taken if and only if room was promised, with anything pending."""
    pending = PendingLimits(limits)
    for other in taken:
        _takes(pending, other)
    promised = pending.room_for(claim)
    assert _takes(pending, claim._replace(address="192.0.2.3")) is promised


@given(SMALL_LIMITS, st.lists(CLAIMS, max_size=24))
def test_groups_and_sources_take_nothing_from_each_other(limits: Limits, claims: list[Claim]) -> None:
    """A source in a group is allowed as much as it would be if it were alone."""
    together = PendingLimits(limits)
    alone = {(group, source): PendingLimits(limits) for group in GROUPS for source in SOURCES}
    for claim in claims:
        own = alone[claim.group, claim.source]
        assert together.room_for(claim) is own.room_for(claim)
        assert _takes(together, claim) is _takes(own, claim)


@given(SMALL_LIMITS, st.lists(CLAIMS, max_size=12))
def test_what_is_given_back_leaves_nothing(limits: Limits, claims: list[Claim]) -> None:
    """After the last request is completed every limit allows as many as before, and a refusal has counted nothing."""
    pending = PendingLimits(limits)
    taken = [_taken(pending, claim) for claim in claims]
    for counted in taken:
        give_back(counted or ())
    again = [_takes(pending, claim) for claim in claims]
    assert again == [counted is not None for counted in taken]


@pytest.mark.parametrize(
    ("kernel", "sources"),
    [
        (KernelSettings(enabled=False), 1),
        (KernelSettings(enabled=False, namespaces=("red", "blue")), 1),
        (KernelSettings(), 2),
        (KernelSettings(namespaces=("red", "blue")), 4),
        (KernelSettings(raw=RawSettings(enabled=True)), 3),
        (KernelSettings(raw=RawSettings(enabled=True), namespaces=("red",)), 5),
    ],
)
def test_places_are_sources_times_groups(kernel: KernelSettings, sources: int) -> None:
    """One for consumers in user space, and one for each form of the kernel's in each namespace."""
    assert places(Configuration(kernel=kernel, limits=Limits(groups=7))) == 7 * sources


def test_the_share_of_a_place() -> None:
    """Of the fds that are not for connections, or of half of them; never more than the setting, never none."""
    configuration = Configuration(limits=Limits(per_source=1000, connections=100, groups=5))
    kept = reserve(configuration)
    assert kept == FD_RESERVE + 200
    assert places(configuration) == 10
    for fds, share in ((kept + 5000, 500), (kept + 5009, 500), (kept, kept // 20), (1 << 20, 1000), (3, 1)):
        assert within_fds(configuration, fds).limits.per_source == share, fds


@pytest.mark.parametrize(
    ("address", "prefixes", "network"),
    [
        ("192.0.2.7", (32, 64), "192.0.2.7"),
        ("192.0.2.7", (24, 64), "192.0.2.0/24"),
        ("2001:db8:1:2:3:4:5:6", (32, 64), "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", (32, 64), "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", (32, 64), "2001:db8:1:3::/64"),
        ("2001:db8::1", (32, 128), "2001:db8::1"),
        ("::ffff:192.0.2.7", (24, 64), "192.0.2.0/24"),
        ("a unix socket", (32, 64), "a unix socket"),
    ],
)
def test_networks(address: str, prefixes: tuple[int, int], network: str) -> None:
    """IPv6 hosts have a /64 each, also for the choice of their address; IPv4 addresses in IPv6 are IPv4."""
    assert network_of(address, *prefixes) == network


def test_a_host_with_many_addresses_is_one() -> None:
    """A /64 full of addresses counts as one, and another network is not affected."""
    pending = PendingLimits(Limits(per_address=2))
    hosts = [Claim("tlshd", "kernel", "kernel", f"2001:db8::{number}") for number in (1, 2, 3)]
    assert [_takes(pending, claim) for claim in hosts] == [True, True, False]
    assert _takes(pending, hosts[0]._replace(address="2001:db8:0:1::1"))


def test_a_user_uses_up_an_address_for_himself_alone() -> None:
    """Another user, and root, may have as many requests with it."""
    pending = PendingLimits(Limits(per_address=2))
    claims = [Claim("tls13", "local", uid, "192.0.2.1") for uid in (4001, 4001, 4001, 4002, 0)]
    assert [_takes(pending, claim) for claim in claims] == [True, True, False, True, True]


def test_users_leave_room_for_root() -> None:
    """An eighth of what a source may have is for root, the dispatcher's user and the kernel."""
    pending = PendingLimits(Limits(per_source=16))
    taken = [_takes(pending, Claim("tls13", "local", 4001 + number, None)) for number in range(16)]
    assert taken == [True] * 14 + [False] * 2
    assert not pending.room_for(Claim("tls13", "local", 4001, None))
    assert [_takes(pending, Claim("tls13", "local", 0, None)) for _ in range(3)] == [True, True, False]
    assert all(_takes(pending, Claim("tls13", "kernel", "kernel", None)) for _ in range(16))


def _takes(pending: PendingLimits, claim: Claim) -> bool:
    return _taken(pending, claim) is not None


def _taken(pending: PendingLimits, claim: Claim) -> Counted | None:
    """Return the counts to be given back; None: it is refused."""
    try:
        return pending.take(claim)
    except RequestRefused as error:
        assert error.errno == errno.EAGAIN
        return None
