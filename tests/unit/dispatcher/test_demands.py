"""Requests that demand more than their agent has declared, and profiles that are tied to groups."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from hsframework.configuration.rules import Rule
from hsframework.configuration.settings import Configuration, IdentitySettings, Profile, TrustSettings
from hsframework.configuration.toml import load_configuration
from hsframework.dispatcher.agents.connection import AgentConnection
from hsframework.dispatcher.keys.vault import Vault
from hsframework.errors import ConfigurationError
from hsframework.netlink.messages import Message
from hsframework.testing.certificates import Authority
from tests.support.house import ABLE, REQUEST, Peer, connected_pair, house
from tests.support.played_kernel import CLIENT, GROUP, stage

IDENTITY = {"certificate": [b"certificate"], "private-key": b"a private key"}
PSK = {"identity": b"i", "key": b"k"}
SERVER = {**REQUEST, "message-type": 2}

DEMANDS: dict[str, dict[str, Any]] = {
    "alpn": {"alpn": ["h2"]},
    "client-certificate": {**SERVER, "auth-mode": 3, "client-certificate": 1},
    "peer-name": {"peername": "server.example"},
    "tls-policies": {"tls-priorities": ["SECURE192"]},
    "trust": {"trust-anchor": [b"anchor"]},
}
"""A submit for each demand."""


async def _answer(agent: Peer, group: str = "toy") -> Message:
    """Pull from a group, and return the request or the error; no fd is kept."""
    agent.send("accept", {"group": group})
    while True:
        message, fd = await agent.receive()
        if fd is not None:
            os.close(fd)
        if message.operation in ("accept", "error"):
            return message


async def _outcome(values: Mapping[str, Any], join: Mapping[str, Any]) -> tuple[int | None, str]:
    """Return status and text for a request that its agent did not get; None and "" if the agent got it."""
    with connected_pair() as (ours, _):
        async with house() as home:
            agent, consumer = await home.agent("toy", **join), await home.consumer()
            consumer.send("submit", {**REQUEST, **values}, ours.fileno())
            await home.queued(1)
            if (await _answer(agent)).operation == "accept":
                return None, ""
            result = (await consumer.expect("result")).values
            return result["status"], result["message"]


@pytest.mark.parametrize("demand", DEMANDS)
async def test_an_agent_gets_what_it_understands_and_nothing_else(demand: str) -> None:
    """Without the one word in JOIN the request is EOPNOTSUPP, in words; with it alone it is handed over."""
    others = [name for name in DEMANDS if name != demand]
    status, text = await _outcome(DEMANDS[demand], {"understands": others})
    assert status == errno.EOPNOTSUPP
    assert {"peer-name": "peername", "tls-policies": "tls-priorities"}.get(demand, demand) in text
    assert await _outcome(DEMANDS[demand], {"understands": [demand]}) == (None, "")


@pytest.mark.parametrize(
    ("values", "mode"),
    [
        ({"auth-mode": 1}, 1),
        ({"auth-mode": 2, "psk": [PSK]}, 2),
        ({"auth-mode": 3, "identity": [IDENTITY]}, 3),
        ({"message-type": 2, "auth-mode": 0}, 0),
    ],
)
async def test_an_agent_gets_the_auth_modes_that_it_has(values: dict[str, Any], mode: int) -> None:
    """Any other is refused: EOPNOTSUPP, and ENOKEY where the request has no proof at all."""
    others = [number for number in range(4) if number != mode]
    status, _ = await _outcome(values, {"auth-mode": others})
    assert status == (errno.EOPNOTSUPP if mode else errno.ENOKEY)
    assert await _outcome(values, {"auth-mode": [mode]}) == (None, "")


async def test_an_agent_that_declares_nothing_gets_no_keys() -> None:
    """An agent whose JOIN names no auth mode gets the requests that bring none, and no private key."""
    silent: dict[str, Any] = {"auth-mode": [], "understands": []}
    assert (await _outcome({"auth-mode": 3, "identity": [IDENTITY]}, silent))[0] == errno.EOPNOTSUPP
    assert (await _outcome({"auth-mode": 2, "psk": [PSK]}, silent))[0] == errno.EOPNOTSUPP
    assert await _outcome({}, silent) == (None, "")
    assert await _outcome({"auth-mode": 0}, silent) == (None, "")


async def test_a_name_that_nobody_compares_is_no_demand() -> None:
    """With any-peer-name the name is for SNI alone."""
    assert await _outcome({"peername": "a", "any-peer-name": True}, {"understands": []}) == (None, "")


async def test_a_kernel_request_is_refused_likewise() -> None:
    """Its DONE is EOPNOTSUPP, since the agent would pass over what its profile demands."""
    with connected_pair() as (ours, _):
        async with stage(profiles={"kernel-client": Profile(alpn=("h2",))}) as played:
            agent = await played.home.agent(GROUP, understands=["trust"])
            played.submit(ours, {**CLIENT, "auth-mode": 1})
            await agent.receive()
            agent.send("accept", {"group": GROUP})
            await played.until(lambda: played.service.told)
            assert played.service.told == [(errno.EOPNOTSUPP, [])]


async def test_the_systems_trust_is_no_demand() -> None:
    """A kernel's client without a profile has it by default: an agent that does not understand trust does without."""
    for understood, told in (["alpn"], False), (["alpn", "trust"], True):
        with connected_pair() as (ours, _):
            async with stage() as played:
                agent = await played.home.agent(GROUP, understands=understood)
                played.submit(ours, {**CLIENT, "auth-mode": 1})
                await agent.receive()
                assert ("trust-id" in (await _answer(agent, GROUP)).values) is told


