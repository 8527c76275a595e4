"""Credentials in the dispatcher's custody: a profile's, or those that the consumer brought in their place."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hsframework.configuration.settings import (
    Configuration,
    IdentitySettings,
    Profile,
    PskSettings,
    TrustSettings,
)
from hsframework.credentials import files, trust as trust_module
from hsframework.dispatcher.keys.modes import auth_mode_of, auth_mode_of_keys, role_of
from hsframework.dispatcher.keys.vault import Vault, brings_nothing
from hsframework.errors import ConfigurationError, RequestRefused
from hsframework.interface import AuthMode, CertificateDemand, Role, Secret, Trust
from hsframework.testing.certificates import Authority

ROOT, OTHER = Authority("Root"), Authority("Other Root")
IDENTITY = ROOT.issue(["server.example"])

BROUGHT: Mapping[str, Any] = {
    "identity": [{"certificate": [b"certificate"], "private-key": Secret(b"private")}],
    "psk": [{"identity": b"carol", "key": Secret(b"c" * 32), "hash": "sha384"}],
    "trust-anchor": [b"anchor"],
    "client-certificate": 2,
    "alpn": ["h2"],
    "tls-priorities": ["SECURE256"],
}
"""Each attribute that a consumer may bring in place of its profile's."""


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    """A vault with everything in the profile ``web``, and nothing in ``default``."""
    files = IDENTITY.write(tmp_path)
    keys = tmp_path / "psks"
    keys.write_text(f"alice:{'61' * 32}\nbob:{'62' * 32}:sha384\n")
    keys.chmod(0o600)
    return Vault(
        Configuration(
            identities={"own": IdentitySettings(certificate=files.certificate, private_key=files.private_key)},
            psks={"keys": PskSettings(file=keys)},
            trust={"ours": TrustSettings(bundle=(ROOT.write(tmp_path),))},
            profiles={
                "web": Profile(
                    identities=("own",),
                    psks=("keys",),
                    trust="ours",
                    client_certificate="require",
                    alpn=("sunrpc",),
                    tls_priorities="NORMAL",
                ),
                "default": Profile(),
            },
        )
    )


def shown(vault: Vault, values: Mapping[str, Any], profile: str | None = "web") -> dict[str, Any]:
    """Return the credentials of a request, by the names of their attributes."""
    found = vault.resolve(profile, values)
    return {
        "identity": [it.private_key.reveal() for it in found.identities],
        "psk": [(it.identity, it.key.reveal(), it.hash) for it in found.psks],
        "trust-anchor": None if found.trust is None else list(found.trust.anchors),
        "client-certificate": found.client_certificate,
        "alpn": list(found.alpn),
        "tls-priorities": list(found.tls_priorities),
    }


OF_THE_PROFILE: Mapping[str, Any] = {
    "identity": [IDENTITY.identity.private_key.reveal()],
    "psk": [(b"alice", b"a" * 32, "sha256"), (b"bob", b"b" * 32, "sha384")],
    "trust-anchor": [ROOT.certificate],
    "client-certificate": CertificateDemand.REQUIRE,
    "alpn": ["sunrpc"],
    "tls-priorities": ["NORMAL"],
}
OF_THE_CONSUMER: Mapping[str, Any] = {
    "identity": [b"private"],
    "psk": [(b"carol", b"c" * 32, "sha384")],
    "trust-anchor": [b"anchor"],
    "client-certificate": CertificateDemand(2),
    "alpn": ["h2"],
    "tls-priorities": ["SECURE256", "NORMAL"],
}


def test_a_request_has_its_profiles_credentials(vault: Vault) -> None:
    """All of them, and the same object for each request that brings nothing."""
    assert shown(vault, {}) == OF_THE_PROFILE
    assert vault.resolve("web", {"peername": "x"}) is vault.resolve("web", {})
    assert shown(vault, {}, "default")["identity"] == []
    assert shown(vault, {}, None) == shown(vault, {}, "default")


@pytest.mark.parametrize("name", BROUGHT)
def test_what_a_consumer_brings_takes_the_place_of_its_profiles(vault: Vault, name: str) -> None:
    """That and nothing else; a TLS policy stands beside the profile's.  It is not kept for the next request."""
    values = {name: BROUGHT[name]}
    assert not brings_nothing(values)
    assert shown(vault, values) == {**OF_THE_PROFILE, name: OF_THE_CONSUMER[name]}
    assert shown(vault, {}) == OF_THE_PROFILE


def test_a_key_is_found_by_its_whole_identity(vault: Vault) -> None:
    """Neither by a beginning of it nor by more."""
    found = vault.resolve("web", {})
    key = found.find_psk(b"bob")
    assert key is not None
    assert key.key.reveal() == b"b" * 32
    assert [found.find_psk(it) for it in (b"bo", b"bobby", b"")] == [None] * 3


