"""TLS policies on their way to agents: which reach them, in which order, and which agents get none."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hsframework.configuration.settings import Configuration, Profile
from hsframework.configuration.toml import load_configuration
from hsframework.errors import ConfigurationError
from hsframework.netlink.messages import Message
from hsframework.tls.priorities import MAX_LENGTH
from tests.support.house import REQUEST, connected_pair, house
from tests.support.played_kernel import CLIENT, GROUP, stage

OWN, PROFILES = "NORMAL:-AES-256-GCM", "SECURE192"
PROFILE = {"strict": Profile(tls_priorities=PROFILES), "plain": Profile()}
KEEPS = {"tls-policies": True}


@pytest.mark.parametrize(
    ("own", "profile", "told"),
    [
        (None, "plain", None),
        (None, "strict", [PROFILES]),
        (OWN, "plain", [OWN]),
        (OWN, "strict", [OWN, PROFILES]),
        (OWN, None, [OWN]),
    ],
)
async def test_a_local_request(own: str | None, profile: str | None, told: list[str] | None) -> None:
    """The consumer's policy comes before its profile's, and takes nothing from it; also the second time."""
    submit = {**REQUEST, "profile": profile, **({"tls-priorities": [own]} if own else {})}
    async with house(Configuration(profiles=PROFILE)) as home:
        agent, consumer = await home.agent("toy", **KEEPS), await home.consumer()
        for _ in range(2):
            with connected_pair() as (ours, _):
                consumer.send("submit", submit, ours.fileno())
                assert (await agent.take_message()).values.get("tls-priorities") == told


@pytest.mark.parametrize("policies", [[OWN, OWN], ["x" * (MAX_LENGTH + 1)]], ids=["two", "a long one"])
async def test_a_submit_has_one_policy_of_a_line(policies: list[str]) -> None:
    """EINVAL, with what is allowed."""
    async with house() as home:
        await home.agent("toy", **KEEPS)
        consumer = await home.consumer()
        with connected_pair() as (ours, _):
            consumer.send("submit", {**REQUEST, "tls-priorities": policies}, ours.fileno())
            answer, _ = await consumer.receive()
    assert answer.error == errno.EINVAL
    assert "one tls-priorities, of 1024 characters" in answer.values["message"]


async def test_an_agent_that_keeps_to_no_policy() -> None:
    """Its requests with one end with EOPNOTSUPP and are not handed over; the others of the same ACCEPT are."""
    async with house(Configuration(profiles=PROFILE)) as home:
        agent, consumer = await home.agent("toy"), await home.consumer()
        with connected_pair() as (one, _), connected_pair() as (two, _), connected_pair() as (three, _):
            demanding = [
                consumer.send("submit", {**REQUEST, "tls-priorities": [OWN]}, one.fileno()),
                consumer.send("submit", {**REQUEST, "profile": "strict"}, two.fileno()),
            ]
            consumer.send("submit", {**REQUEST, "peername": "plain"}, three.fileno())
            await home.queued(3)
            agent.send("accept", {"group": "toy", "count": 3})
            found: list[Message] = []
            while len(found) < 2:
                message, fd = await agent.receive()
                if message.operation != "ready":
                    found.append(message)
                if fd is not None:
                    os.close(fd)
            assert [message.values.get("peername") for message in found] == ["plain", None]
            assert found[1].error == errno.EAGAIN
            for sequence in demanding:
                result = await consumer.expect("result")
                assert (result.sequence, result.values["status"]) == (sequence, errno.EOPNOTSUPP)
                assert "does not keep to TLS policies" in result.values["message"]


@pytest.mark.parametrize(
    ("asked", "profile", "told"),
    [
        ({}, Profile(), None),
        ({"tls-priorities": ""}, Profile(), None),
        ({"tls-priorities": OWN}, Profile(), [OWN]),
        ({}, Profile(tls_priorities=PROFILES), [PROFILES]),
        ({"tls-priorities": OWN}, Profile(tls_priorities=PROFILES), [OWN, PROFILES]),
    ],
)
async def test_a_kernel_consumer(asked: dict[str, str], profile: Profile, told: list[str] | None) -> None:
    """The raw form's policy comes before the one of the role's profile."""
    with connected_pair() as (ours, _):
        async with stage(profiles={"kernel-client": profile}) as played:
            agent = await played.home.agent(GROUP, **KEEPS)
            played.submit(ours, {**CLIENT, "auth-mode": 2, **asked})
            assert (await agent.take_message(GROUP)).values.get("tls-priorities") == told


async def test_a_kernel_consumer_whose_agent_keeps_to_no_policy() -> None:
    """Its DONE is EOPNOTSUPP."""
    with connected_pair() as (ours, _):
        async with stage() as played:
            agent = await played.home.agent(GROUP)
            played.submit(ours, {**CLIENT, "auth-mode": 2, "tls-priorities": OWN})
            await agent.receive()
            agent.send("accept", {"group": GROUP})
            await played.until(lambda: played.service.told)
            assert played.service.told == [(errno.EOPNOTSUPP, [])]


def test_a_profiles_policy_is_checked_at_start(tmp_path: Path) -> None:
    """The error names the profile, the key, the word and the remedy."""
    file = tmp_path / "hsframework.toml"
    file.write_text('[profiles.web]\ntls-priorities = "SECURE192:+AES-265-GCM"\n')
    with pytest.raises(ConfigurationError) as refused:
        load_configuration(file)
    assert "profiles.web: tls-priorities: word 2" in str(refused.value)
    assert "write +AES-256-GCM" in str(refused.value)
    file.write_text('[profiles.web]\ntls-priorities = "SECURE192:%SERVER_PRECEDENCE"\n')
    assert load_configuration(file).profiles["web"].tls_priorities == "SECURE192:%SERVER_PRECEDENCE"