def _with_keys(folder: Path, **default: Any) -> Configuration:
    """Return a configuration with a default profile that has a private key and a trust."""
    authority = Authority()
    files, bundle = authority.issue().write(folder), authority.write(folder)
    return Configuration(
        identities={"own": IdentitySettings(certificate=files.certificate, private_key=files.private_key)},
        trust={"own": TrustSettings(bundle=(bundle,))},
        profiles={"default": Profile(identities=("own",), trust="own", **default), "bare": Profile()},
    )


async def test_the_default_profiles_key_goes_to_its_groups_alone(tmp_path: Path) -> None:
    """A server in another group gets neither key nor trust, and the proof is its protocol's."""
    server = {"group": "toy", "message-type": 2}
    for groups, told in (("tls",), False), (("tls", "toy"), True), (None, True):
        with connected_pair() as (ours, _):
            async with house(_with_keys(tmp_path, groups=groups)) as home:
                agent, consumer = await home.agent("toy"), await home.consumer()
                consumer.send("submit", server, ours.fileno())
                await home.queued(1)
                values = (await _answer(agent)).values
                assert ("identity" in values, "trust-id" in values, "profile" in values) == (told, told, told)
                assert values["auth-mode"] == (3 if told else 0)


async def test_a_profile_of_another_group_is_refused(tmp_path: Path) -> None:
    """EACCES with the key to change, for a request that names it; also the second time."""
    with connected_pair() as (ours, _):
        async with house(_with_keys(tmp_path, groups=("tls",))) as home:
            agent, consumer = await home.agent("toy", "tls"), await home.consumer()
            for _ in range(2):
                consumer.send("submit", {**REQUEST, "profile": "default"}, ours.fileno())
                refused = await consumer.expect("error")
                assert refused.error == errno.EACCES
                assert "add the group to profiles.default.groups" in refused.values["message"]
            consumer.send("submit", {**REQUEST, "group": "tls", "profile": "default"}, ours.fileno())
            await home.queued(1, "tls")
            assert (await _answer(agent, "tls")).values["profile"] == "default"


async def test_a_group_that_nobody_serves(tmp_path: Path) -> None:
    """ESRCH with any profile: `hsframework listen` asks so whether it may name one."""
    with connected_pair() as (ours, _):
        async with house(_with_keys(tmp_path, groups=("tls",))) as home:
            consumer = await home.consumer()
            consumer.send("submit", {**REQUEST, "profile": "default"}, ours.fileno())
            assert (await consumer.expect("error")).error == errno.ESRCH


async def test_a_group_that_its_first_request_opens(tmp_path: Path) -> None:
    """EACCES as in an open group: a user's dispatcher opens a group, and asks for its agent, when a request comes."""
    with connected_pair() as (ours, _):
        async with house(_with_keys(tmp_path, groups=("tls",))) as home:
            home.local.wanted = lambda group: home.dispatcher.expect([group])
            consumer = await home.consumer()
            for _ in range(2):
                consumer.send("submit", {"group": "toy", "message-type": 2, "profile": "default"}, ours.fileno())
                assert (await consumer.expect("error")).error == errno.EACCES
            assert not home.dispatcher.requests