@pytest.mark.parametrize(
    ("values", "number", "text"),
    [
        ({"crl": [b"list"]}, errno.EINVAL, "come with the trust anchors"),
        ({"identity": [{"certificate": [b"c"]}]}, errno.EINVAL, "a certificate and a private key"),
        ({"identity": [{"certificate": [b"c"], "private-key": b"plain"}]}, errno.EINVAL, "and a private key"),
        ({"identity": [{"private-key": Secret(b"k")}]}, errno.EINVAL, "a certificate and a private key"),
        ({"psk": [{"identity": b"a"}]}, errno.EINVAL, "an identity, a key"),
        ({"psk": [{"key": Secret(b"k")}]}, errno.EINVAL, "an identity, a key"),
        ({"psk": [{"identity": b"a", "key": Secret(b"k"), "hash": "md5"}]}, errno.EINVAL, "the hash sha256"),
        ({"client-certificate": 9}, errno.EINVAL, "client-certificate 9 is not one of 0, 1, 2"),
        ({"trust-anchor": [b"der"], "crl-check": 2}, errno.EINVAL, "crl-check 2 is not one of 0, 1"),
        ({"tls-priorities": ["NORMAL", "NORMAL"]}, errno.EINVAL, "one tls-priorities"),
        ({"tls-priorities": ["x" * 5000]}, errno.EINVAL, "characters at most"),
    ],
)
def test_what_a_consumer_must_not_bring(vault: Vault, values: dict[str, Any], number: int, text: str) -> None:
    """Each is refused, and says what to change."""
    with pytest.raises(RequestRefused, match=text) as refused:
        vault.resolve("web", values)
    assert refused.value.errno == number


def test_a_key_without_a_hash_is_of_sha256(vault: Vault) -> None:
    """As the key files have it."""
    (key,) = vault.resolve("web", {"psk": [{"identity": b"a", "key": Secret(b"k")}]}).psks
    assert key.hash == "sha256"


def test_profiles_by_name(vault: Vault) -> None:
    """The one that is asked for, else the default where there is one; a name that is not configured is ENOENT."""
    assert [vault.profile_name(it, "toy") for it in ("web", None, "none")] == ["web", "default", "none"]
    assert Vault(Configuration()).profile_name(None, "toy") is None
    with pytest.raises(RequestRefused, match=r"configure \[profiles.none\]") as refused:
        vault.resolve("none", {})
    assert refused.value.errno == errno.ENOENT


@pytest.mark.parametrize(
    ("ask", "name", "kind"), [(role_of, "message-type", Role), (auth_mode_of, "auth-mode", AuthMode)]
)
def test_numbers_of_a_submit(ask: Any, name: str, kind: Any) -> None:
    """A member by its number; without one that of 0, and any other number is refused with those that there are."""
    for member in kind:
        assert ask({name: int(member)}) is member
    numbers = [int(it) for it in kind]
    for values in ({name: 77}, {name: 77} if 0 in numbers else {}):
        with pytest.raises(RequestRefused, match=f"{name} .* is not one of {', '.join(map(str, numbers))}") as refused:
            ask(values)
        assert refused.value.errno == errno.EINVAL
    if 0 in numbers:
        assert ask({}) is kind(0)


@pytest.mark.parametrize(
    ("identities", "psks", "client", "server"),
    [
        (1, 1, AuthMode.X509, AuthMode.X509),
        (0, 1, AuthMode.PSK, AuthMode.PSK),
        (0, 0, AuthMode.UNAUTHENTICATED, AuthMode.OWN),
    ],
    ids=["both", "pre-shared keys", "trust alone"],
)
def test_the_auth_mode_of_a_profiles_keys(identities: int, psks: int, client: AuthMode, server: AuthMode) -> None:
    """Identities go before keys; no server is anonymous, and without either its protocol may have a proof."""
    given: Any = SimpleNamespace(identities=(object(),) * identities, psks=(object(),) * psks)
    assert [auth_mode_of_keys(given, role) for role in (Role.CLIENT, Role.SERVER)] == [client, server]


@pytest.mark.parametrize("table", ["identities", "psks", "trust"])
def test_a_file_that_cannot_be_read_is_named_with_its_table(table: str, tmp_path: Path) -> None:
    """The error says which entry of the configuration to change."""
    gone = tmp_path / "gone"
    settings: Any = {
        "identities": IdentitySettings(certificate=gone, private_key=gone),
        "psks": PskSettings(file=gone),
        "trust": TrustSettings(bundle=(gone,)),
    }
    configuration: dict[str, Any] = {table: {"mine": settings[table]}}
    with pytest.raises(ConfigurationError, match=rf"^{table}.mine: .*gone"):
        Vault(Configuration(**configuration))


