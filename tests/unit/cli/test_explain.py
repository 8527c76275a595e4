"""`explain` says what the service does: on generated requests, and as people read it."""

from __future__ import annotations

import errno
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hsframework.agent.conversation import codec as agents_codec
from hsframework.agent.requests import decode_request
from hsframework.cli.checks.explanation import Explanation, explain, verdict_on
from hsframework.cli.commands import explain as command
from hsframework.cli.main import build_parser
from hsframework.configuration.rules import AUTH_MODES, OWN_NAMESPACE, ROLES, Facts, Rule, Unknown
from hsframework.configuration.settings import (
    Configuration,
    IdentitySettings,
    KernelSettings,
    Profile,
    TrustSettings,
)
from hsframework.configuration.toml import load_configuration
from hsframework.credentials.admission import check_admitted
from hsframework.credentials.judgement import judge_for
from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.keys import vault as vault_module
from hsframework.dispatcher.keys.keyring import KernelKeys
from hsframework.dispatcher.keys.vault import Vault
from hsframework.dispatcher.messages import accept_reply
from hsframework.dispatcher.requests.request import Source
from hsframework.dispatcher.sources.kernel.request import KernelRequests
from hsframework.dispatcher.sources.kernel.wire import Accepted
from hsframework.errors import HandshakeError, RequestRefused
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import AuthMode, Demand, PeerIdentity, Request, anybody, no_psk
from hsframework.process import keyctl
from hsframework.testing.certificates import CLIENT, SERVER, Authority
from tests.support.played_kernel import NFS, Keys

REQUESTS, CONFIGURATIONS = 500, 25
ROOTS = {name: Authority(f"Authority {name}") for name in "abc"}
BOTH = (CLIENT, SERVER)
PEERS = {
    name: root.issue([f"nfs1.{name}.example"], usages=BOTH, subject=f"nfs1 of {name}") for name, root in ROOTS.items()
} | {
    "expired": ROOTS["a"].issue(["nfs1.a.example"], usages=BOTH, not_after=datetime(2021, 1, 1, tzinfo=UTC)),
    "client": ROOTS["b"].issue(["x"], usages=(CLIENT,)),
}
RINGS = {NFS: ".nfs", 8: ".drbd", 9: None}
"""Names of keyrings by serial; None: it cannot be seen."""
ADDRESSES = ("192.0.2.7", "192.0.2.200", "::ffff:192.0.2.7", "2001:db8::7", "fe80::1%eth0", "unix")
NAMES = ("nfs1.a.example", "nfs1.b.example", "NFS1.A.example.", "other.example", "192.0.2.7", None)


