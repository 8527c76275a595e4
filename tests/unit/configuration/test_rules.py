"""Rules for the kernel's requests: conditions, order, and what is not known."""

from __future__ import annotations

from typing import Any

import pytest

from hsframework.configuration.rules import Decision, Facts, Rule, Rules, Unknown
from hsframework.configuration.settings import Configuration, KernelSettings, Profile
from hsframework.errors import ConfigurationError
from hsframework.interface import AuthMode, Role

DEFAULTS = {Role.CLIENT: "kernel-client", Role.SERVER: None}
FACTS = {
    "role": Role.CLIENT,
    "auth_mode": AuthMode.X509,
    "peer": "192.0.2.7",
    "local": "198.51.100.1",
    "local_port": 700,
    "peer_name": "nfs1.cloud-a.example",
    "namespace": "blue",
    "keyring": ".nfs",
}


def decide(*rules: Rule, **facts: Any) -> Decision:
    return Rules(rules, DEFAULTS).decide(Facts(**{**FACTS, **facts}))


MET: list[dict[str, Any]] = [
    {},
    {"role": "client"},
    {"networks": ("192.0.2.0/24",)},
    {"networks": ("2001:db8::/32", "192.0.2.7")},
    {"local_networks": ("198.51.100.0/25",)},
    {"local_ports": (1, 700)},
    {"peer_names": ("*.cloud-a.example",)},
    {"peer_names": ("NFS1.Cloud-A.example.",)},
    {"peer_names": ("**.example",)},
    {"namespaces": (".", "blue")},
    {"keyrings": (".nvme", ".nfs")},
    {"auth_modes": ("psk", "x509")},
]
UNMET: list[dict[str, Any]] = [
    {"role": "server"},
    {"networks": ("192.0.3.0/24", "2001:db8::/32")},
    {"local_networks": ("192.0.2.0/24",)},
    {"local_ports": (2049,)},
    {"peer_names": ("*.example",)},
    {"peer_names": ("cloud-a.example",)},
    {"namespaces": (".",)},
    {"keyrings": (".nvme",)},
    {"auth_modes": ("psk", "unauthenticated")},
]


@pytest.mark.parametrize("condition", MET, ids=str)
def test_a_condition_that_is_met(condition: dict[str, Any]) -> None:
    """The rule gives its profile, and its name is in the decision."""
    assert decide(Rule(name="a", profile="own", **condition)) == Decision("a", "own")


@pytest.mark.parametrize("condition", UNMET, ids=str)
def test_a_condition_that_is_not_met(condition: dict[str, Any]) -> None:
    """The next rule decides; without one a request of a role that has rules is refused, whatever the default is."""
    rule = Rule(profile="own", **condition)
    assert decide(rule, Rule(name="rest")).rule == "rest"
    found = decide(rule, Rule(auth_modes=("unauthenticated",), role="client"))
    assert (found.profile, found.rule) == (None, "")
    assert found.refusal == "no rule for the role client is met"


@pytest.mark.parametrize("unmet", UNMET, ids=str)
def test_all_conditions_count(unmet: dict[str, Any]) -> None:
    """One that is not met is enough, beside all others that are."""
    every = {key: value for condition in MET for key, value in condition.items()}
    assert decide(Rule(name="all", **every)).rule == "all"
    of_client = {**every, **unmet, "peer_names": unmet.get("peer_names")} if "role" in unmet else {**every, **unmet}
    assert decide(Rule(name="all", **of_client), Rule(name="rest")).rule == "rest"


def test_the_first_rule_counts() -> None:
    """Later ones do not, also where the first one refuses."""
    first, second = Rule(name="1", networks=("192.0.2.0/24",), profile="a"), Rule(name="2", profile="b")
    assert decide(first, second).profile == "a"
    assert decide(second, first).profile == "b"
    refused = decide(Rule(name="no", refuse=True), second)
    assert (refused.profile, refused.refusal) == (None, "rule no refuses it")


def test_a_rule_without_a_profile_means_the_roles_own() -> None:
    """As without rules: none at all, where none is configured for the role."""
    assert decide(Rule()) == Decision("0", "kernel-client")
    assert decide(Rule(), role=Role.SERVER, peer_name=None) == Decision("0", None)


def test_a_role_without_rules_is_served_as_before() -> None:
    """Rules for servers change nothing for clients."""
    assert decide(Rule(role="server", profile="a")) == Decision("", "kernel-client")
    assert decide() == Decision("", "kernel-client")