def test_the_systems_trust_stands_beside_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours first; without ``system`` the system's own is not read."""
    bundle = ROOT.write(tmp_path)
    crl = tmp_path / "crl.der"
    crl.write_bytes(ROOT.crl())
    reads: list[Trust] = []

    def system() -> Trust:
        reads.append(Trust((OTHER.certificate,)))
        return reads[-1]

    monkeypatch.setattr("hsframework.dispatcher.keys.vault.system_trust", system)
    for also, anchors in ((False, (ROOT.certificate,)), (True, (ROOT.certificate, OTHER.certificate))):
        settings = TrustSettings(bundle=(bundle,), crl=(crl,), system=also)
        made = Vault(Configuration(trust={"x": settings}, profiles={"p": Profile(trust="x")}))
        found = made.resolve("p", {}).trust
        assert found is not None
        assert (found.anchors, len(found.crls)) == (anchors, 1)
    assert len(reads) == 1
    assert made.system_trust is made.system_trust
    assert len(reads) == 2


def test_a_bundle_of_many_trusts_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty trusts that name a bundle and the system's beside a file of their own share the certificates."""
    bundle, read, systems = ROOT.write(tmp_path), list[str](), list[Trust]()
    reads = files.read_public

    def read_public(path: Path) -> bytes:
        read.append(path.name)
        return reads(path)

    def system() -> Trust:
        systems.append(Trust((OTHER.certificate,)))
        return systems[-1]

    monkeypatch.setattr(trust_module, "read_public", read_public)
    monkeypatch.setattr("hsframework.dispatcher.keys.vault.system_trust", system)
    own = Authority("Own").write(tmp_path, "own")
    trusts = {f"t{number}": TrustSettings(bundle=(bundle, own), system=True) for number in range(50)}
    made = Vault(Configuration(trust=trusts, profiles={name: Profile(trust=name) for name in trusts}))
    assert sorted(read) == sorted(path.name for path in (bundle, own))
    assert len(systems) == 1
    found = [made.resolve(name, {}).trust for name in trusts]
    assert len({id(der) for trust in found if trust is not None for der in trust.anchors}) == 3


def admitting(tmp_path: Path, **profile: Any) -> Vault:
    """Return a vault whose profile ``listed`` has an admission list."""
    trust = {"ours": TrustSettings(bundle=(ROOT.write(tmp_path),))}
    return Vault(Configuration(trust=trust, profiles={"listed": Profile(admit=("dns:a.example",), **profile)}))


@pytest.mark.parametrize("demand", ["none", "request", "require"])
def test_an_admission_list_demands_a_certificate(demand: str, tmp_path: Path) -> None:
    """It goes with the trust, and nobody who shows nothing is waited for; a consumer cannot lower the demand."""
    vault = admitting(tmp_path, trust="ours", client_certificate=demand)
    for values in ({}, {"client-certificate": 0}):
        given = vault.resolve("listed", values)
        assert given.trust == Trust(ROOT.trust().anchors, admit=("dns:a.example",))
        assert given.client_certificate is CertificateDemand.REQUIRE


def test_an_admission_list_holds_for_a_trust_that_is_brought(tmp_path: Path) -> None:
    """One in the submit gets the list; one in a file, which nobody reads here, is refused."""
    vault = admitting(tmp_path, trust="ours")
    assert vault.resolve("listed", {"trust-anchor": [b"x"]}).trust == Trust((b"x",), admit=("dns:a.example",))
    with pytest.raises(RequestRefused, match="no trust in a file") as caught:
        vault.resolve("listed", {"trust-id": 1})
    assert caught.value.errno == errno.EINVAL


def test_an_admission_list_without_trust_trusts_nobody(tmp_path: Path) -> None:
    """Pre-shared keys may be listed; a certificate then leads to no authority."""
    assert admitting(tmp_path).resolve("listed", {}).trust == Trust((), admit=("dns:a.example",))


def test_a_profiles_keys_are_gathered_once(tmp_path: Path) -> None:
    """Requests that bring something else share the profile's keys and their index, and pay nothing for their number."""
    file = tmp_path / "psks"
    file.touch(0o600)
    file.write_text("".join(f"client-{number}:{number:064x}\n" for number in range(1000)))
    configuration = Configuration(psks={"many": PskSettings(file=file)}, profiles={"p": Profile(psks=("many",))})
    vault = Vault(configuration)
    plain, first, second = (vault.resolve("p", values) for values in ({}, {"alpn": ["a"]}, {"alpn": ["b"]}))
    assert plain.psks is first.psks is second.psks
    assert plain.by_identity is first.by_identity is second.by_identity
    found = second.find_psk(b"client-999")
    assert found is not None
    assert found is plain.psks[999]
    assert vault.resolve("p", {"psk": BROUGHT["psk"]}).find_psk(b"client-999") is None
