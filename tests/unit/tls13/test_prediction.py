"""Key shares that a client sends: all that are configured, or the best alone where it was taken before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from hsframework.failures import HandshakeFailed
from hsframework.interface import AuthMode, PresharedKey, Request, Result, Secret
from hsframework.tls.client_hello import parse_client_hello
from hsframework_tls13.driver import MAX_NAME, _server_of
from hsframework_tls13.engine import ClientEngine
from hsframework_tls13.plugin import Tls13Handshaker
from hsframework_tls13.policy import Choices
from hsframework_tls13.prediction import Predictions
from hsframework_tls13.protocol import Tls13Protocol
from hsframework_tls13.records import HANDSHAKE, HEADER_SIZE, split_records
from hsframework_tls13.settings import Settings
from tests.unit.tls13.support import ROOT
from tests.unit.tls13.test_plugin import AS_CLIENT, AS_SERVER, both, known, run

X25519, HYBRID, P384 = 29, 4588, 24
CLASSIC = Choices(("X25519", "P-256"), ("X25519", "P-256"))
NEAR = replace(AS_CLIENT, peer_address="192.0.2.1:2049")


def handshaker(**settings: Any) -> Tls13Handshaker:
    return Tls13Protocol().prepare(Settings(kernel_offload=False, **settings))


class Hellos:
    """The key shares of each ClientHello that a client has made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shares: list[tuple[int, ...]] = []
        send = ClientEngine.data_to_send

        def noting(engine: ClientEngine) -> bytes:
            output = send(engine)
            for record in split_records(output):
                if record[0] == HANDSHAKE:
                    self.shares.append(parse_client_hello(record[HEADER_SIZE + 4 :]).key_share_groups)
            return output

        monkeypatch.setattr(ClientEngine, "data_to_send", noting)


def handshake(
    hellos: Hellos, client: Tls13Handshaker, server: Tls13Handshaker, request: Request = NEAR
) -> Sequence[tuple[int, ...]]:
    """Return the key shares of each ClientHello of one handshake, which succeeds."""

    class Both:
        async def handshake(self, asked: Request, endpoint: Any) -> Result:
            return await (client if asked.role is request.role else server).handshake(asked, endpoint)

    hellos.shares.clear()
    first, second = run(both(request, AS_SERVER, Both()))  # type: ignore[arg-type]
    assert isinstance(first, Result), first
    assert isinstance(second, Result), second
    return tuple(hellos.shares)


def test_the_second_handshake_sends_one_key_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when only the port is another; another name or address is another server."""
    hellos, client, server = Hellos(monkeypatch), handshaker(), handshaker()
    assert handshake(hellos, client, server) == ((HYBRID, X25519),)
    assert handshake(hellos, client, server) == ((HYBRID,),)
    assert handshake(hellos, client, server, replace(NEAR, peer_address="192.0.2.1:50000")) == ((HYBRID,),)
    assert handshake(hellos, client, server, replace(NEAR, peer_address="192.0.2.2:2049")) == ((HYBRID, X25519),)
    assert handshake(hellos, client, server, replace(NEAR, peer_name="192.0.2.1")) == ((HYBRID, X25519),)
    assert handshake(hellos, client, server, replace(NEAR, user=1000)) == ((HYBRID, X25519),), "met by somebody else"


def test_a_server_that_takes_another_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets what it wants in a second ClientHello, and is no longer predicted; nor is one that never took it."""
    hellos, client = Hellos(monkeypatch), handshaker()
    classic = handshaker(groups=("P-384",), key_shares=("P-384",))
    handshake(hellos, client, handshaker())
    assert handshake(hellos, client, classic) == ((HYBRID,), (P384,))
    assert handshake(hellos, client, classic) == ((HYBRID, X25519), (P384,))
    assert handshake(hellos, client, classic) == ((HYBRID, X25519), (P384,))