@pytest.mark.parametrize("fact", ["peer", "local", "local_port", "peer_name", "keyring"])
def test_a_fact_that_is_not_there_meets_no_condition(fact: str) -> None:
    """A request without an address, a name or a keyring is none of those that a rule is for."""
    conditions = {key: value for condition in MET for key, value in condition.items()}
    assert decide(Rule(name="all", **conditions), Rule(name="rest"), **{fact: None}).rule == "rest"


def test_a_fact_whose_look_up_failed_decides_nothing() -> None:
    """The request is refused: a rule that is passed over for it could be one that refuses."""
    asks = Rule(name="asks", keyrings=(".drbd",), refuse=True)
    gone = Unknown("its keyring cannot be seen: Key has been revoked")
    found = decide(asks, Rule(name="rest"), keyring=gone)
    assert found.refusal == "rule asks cannot be decided: its keyring cannot be seen: Key has been revoked"
    assert found.profile is None
    assert decide(Rule(name="before"), asks, keyring=gone).rule == "before"
    elsewhere = Rule(name="elsewhere", keyrings=(".drbd",), networks=("203.0.113.0/24",), refuse=True)
    assert decide(elsewhere, Rule(name="rest"), keyring=gone).rule == "rest"


@pytest.mark.parametrize(
    ("peer", "met"),
    [
        ("::ffff:192.0.2.7", True),
        ("192.0.2.7%eth0", True),
        ("::ffff:192.0.3.7", False),
        ("unix", False),
        ("2", False),
        ("", False),
    ],
)
def test_spellings_of_an_address(peer: str, met: bool) -> None:
    """A mapped address is the IPv4 one, of a dual-stack listener; what is no address is in no network."""
    assert (decide(Rule(name="a", networks=("192.0.2.0/24",)), Rule(name="b"), peer=peer).rule == "a") is met
    if not peer.startswith("::ffff"):
        assert decide(Rule(name="a", networks=("::/0",)), Rule(name="b"), peer=peer).rule == "b"


def test_what_was_passed_over_is_told() -> None:
    """Each rule before, with the condition that was not met."""
    found = decide(Rule(name="a", networks=("10.0.0.0/8",)), Rule(local_ports=(2049,)), Rule(name="c"))
    assert found.passed == (
        ("a", "the peer 192.0.2.7 is in none of its networks"),
        ("1", "our port 700 is not in its local-ports"),
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"role": "both"}, "role = 'both' must be one of client, server"),
        ({"networks": ("10.0.0.1/8",)}, "networks: 10.0.0.1/8 has host bits set"),
        ({"networks": ("10.0.0.0/33",)}, "networks"),
        ({"local_networks": ("nfs",)}, "local-networks"),
        ({"local_ports": (0,)}, "local-ports: 0"),
        ({"local_ports": (65536,)}, "local-ports: 65536"),
        ({"auth_modes": ("tls",)}, "auth-modes: 'tls' must be one of unauthenticated, psk, x509"),
        ({"peer_names": ("*.*.*.a",)}, "peer-names"),
        ({"role": "server", "peer_names": ("a",)}, "a server's request names no peer"),
        ({"refuse": True, "profile": "a"}, "take one out"),
        *(({key: ()}, "an empty list matches nothing") for key in ("networks", "peer_names", "keyrings", "auth_modes")),
        *(({key: ()}, "an empty list matches nothing") for key in ("namespaces", "local_ports", "local_networks")),
    ],
    ids=str,
)
def test_rules_that_are_wrong(values: dict[str, Any], words: str) -> None:
    """Each is an error with its key."""
    with pytest.raises(ConfigurationError, match=words):
        Rule(**values)


def test_a_rule_names_a_profile_that_is_there() -> None:
    """An unknown one is an error at start, and a similar one is named."""
    with pytest.raises(ConfigurationError, match=r"rule\[1\]\.profile: 'clouda' is not.*did you mean 'cloud-a'"):
        Configuration(profiles={"cloud-a": Profile()}, rule=(Rule(profile="cloud-a"), Rule(profile="clouda")))


def test_profiles_that_requests_may_get() -> None:
    """Those of the rules of a role; of a role without rules, its own."""
    profiles = {name: Profile() for name in ("a", "b", "kernel-client")}
    rules = (Rule(role="server", profile="a"), Rule(role="server", refuse=True), Rule(role="server", profile="b"))
    found = Configuration(profiles=profiles, rule=rules, kernel=KernelSettings(server_profile="b")).rules()
    assert found.profiles(Role.SERVER) == ("a", "b")
    assert found.profiles(Role.CLIENT) == ("kernel-client",)