def maybe(chance: random.Random, values: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Return some of the values, or mostly None."""
    return None if chance.random() < 0.7 else tuple(chance.sample(values, chance.randint(1, 2)))


def a_rule(chance: random.Random, profiles: list[str]) -> Rule:
    role = chance.choice(["client", "server", None])
    refuse = chance.random() < 0.1
    return Rule(
        name=chance.choice(["", "named"]),
        role=role,
        networks=maybe(chance, ("192.0.2.0/25", "192.0.2.0/24", "2001:db8::/32", "0.0.0.0/0", "::/0")),
        local_networks=maybe(chance, ("198.51.100.0/24", "203.0.113.0/24")),
        local_ports=maybe(chance, (2049, 4420, 700)),
        peer_names=None if role == "server" else maybe(chance, ("*.a.example", "*.b.example", "**")),
        namespaces=maybe(chance, (OWN_NAMESPACE, "blue")),
        keyrings=maybe(chance, (".nfs", ".drbd")),
        auth_modes=maybe(chance, ("unauthenticated", "psk", "x509")),
        profile=None if refuse else chance.choice([*profiles, None]),
        refuse=refuse,
    )


def a_configuration(chance: random.Random, folder: Path) -> Configuration:
    """Return a configuration whose files are there; some have no rules, and some no profile of a role."""
    identities, trust = {}, {}
    for name, root in ROOTS.items():
        files = root.issue([f"own.{name}.example"]).write(folder, name)
        identities[name] = IdentitySettings(certificate=files.certificate, private_key=files.private_key)
        trust[name] = TrustSettings(bundle=(root.write(folder, f"ca-{name}"),))
    lists = (None, (), ("dns:*.a.example",), ("dns:nfs1.b.example", "subject:CN=nfs1 of a"), ("uri:spiffe://x/*",))
    names = [*"pqr", *chance.sample(["kernel-client", "kernel-server"], chance.randint(0, 2))]
    profiles = {
        name: Profile(
            identities=tuple(chance.sample("abc", chance.randint(0, 2))),
            trust=chance.choice([*"abc", None]),
            client_certificate=chance.choice(["none", "request", "require"]),
            alpn=chance.choice([(), ("sunrpc",), ("h2",)]),
            admit=chance.choice(lists),
        )
        for name in names
    }
    kernel = KernelSettings(client_profile=chance.choice([None, "p"]), server_profile=chance.choice([None, "q"]))
    rules = tuple(a_rule(chance, names) for _ in range(chance.choice([0, 1, 3, 6])))
    return Configuration(identities=identities, trust=trust, profiles=profiles, kernel=kernel, rule=rules)


def the_facts(chance: random.Random) -> tuple[Facts, dict[str, Any]]:
    """Return facts for `explain`, and the request of the kernel that has them: ACCEPT's values, source and socket."""
    role, mode = chance.choice(list(ROLES.values())), chance.choice(list(AUTH_MODES.values()))
    peer, port = chance.choice(ADDRESSES), chance.choice([2049, 4420, 50000])
    local, name = chance.choice(["198.51.100.1", "2001:db8::1"]), chance.choice(NAMES)
    serial, namespace = chance.choice([None, *RINGS]), chance.choice([OWN_NAMESPACE, "blue"])
    keyring: str | Unknown | None = None if serial is None else RINGS[serial] or Unknown("gone")
    values = {"message-type": int(role), "auth-mode": int(mode), "keyring": serial, "peername": name}
    facts = Facts(
        role=role,
        auth_mode=mode,
        peer=peer,
        local=local,
        local_port=port,
        peer_name=name if role is ROLES["client"] else None,
        namespace=namespace,
        keyring=keyring,
    )
    socket = SimpleNamespace(peer_host=peer, local_address=f"[{local}]:{port}" if ":" in local else f"{local}:{port}")
    source = "kernel" if namespace == OWN_NAMESPACE else f"kernel:{namespace}"
    return facts, {"values": values, "custody": socket, "source": SimpleNamespace(name=source)}


def served(requests: KernelRequests, accept: dict[str, Any]) -> tuple[str, Request]:
    """Return the rule, and the request as an agent gets it.  Raises RequestRefused."""
    submission, _ = requests.take(
        cast("Source", accept["source"]), "tlshd", Accepted(accept["values"]), cast("Custody", accept["custody"])
    )
    reply = accept_reply(submission.parameters, sequence=1, request_id=1, milliseconds=1)
    message = agents_codec.decode(reply)
    trust = cast("Any", submission.trust)
    protocol = SimpleNamespace(auth_modes=frozenset(AuthMode), understands=frozenset(Demand))
    tls = cast("Any", SimpleNamespace(protocol=protocol, request_codec=None))
    request = decode_request(message.values, tls, deadline=0.0, trust=trust, psk_lookup=no_psk, authorize=anybody)
    return submission.rule, request


def judged(request: Request, chain: tuple[bytes, ...]) -> tuple[bytes, ...] | Failure:
    """Return the path that agents accept, or their failure: by the judge, and then by the list, as an agent has it."""
    try:
        path = judge_for(request)(chain)
        check_admitted(None if request.trust is None else request.trust.admit, PeerIdentity(certificates=path))
    except HandshakeFailed as failed:
        return failed.failure
    return path


@pytest.fixture
def _world(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's trust is one authority, and keyrings have names."""

    def describe(serial: int) -> Any:
        name = RINGS[serial]
        if name is None:
            raise OSError(errno.EKEYREVOKED, "gone")
        return SimpleNamespace(description=name, type="keyring")

    monkeypatch.setattr(vault_module, "system_trust", ROOTS["c"].trust)
    monkeypatch.setattr(keyctl, "describe", describe)


@pytest.mark.usefixtures("_world")
def test_it_agrees_with_the_service(tmp_path: Path) -> None:
    """On 500 generated requests: the rule, the refusal, every term that an agent gets, and the verdict on each peer."""
    chance, seen = random.Random(16), {"refused": 0, "served": 0, "admitted": 0, "not admitted": 0}
    for _ in range(CONFIGURATIONS):
        settings = a_configuration(chance, tmp_path)
        vault = Vault(settings)
        requests = KernelRequests(vault, cast("KernelKeys", Keys()), settings)
        for _ in range(REQUESTS // CONFIGURATIONS):
            facts, accept = the_facts(chance)
            compare(explain(settings, facts, vault=vault), requests, accept, seen)
    assert seen["refused"] + seen["served"] == REQUESTS
    assert min(seen.values()) >= 25, seen


def compare(found: Explanation, requests: KernelRequests, accept: dict[str, Any], seen: dict[str, int]) -> None:
    """Compare an explanation with what the service does for the same request."""
    try:
        rule, request = served(requests, accept)
    except RequestRefused as refused:
        assert found.refusal is not None
        assert found.refusal.errno == refused.errno
        # The reason of the kernel's look-up is its own; the rule is the same.
        assert str(found.refusal).partition(":")[0] == str(refused).partition(":")[0]
        seen["refused"] += 1
        return
    seen["served"] += 1
    assert (found.refusal, found.decision.rule) == (None, rule)
    own = found.request()
    assert own is not None
    for name in ("role", "auth_mode", "peer_name", "profile", "identities", "trust", "client_certificate", "alpn"):
        assert getattr(own, name) == getattr(request, name), name
    assert (own.tls_priorities, own.kernel_consumer) == (request.tls_priorities, request.kernel_consumer)
    for peer in PEERS.values():
        verdict, expected = verdict_on(found, peer.chain), judged(request, peer.chain)
        if own.auth_mode is AUTH_MODES["psk"]:
            assert verdict.refusal is not None
        elif isinstance(expected, Failure):
            assert isinstance(verdict.refusal, HandshakeFailed)
            assert verdict.refusal.failure is expected
            seen["not admitted"] += 1
        else:
            assert (verdict.refusal, verdict.path) == (None, expected)
            seen["admitted"] += 1


TEXT = """
[identities.host]
certificate = "host.pem"
private-key = "host.key"
[trust.fleet]
bundle = ["ca.pem"]
[profiles.storage]
identities = ["host"]
trust = "fleet"
admit = ["dns:*.storage.example", "uri:spiffe://fleet.example/storage/*"]
[[rule]]
name = "elsewhere"
networks = ["198.51.100.0/24"]
refuse = true
[[rule]]
name = "exports"
role = "server"
local-ports = [2049]
profile = "storage"
"""
Say = Callable[..., tuple[int, str]]


@pytest.fixture
def say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """`explain` with a file of rules: status and output."""
    root = Authority("Fleet")
    for name, names in (("host", ["host.example"]), ("good", ["a.storage.example"]), ("other", ["b.example"])):
        leaf = root.issue(names, usages=BOTH)
        (tmp_path / f"{name}.pem").write_bytes(leaf.certificate_pem)
        (tmp_path / f"{name}.key").write_bytes(leaf.private_key_pem)
        (tmp_path / f"{name}.key").chmod(0o600)
    (tmp_path / "stranger.pem").write_bytes(Authority("Strange").issue(["a.storage.example"]).certificate_pem)
    (tmp_path / "ca.pem").write_bytes(root.certificate_pem)
    (tmp_path / "c.toml").write_text(TEXT)

    def call(*words: str) -> tuple[int, str]:
        arguments = build_parser(("explain",)).parse_args(["explain", "--config", f"{tmp_path}/c.toml", *words])
        status = command.run(arguments)
        return status, capsys.readouterr().out.replace(f"{tmp_path}/", "")

    def in_folder(*words: str) -> tuple[int, str]:
        return call(*(str(tmp_path / word) if word.endswith(".pem") else word for word in words))

    return in_folder


SERVER_WORDS = ("--role", "server", "--peer", "192.0.2.7", "--port", "2049")


def test_the_way_to_a_profile(say: Say) -> None:
    """The rules that were passed over and why, the rule and the profile with their lines, identity and trust."""
    status, output = say(*SERVER_WORDS)
    assert status == 0
    assert "passed over  rule elsewhere: the peer 192.0.2.7 is in none of its networks\n" in output
    assert "rule         c.toml:15: rule[1]: exports\n" in output
    assert "profile      c.toml:7: profiles.storage: storage\n" in output
    assert "identity     host: CN=host.example, until " in output
    assert "trust        fleet: CN=Fleet; revocation lists: none\n" in output
    assert "peer         must show a certificate\n" in output
    assert "admits       c.toml:10: profiles.storage.admit: one of 2 must be for the peer\n" in output
    assert "verdict" not in output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--role", "server", "--peer", "198.51.100.7"), "refused  rule elsewhere refuses it (EACCES)"),
        (("--role", "server", "--port", "4420"), "no rule for the role server is met (EACCES)"),
        ((*SERVER_WORDS, "--certificate", "other.pem"), "refused, NOT_AUTHORIZED, alert 49: "),
        ((*SERVER_WORDS, "--certificate", "stranger.pem"), "refused, UNTRUSTED, alert 48: "),
        ((*SERVER_WORDS, "--auth-mode", "psk", "--psk-identity", "nqn"), "refused, NOT_AUTHORIZED, alert 49: "),
        ((*SERVER_WORDS, "--auth-mode", "psk", "--certificate", "good.pem"), "no certificate asked for (EPROTO)"),
    ],
    ids=str,
)
def test_refusals(say: Say, words: tuple[str, ...], said: str) -> None:
    """Status 1, with the rule or the check that refuses, and the errno of the consumer."""
    status, output = say(*words)
    assert (status, said in output) == (1, True), output


def test_a_peer_that_is_admitted(say: Say) -> None:
    """Status 0, with the entry of the list, and the path to the authority; the same as JSON."""
    words = (*SERVER_WORDS, "--certificate", "good.pem")
    status, output = say(*words)
    assert status == 0
    path = "path: CN=a.storage.example <- CN=Fleet"
    assert f"admitted, by the entry 'dns:*.storage.example'; {path}\n" in output
    answer = json.loads(say(*words, "--json")[1])
    assert answer["admitted"] is True
    assert answer["passed"] == [["elsewhere", "the peer 192.0.2.7 is in none of its networks"]]
    assert answer["verdict"] == [f"admitted, by the entry 'dns:*.storage.example'; {path}"]


def test_a_key_that_cannot_be_read(say: Say, tmp_path: Path) -> None:
    """Requests that need it are refused, with the file; others are explained as before."""
    (tmp_path / "host.key").unlink()
    status, output = say(*SERVER_WORDS)
    assert (status, "host.key" in output, "(ENOKEY)" in output) == (1, True, True)
    assert "no rule for the role server" in say("--role", "server")[1]


def test_a_name_is_a_clients(say: Say) -> None:
    """A server's request has none; to give one is a mistake of the command line."""
    from hsframework.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match="names no peer"):
        say("--role", "server", "--name", "a.example")


def test_without_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's trust judges servers of a client without a profile; which name it must prove is asked for."""
    monkeypatch.setattr(vault_module, "system_trust", ROOTS["a"].trust)
    (tmp_path / "none.toml").write_text("")
    settings = load_configuration(tmp_path / "none.toml")
    found = explain(settings, Facts(role=ROLES["client"], auth_mode=AUTH_MODES["unauthenticated"]))
    assert (found.decision.rule, found.decision.profile, found.refusal) == ("", None, None)
    refused = verdict_on(found, PEERS["a"].chain).refusal
    assert isinstance(refused, HandshakeError)
    assert isinstance(refused, HandshakeFailed)
    assert refused.failure is Failure.NO_PEER_NAME
