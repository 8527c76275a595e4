"""Users of agents: each plugin has one of its own."""

from __future__ import annotations

import pwd
import zlib
from types import SimpleNamespace

import pytest
from hypothesis import given, strategies as st

from hsframework.agent.privileges import agent_user
from hsframework.configuration import agent_users
from hsframework.configuration.agent_users import AGENT_UIDS, FIRST_AGENT_UID, default_uid, default_uids, plugin_users
from hsframework.configuration.settings import AgentSettings, AllowRule, Configuration
from hsframework.errors import ConfigurationError

NAMES = st.sets(st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True), max_size=60)


@pytest.fixture(autouse=True)
def nobody_has_an_entry(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The numbers that the user database has; none at first."""
    entries: set[int] = set()

    def entry(uid: int) -> object:
        if uid not in entries:
            raise KeyError(uid)
        return SimpleNamespace(pw_uid=uid)

    monkeypatch.setattr(agent_users, "pwd", SimpleNamespace(getpwuid=entry, getpwnam=pwd.getpwnam))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return entries


def test_two_names_of_one_hash() -> None:
    """``gss`` and ``tls13`` want one number; together they have two, alone each has the one that it wants."""
    assert zlib.crc32(b"gss") % AGENT_UIDS == zlib.crc32(b"tls13") % AGENT_UIDS
    alone = default_uid("tls13")
    assert default_uid("gss") == alone
    both = default_uids(["tls13", "gss"])
    assert both == {"gss": alone, "tls13": alone + 1}
    users = [agent_user(None, name, ["gss", "tls13", "quic"]) for name in ("gss", "tls13")]
    assert [user and user.uid for user in users] == [alone, alone + 1]
    assert plugin_users(Configuration(), ["gss", "tls13"]) == {alone: "gss", alone + 1: "tls13"}


@given(NAMES, st.randoms())
def test_numbers_are_unique(names: set[str], random: object) -> None:
    """No two plugins share one, whatever they are called; the order in which they are found is nothing to it."""
    found = default_uids(sorted(names))
    assert len(set(found.values())) == len(names)
    assert all(FIRST_AGENT_UID <= uid < FIRST_AGENT_UID + AGENT_UIDS for uid in found.values())
    assert default_uids(sorted(names, reverse=True)) == found


def test_numbers_of_the_user_database_are_left_out(nobody_has_an_entry: set[int]) -> None:
    """A user that exists is shared with its own processes; with all of them taken there is an error to act on."""
    wanted = default_uid("tls13")
    nobody_has_an_entry.add(wanted)
    assert default_uid("tls13") == wanted + 1
    nobody_has_an_entry.update(range(FIRST_AGENT_UID, FIRST_AGENT_UID + AGENT_UIDS))
    with pytest.raises(ConfigurationError, match=r"no user id .* set agents\.tls13\.user"):
        default_uid("tls13")


@pytest.mark.parametrize("other", ["daemon", "1", None])
def test_two_agents_of_one_user_are_refused(other: str | None) -> None:
    """By name, by number, and where one is given the default number of the other."""
    shared = str(default_uid("quic")) if other is None else other
    agents = {"tls13": AgentSettings(user=shared)}
    if other is not None:
        agents["quic"] = AgentSettings(user="daemon")
    with pytest.raises(ConfigurationError, match=r"'quic' and of 'tls13' would both run as user .*set agents\.tls13"):
        plugin_users(Configuration(agents=agents), ["quic", "tls13"])


def test_the_services_own_user_may_be_all_agents() -> None:
    """In a container with one user there is no other, and it may do everything anyway."""
    agents = {name: AgentSettings(user="0") for name in ("tls13", "quic")}
    owners = plugin_users(Configuration(agents=agents), ["quic", "tls13"])
    assert 0 not in owners


def test_an_agent_is_no_consumer() -> None:
    """A user who may submit requests could join in the agent's name."""
    configuration = Configuration(
        agents={"tls13": AgentSettings(user="daemon")}, allow=(AllowRule(), AllowRule(users=("1", "no such user")))
    )
    with pytest.raises(ConfigurationError, match=r"runs as user 1, who is a consumer by allow\[1\]"):
        plugin_users(configuration, ["tls13"])
