"""Rules on the way of the kernel's requests: the profile that an agent is told, and refusals."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from hsframework.configuration.rules import Rule
from hsframework.configuration.settings import Profile, TrustSettings
from hsframework.credentials.tags import SessionTags, Tag
from hsframework.dispatcher.sources.kernel.request import split_address
from hsframework.process import keyctl
from hsframework.testing.certificates import Authority
from tests.support.house import connected_pair
from tests.support.played_kernel import CLIENT, GROUP, PSK_CLIENT, stage

X509_CLIENT = {"message-type": 1, "auth-mode": 3}
PROFILES = {"a": Profile(), "b": Profile()}


async def profile_of(values: dict[str, Any], **settings: Any) -> str | int | None:
    """Return the profile that an agent is told for a request, or the errno with which it is completed."""
    with connected_pair() as (ours, _):
        async with stage(**settings) as played:
            agent = await played.home.agent(GROUP)
            played.submit(ours, values)
            await played.until(lambda: played.home.dispatcher.requests or played.service.told)
            if played.service.told:
                return played.service.told[0][0]
            found: str | None = (await agent.take_message(GROUP)).values.get("profile")
            return found


async def test_one_host_with_two_clouds() -> None:
    """Each name has its own profile, and one that no rule is for is refused, whatever profile is the role's."""
    rules = (Rule(peer_names=("*.a.example",), profile="a"), Rule(peer_names=("*.b.example",), profile="b"))
    settings = {"rule": rules, "profiles": {**PROFILES, "kernel-client": Profile()}}
    for name, profile in (("nfs.a.example", "a"), ("nfs.b.example", "b"), ("nfs.c.example", errno.EACCES)):
        assert await profile_of({**CLIENT, "peername": name}, **settings) == profile
    assert await profile_of(CLIENT, **settings) == errno.EACCES


@pytest.mark.parametrize(("network", "found"), [("127.0.0.0/8", "a"), ("192.0.2.0/24", errno.EACCES)])
async def test_the_peers_network_and_our_port(network: str, found: str | int) -> None:
    """They are those of the socket that ACCEPT has brought."""
    assert await profile_of(CLIENT, profiles=PROFILES, rule=(Rule(networks=(network,), profile="a"),)) == found
    assert await profile_of(CLIENT, profiles=PROFILES, rule=(Rule(local_ports=(1,), profile="a"),)) == errno.EACCES
    with connected_pair() as (ours, _):
        port = ours.getsockname()[1]
        async with stage(profiles=PROFILES, rule=(Rule(local_ports=(port,), profile="b"),)) as played:
            agent = await played.home.agent(GROUP)
            played.submit(ours, CLIENT)
            assert (await agent.take_message(GROUP)).values["profile"] == "b"


async def test_auth_modes_and_roles() -> None:
    """Pre-shared keys and certificates have profiles of their own; a role without rules is as it was."""
    rules = (Rule(role="client", auth_modes=("psk",), profile="a"), Rule(role="client", profile="b"))
    settings = {"rule": rules, "profiles": {**PROFILES, "kernel-server": Profile()}}
    assert await profile_of(PSK_CLIENT, **settings) == "a"
    assert await profile_of(CLIENT, **settings) == "b"
    assert await profile_of({**PSK_CLIENT, "message-type": 2}, **settings) == "kernel-server"


async def test_a_refusal_releases_the_keyring() -> None:
    """EACCES, no agent is asked, and the keyring that ACCEPT has linked is let go of."""
    with connected_pair() as (ours, _):
        async with stage(rule=(Rule(name="nobody", refuse=True),)) as played:
            await played.home.agent(GROUP)
            played.submit(ours, {**PSK_CLIENT, "keyring": 5})
            await played.until(lambda: played.service.told)
            assert played.service.told == [(errno.EACCES, [])]
            assert not played.keys.held
            assert not played.home.dispatcher.requests


async def test_keyrings_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is asked for where a rule needs it; a keyring that is gone is no keyring of another name."""
    names = {5: ".drbd", 6: ".nfs"}

    def describe(serial: int) -> Any:
        if serial not in names:
            raise OSError(errno.EKEYREVOKED, "Key has been revoked")
        return SimpleNamespace(description=names[serial], type="keyring")

    monkeypatch.setattr(keyctl, "describe", describe)
    rules = (Rule(keyrings=(".drbd",), profile="a"), Rule(profile="b"))
    expected = {5: "a", 6: "b", None: "b", 7: errno.EACCES}
    for serial, found in expected.items():
        values = CLIENT if serial is None else {**CLIENT, "keyring": serial}
        assert await profile_of(values, rule=rules, profiles=PROFILES) == found
    monkeypatch.setattr(keyctl, "describe", None)
    assert await profile_of({**CLIENT, "keyring": 7}, rule=(Rule(profile="b"),), profiles=PROFILES) == "b"


async def test_the_rule_is_in_the_event() -> None:
    """The log of a handshake names the rule by which it had its profile."""
    with connected_pair() as (ours, _):
        async with stage(rule=(Rule(name="cloud a", profile="a"),), profiles=PROFILES) as played:
            agent = await played.home.agent(GROUP)
            played.submit(ours, CLIENT)
            request = await agent.take_message(GROUP)
            agent.send("done", {"request-id": request.values["request-id"], "status": errno.EACCES})
            with capture_logs() as log:
                await played.until(lambda: played.service.told)
    assert [entry["rule"] for entry in log if entry["event"] == "handshake"] == ["cloud a"]


async def test_certificates_of_all_rules_are_practised(tmp_path: Path) -> None:
    """Of each profile that a rule gives, so that the kernel need load nothing when a peer shows one."""
    roots = [Authority("Cloud A"), Authority("Cloud B")]
    trust = {name: TrustSettings(bundle=(each.write(tmp_path, name),)) for name, each in zip("ab", roots, strict=True)}
    profiles = {name: Profile(trust=name) for name in trust}
    rules = tuple(Rule(role="client", profile=name) for name in trust)
    async with stage(trust=trust, profiles=profiles, rule=rules) as played:
        assert set(played.keys.practised) >= {each.credential.certificate for each in roots}


def test_addresses_are_split() -> None:
    """As custody writes them; what has no port has no host to compare."""
    assert split_address("192.0.2.1:2049") == ("192.0.2.1", 2049)
    assert split_address("[2001:db8::1]:2049") == ("2001:db8::1", 2049)
    for text in ("unix", "none", "", "2:x"):
        assert split_address(text) == (None, None)


async def test_session_tags_go_with_the_kernels_requests() -> None:
    """Those that are in force when the request comes are those of its event."""
    tags = SessionTags((Tag("any"),))
    with connected_pair() as (ours, _):
        async with stage(session_tags=tags) as played:
            await played.home.agent(GROUP)
            played.submit(ours, CLIENT)
            await played.until(lambda: played.home.dispatcher.requests)
            (request,) = played.home.dispatcher.requests.values()
            assert request.submission.asked is not None
            assert request.submission.asked.session_tags is tags