def test_a_failure_takes_the_prediction_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that one key share breaks is tried with all, for any reason."""
    hellos, client, server = Hellos(monkeypatch), handshaker(), handshaker()
    handshake(hellos, client, server)
    stranger = replace(AS_SERVER, identities=(ROOT.issue(["other.example"]).identity,))
    first, _ = run(both(NEAR, stranger, client))
    assert isinstance(first, HandshakeFailed)
    assert handshake(hellos, client, server) == ((HYBRID, X25519),)


@pytest.mark.parametrize(
    "settings",
    [
        {"key_shares": ("X25519MLKEM768",)},
        {"key_shares": ("X25519",)},
        {"groups": ("X25519", "P-256"), "key_shares": ("P-256",)},
    ],
)
def test_nothing_is_predicted_where_the_best_group_is_not_one_of_several(settings: dict[str, Any]) -> None:
    """One key share stays one, and a group that was not chosen as a key share is never sent."""
    choices = Choices.of_settings(Settings(**settings))
    assert choices.best_group is None
    predictions = Predictions()
    predictions.learn((None, "server.example", None), choices, "X25519")
    assert not predictions.takes_best((None, "server.example", None), choices)


@pytest.mark.parametrize(("best", "openssl"), [("X25519", "x25519"), ("P-256", "secp256r1")])
def test_names_of_openssl(best: str, openssl: str) -> None:
    """The group is recognised by OpenSSL's name for it."""
    predictions, choices = Predictions(), Choices((best, "P-384"), (best, "P-384"))
    predictions.learn((None, None, "192.0.2.1"), choices, openssl)
    assert predictions.takes_best((None, None, "192.0.2.1"), choices)
    predictions.learn((None, None, "192.0.2.1"), choices, "secp384r1")
    assert not predictions.takes_best((None, None, "192.0.2.1"), choices)


def test_a_prediction_is_for_one_list_of_groups() -> None:
    """A server that took the best of one policy's groups is not known to take that of another's."""
    predictions, near = Predictions(), (None, None, "192.0.2.1")
    first, second = (Choices(groups, groups) for groups in (("X25519", "P-256"), ("P-256", "X25519")))
    predictions.learn(near, first, "x25519")
    assert predictions.takes_best(near, first)
    assert not predictions.takes_best(near, second)
    predictions.forget(near, second)
    assert predictions.takes_best(near, first)


def test_what_is_known_is_bounded() -> None:
    """The servers that were met longest ago are forgotten."""
    predictions = Predictions()
    for number in range(Predictions.MOST + 10):
        predictions.learn((None, None, str(number)), CLASSIC, "x25519")
        predictions.learn((None, None, "0"), CLASSIC, "x25519")
    assert predictions.takes_best((None, None, "0"), CLASSIC)
    assert not predictions.takes_best((None, None, "1"), CLASSIC)
    known = sum(predictions.takes_best((None, None, str(number)), CLASSIC) for number in range(2000))
    assert known == Predictions.MOST


def test_a_name_that_no_host_has_is_not_kept() -> None:
    """A consumer may send a name of any length; a server's request is nobody's."""
    assert _server_of(NEAR) == (None, "server.example", "192.0.2.1")
    assert _server_of(replace(NEAR, peer_name="a" * (MAX_NAME + 1))) is None
    assert _server_of(replace(AS_SERVER, peer_address="192.0.2.1:2049")) is None
    predictions = Predictions()
    predictions.learn(None, CLASSIC, "x25519")
    predictions.forget(None, CLASSIC)
    assert not predictions.takes_best(None, CLASSIC)


def test_a_psk_is_predicted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """psk_dhe_ke has key shares as well."""
    key = PresharedKey(b"who", Secret(b"k" * 32))
    client = replace(NEAR, auth_mode=AuthMode.PSK, psks=(key,))
    server = replace(AS_SERVER, auth_mode=AuthMode.PSK, identities=(), psk_lookup=known(key))
    hellos, served = Hellos(monkeypatch), handshaker()
    for shares in ((HYBRID, X25519), (HYBRID,)):
        hellos.shares.clear()
        first, _ = run(both(client, server, served))
        assert isinstance(first, Result)
        assert hellos.shares == [shares]
