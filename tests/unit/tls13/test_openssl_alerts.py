"""OpenSSL's own alert is the one that goes out, and the errno is that of the alert."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from OpenSSL._util import lib

from hsframework.failures import Failure
from hsframework.tls.client_hello import ALPN, KEY_SHARE, SERVER_NAME, SUPPORTED_GROUPS
from hsframework_tls13 import openssl_callbacks
from hsframework_tls13.contexts import Contexts
from hsframework_tls13.openssl import Problem
from hsframework_tls13.openssl_failures import verdict_on
from hsframework_tls13.records import plaintext_alert
from hsframework_tls13.settings import Settings
from tests.unit.tls13.engines import client_engine, server_engine
from tests.unit.tls13.support import edited, failed, feed, records

PAIRS = [
    (int(alert), reason)
    for line in (Path(__file__).parent / "data" / "openssl_alerts.tsv").read_text().splitlines()
    if not line.startswith("#")
    for alert, reason in [line.split("\t")]
]
WITHOUT_FAILURE = {71, 86, 112, 113}
"""Alerts that no failure of the table has."""
RFC_BEFORE_OPENSSL = {"binder does not verify": 51}


@pytest.mark.parametrize(("alert", "reason"), PAIRS)
def test_the_alert_that_openssl_wrote_counts(alert: int, reason: str) -> None:
    """Each pair that OpenSSL's sources have: its alert goes out, and failure and errno are those of the alert."""
    failure, sent = verdict_on([Problem("SSL routines", reason)], alert)
    if reason in RFC_BEFORE_OPENSSL:
        assert sent is None
        assert failure.failure.alert == RFC_BEFORE_OPENSSL[reason]
        return
    assert sent == alert
    assert alert in WITHOUT_FAILURE or failure.failure.alert == alert
    assert reason in failure.detail


def test_the_reason_tells_failures_of_one_alert_apart() -> None:
    """A wrong binder and a wrong signature are both decrypt_error; without an alert the reason is all there is."""
    for written in (51, None):
        assert verdict_on([Problem("SSL routines", "bad signature")], written).failure.failure is Failure.BAD_SIGNATURE
        verdict = verdict_on([Problem("SSL routines", "binder does not verify")], written)
        assert verdict.failure.failure is Failure.BAD_BINDER
    assert verdict_on([Problem("x509", "unheard of")], None).failure.failure is Failure.ILLEGAL_PARAMETER


def without(*numbers: int) -> Callable[[dict[int, bytes]], None]:
    def edit(extensions: dict[int, bytes]) -> None:
        for number in numbers:
            del extensions[number]

    return edit


def unchanged(extensions: dict[int, bytes]) -> None:
    """Leave the extensions as they are."""


@pytest.mark.parametrize(
    ("edit", "version", "failure"),
    [
        (without(KEY_SHARE), b"\3\3", Failure.MISSING_EXTENSION),
        (without(SUPPORTED_GROUPS), b"\3\3", Failure.MISSING_EXTENSION),
        (unchanged, b"\3\0", Failure.VERSION),
        (unchanged, b"\0\0", Failure.VERSION),
        (lambda extensions: extensions.update({SERVER_NAME: b""}), b"\3\3", Failure.GARBAGE),
    ],
    ids=["key_share", "supported_groups", "SSL 3.0", "version 0", "server_name"],
)
def test_a_client_hello_that_openssl_refuses(
    edit: Callable[[dict[int, bytes]], None], version: bytes, failure: Failure
) -> None:
    """A missing extension is 109, a legacy_version before TLS 1.0 is 70, an empty server_name 50."""
    (hello,) = records(client_engine().data_to_send())
    server = server_engine()
    assert failed(server, edited(hello, edit, version=version)).failure is failure
    assert failure.alert is not None
    assert server.data_to_send() == plaintext_alert(failure.alert)


def test_an_extension_that_was_not_asked_for() -> None:
    """A ServerHello with one is answered with unsupported_extension (110), EPROTO."""
    client, server = client_engine(), server_engine()
    feed(server, client.data_to_send())
    hello = next(records(server.data_to_send()))
    error = failed(client, edited(hello, lambda extensions: extensions.update({ALPN: b""})))
    assert error.failure is Failure.UNSUPPORTED_EXTENSION
    assert client.data_to_send() == plaintext_alert(110)


def test_an_extension_that_nobody_knows() -> None:
    """The same for a number that OpenSSL does not know, and passes over."""
    client, server = client_engine(), server_engine()
    feed(server, client.data_to_send())
    hello = next(records(server.data_to_send()))
    error = failed(client, edited(hello, lambda extensions: extensions.update({0x1234: b""})))
    assert error.failure is Failure.UNSUPPORTED_EXTENSION
    assert client.data_to_send() == plaintext_alert(110)


SHARES = {"X25519MLKEM768": 1088, "SecP256r1MLKEM768": 0, "P-256": 0, "X25519": 0, "X448": 0}
"""Offset of the part that is spoilt: behind the ciphertext of ML-KEM, if that comes first."""


@pytest.mark.parametrize("group", SHARES)
def test_a_servers_bad_share_is_the_servers_fault(group: str) -> None:
    """illegal_parameter (47), EPROTO: of the hybrids OpenSSL says "internal error", as if we were to blame."""
    contexts = Contexts(Settings(groups=(group,), key_shares=(group,)))
    client, server = client_engine(contexts), server_engine(contexts)
    feed(server, client.data_to_send())
    hello = next(records(server.data_to_send()))

    def spoil(extensions: dict[int, bytes]) -> None:
        share = extensions[KEY_SHARE]
        start = 4 + SHARES[group]
        extensions[KEY_SHARE] = share[:start] + bytes(min(len(share) - start, 65)) + share[start + 65 :]

    error = failed(client, edited(hello, spoil))
    assert (error.failure, error.errno) == (Failure.ILLEGAL_PARAMETER, Failure.ILLEGAL_PARAMETER.errno)
    assert client.data_to_send() == plaintext_alert(47)


def test_a_clients_bad_mlkem_share_is_the_clients_fault() -> None:
    """The same for an encapsulation key whose coefficients are too large (FIPS 203 section 7.2)."""
    (hello,) = records(client_engine().data_to_send())

    def spoil(extensions: dict[int, bytes]) -> None:
        share = extensions[KEY_SHARE]
        at = share.index(b"\x11\xec\x04\xc0") + 4
        extensions[KEY_SHARE] = share[:at] + b"\xff" * 1184 + share[at + 1184 :]

    assert failed(server_engine(), edited(hello, spoil)).failure is Failure.ILLEGAL_PARAMETER


def test_each_failure_of_a_judgement_has_an_alert_of_its_own() -> None:
    """Of each failure that a judgement of certificates can have, OpenSSL makes the alert from another reason."""
    assert openssl_callbacks._VERIFY_ERRORS[Failure.REVOKED] == lib.X509_V_ERR_CERT_REVOKED
    assert openssl_callbacks._VERIFY_ERRORS[Failure.EXPIRED] == lib.X509_V_ERR_CERT_HAS_EXPIRED
    assert Failure.NO_COMMON_PARAMETERS in openssl_callbacks._VERIFY_ERRORS
    assert len(openssl_callbacks._VERIFY_ERRORS) == len(set(openssl_callbacks._VERIFY_ERRORS.values())) == 10