async def test_a_profile_that_is_tied_while_a_request_is_under_way(tmp_path: Path) -> None:
    """EACCES from the reload on, also for a long submit in the words of one that waits."""
    long = {"group": "toy", "message-type": 2, "profile": "default", "alpn": ["x" * 250 for _ in range(8)]}
    with connected_pair() as (ours, _), connected_pair() as (others, _):
        async with house(_with_keys(tmp_path)) as home:
            _, consumer = await home.agent("toy"), await home.consumer()
            consumer.send("submit", long, ours.fileno())
            await home.queued(1)
            tied = _with_keys(tmp_path, groups=("tls",))
            home.local.renew(Vault(tied), tied)
            consumer.send("submit", long, others.fileno())
            assert (await consumer.expect("error")).error == errno.EACCES


async def test_a_kernel_profile_of_another_group() -> None:
    """The request does without, and the system's trust does not take the place of the profile's."""
    for groups, told in (("quic",), False), ((GROUP,), True):
        with connected_pair() as (ours, _):
            async with stage(profiles={"kernel-client": Profile(alpn=("h2",), groups=groups)}) as played:
                agent = await played.home.agent(GROUP, **ABLE)
                played.submit(ours, {**CLIENT, "auth-mode": 1})
                await agent.receive()
                values = (await _answer(agent, GROUP)).values
                assert ("profile" in values, values.get("alpn") == ["h2"], "trust-id" in values) == (told, told, False)


@pytest.mark.parametrize("limit", [{"admit": ("dns:a",)}, {"client_certificate": "require"}])
async def test_a_profile_of_another_group_that_restricts(limit: dict[str, Any]) -> None:
    """It is not left out, since everybody would be let in without it: EACCES, and no agent is asked."""
    with connected_pair() as (ours, _):
        async with stage(profiles={"kernel-server": Profile(groups=("quic",), **limit)}) as played:
            await played.home.agent(GROUP, **ABLE)
            played.submit(ours, {**CLIENT, "message-type": 2, "auth-mode": 3})
            await played.until(lambda: played.service.told)
            assert played.service.told == [(errno.EACCES, [])]


async def test_a_rules_profile_of_another_group() -> None:
    """EACCES, and no agent is asked: the rule is wrong."""
    wrong = Rule(role="client", profile="web")
    with connected_pair() as (ours, _):
        async with stage(profiles={"web": Profile(groups=("quic",))}, rule=(wrong,)) as played:
            await played.home.agent(GROUP, **ABLE)
            played.submit(ours, {**CLIENT, "auth-mode": 1})
            await played.until(lambda: played.service.told)
            assert played.service.told == [(errno.EACCES, [])]


def test_the_groups_of_a_profile_are_read(tmp_path: Path) -> None:
    """A list of names; an empty name is refused."""
    file = tmp_path / "hsframework.toml"
    file.write_text('[profiles.web]\ngroups = ["tls13", "quic"]\n')
    profile = load_configuration(file).profiles["web"]
    assert [profile.serves(group) for group in ("tls13", "quic", "noise")] == [True, True, False]
    assert Profile().serves("noise")
    file.write_text('[profiles.web]\ngroups = [""]\n')
    with pytest.raises(ConfigurationError, match="groups: a group has a name"):
        load_configuration(file)


async def test_a_link_declares_once() -> None:
    """A further JOIN adds groups; one with other words is refused, and what the first declared stays."""
    async with house() as home:
        agent = await home.agent("toy", understands=["alpn"])
        again = {"protocol": "toy", "agent": "by hand", **ABLE, "understands": ["alpn"]}
        answer = await agent.ask("join", {**again, "group": ["other"], "understands": ["alpn", "trust"]})
        assert answer.error == errno.EINVAL
        (member,) = home.dispatcher.groups["toy"].members
        assert isinstance(member, AgentConnection)
        assert member.understands == {"alpn"}
        assert (await agent.ask("join", {**member.declared, "group": ["other"]})).error == 0
        assert "other" in home.dispatcher.groups


async def test_words_that_nobody_knows_and_agents_that_differ() -> None:
    """Both are said in the log when the agent joins; those that serve other sockets may differ."""
    with capture_logs() as logs:
        async with house() as home:
            await home.agent("toy", **{"understands": ["alpn"], "socket-protocol": [6]})
            await home.agent("toy", **{"understands": [], "socket-protocol": [261]})
            assert not [it for it in logs if it["event"].startswith("agents of one group")]
            await home.agent("toy", **{"understands": ["alpn", "alpnn"], "auth-mode": [1, 77], "socket-protocol": [6]})
            await home.agent("other", understands=["alpn"])
    (strange,) = [it for it in logs if it["event"] == "an agent declares what is not known here"]
    assert strange["words"] == ["auth-mode 77", "alpnn"]
    (differ,) = [it for it in logs if it["event"].startswith("agents of one group declare different")]
    assert differ["group"] == "toy"
