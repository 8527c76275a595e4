"""The event of a handshake: one for each, with all that somebody needs to understand it."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from dataclasses import replace
from typing import Any

import pytest
import structlog
from cryptography import x509
from structlog.testing import capture_logs

from hsframework.agent.outcomes import encode_failure
from hsframework.credentials.labels import LONGEST, label_of
from hsframework.credentials.tags import Filter, SessionTags, Tag
from hsframework.dispatcher.messages import codec
from hsframework.dispatcher.requests.asked import Asked, Consumer, unit_of
from hsframework.dispatcher.requests.record import identity_of
from hsframework.dispatcher.requests.request import Outcome
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import AuthMode, Role
from hsframework.telemetry.metrics import MOST_KINDS, UNKNOWN, Kind, Metrics
from hsframework.testing import virtual_time
from hsframework.testing.certificates import Authority
from tests.support.house import connected_pair
from tests.unit.dispatcher.played import stage

AUTHORITY = Authority("Test CA")
OURS, THEIRS = (AUTHORITY.issue([name]) for name in ("ours.example", "theirs.example"))
CLIENT = Asked(
    role=Role.CLIENT,
    auth_mode=AuthMode.X509,
    profile="cloud-a",
    peer_name="theirs.example",
    identities=(OURS.identity,),
    consumer=Consumer(uid=4001, process=os.getpid()),
)


async def event_of(outcome: Outcome, asked: Asked | None = CLIENT, *, pull: bool = True, **changed: Any) -> Any:
    """Return the event of a request with this outcome."""
    async with stage() as played:
        with capture_logs() as logs, connected_pair() as (ours, _):
            request = played.another(ours, asked=asked, **changed)
            if pull:
                played.dispatcher.pull(played.agent, request.submission.group, 2)
                played.dispatcher.done(played.agent, request.id, outcome)
            else:
                played.dispatcher.cancel(request)
                request.custody.release()
            events = [each for each in logs if each["event"] == "handshake"]
        played.dispatcher.consumer_gone(played.request)
    (event,) = events
    return event


async def test_a_success_has_both_identities() -> None:
    """Role, profile and rule, consumer, both identities, cipher and key exchange, where the session is."""
    tags = [{"name": "cipher", "value": "TLS_AES_256_GCM_SHA384"}, {"name": "group", "value": "x25519"}]
    values = {"session": b"one", "remote-certificate": [THEIRS.certificate], "protocol": "tls13", "tag": tags}
    event = await event_of(Outcome(0, {**values, "alpn": "sunrpc"}), rule="rule 1")
    assert (
        event.items()
        >= {
            "log_level": "info",
            "status": "OK",
            "role": "client",
            "auth": "x509",
            "profile": "cloud-a",
            "peer_name": "theirs.example",
            "rule": "rule 1",
            "uid": 4001,
            "process": os.getpid(),
            "identity": label_of(OURS.certificate),
            "peer_identity": label_of(THEIRS.certificate),
            "protocol": "tls13",
            "cipher": "TLS_AES_256_GCM_SHA384",
            "key_exchange": "x25519",
            "alpn": "sunrpc",
        }.items()
    )
    assert "failure" not in event
    assert "peer_alert" not in event


async def test_a_failure_says_who_is_to_blame() -> None:
    """The row of the table, the side that it comes from and the peer's alert, as the agent's DONE tells them."""
    error = HandshakeFailed(Failure.PEER_REFUSED, "unknown_ca", peer_alert=48)
    values = dict(codec.decode(encode_failure(1, error, "tls13")).values)
    event = await event_of(Outcome(values.pop("status"), values))
    expected = {"failure": "PEER_REFUSED", "blame": "peer", "peer_alert": 48, "status": "EACCES", "protocol": "tls13"}
    assert event.items() >= {**expected, "log_level": "warning", "reason": str(error)}.items()


async def test_an_agents_words_are_bounded() -> None:
    """A failure that is no row of the table has no blame, an alert that is no number stays a text, both are cut."""
    tags = [{"name": "failure", "value": "X" * 5000}, {"name": "peer-alert", "value": "no number"}, {}]
    event = await event_of(Outcome(errno.EIO, {"tag": tags}))
    assert (len(event["failure"]), event["peer_alert"], "blame" in event) == (64, "no number", False)


async def test_a_request_without_facts() -> None:
    """The event leaves out all that is not known, and the time of a handshake that no agent has had."""
    event = await event_of(Outcome(0), None, pull=False)
    assert event["status"] == "ECANCELED"
    assert event["log_level"] == "info"
    assert "queued_ms" in event
    assert not event.keys() & {"role", "uid", "identity", "handshake_ms", "protocol"}


async def test_the_tags_of_the_peer() -> None:
    """Session tags are named in the event; a peer without a certificate has none."""
    tags = SessionTags(tuple(Tag(f"v{number}", (Filter("x509.tbs.version", str(number)),)) for number in (1, 3)))
    asked = replace(CLIENT, session_tags=tags)
    shown = await event_of(Outcome(0, {"session": b"one", "remote-certificate": [THEIRS.certificate]}), asked)
    assert shown["tags"] == ["v3"]
    assert "tags" not in await event_of(Outcome(0, {"session": b"one"}), asked)


def test_the_phases_add_up() -> None:
    """The time in the queue and that with the agent are those that passed, and together the whole."""

    async def body() -> None:
        async with stage() as played:
            await asyncio.sleep(2)
            pulled = played.pulled()
            await asyncio.sleep(3)
            with capture_logs() as logs:
                played.dispatcher.done(played.agent, pulled.id, Outcome.failure(errno.EACCES, "no"))
            (event,) = logs
            assert 2000 <= event["queued_ms"] < 2100
            assert 3000 <= event["handshake_ms"] < 3100
            assert event["milliseconds"] == pytest.approx(event["queued_ms"] + event["handshake_ms"], abs=0.2)

    virtual_time.run(body())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"remote-psk-identity": b"nvme\x1b"}, "psk:nvme\\x1b"),
        ({"remote-public-key": b"key"}, "key-sha256:2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683"),
        ({}, ""),
    ],
)
def test_identities_that_are_no_certificate(values: dict[str, Any], expected: str) -> None:
    """A pre-shared key's name in printable form, the fingerprint of a bare key, nothing where nothing was shown."""
    assert identity_of(values) == expected


def test_labels_of_odd_certificates() -> None:
    """One without subject has its first name, and what cannot be read its fingerprint."""
    unnamed = AUTHORITY.issue(["spiffe.example"], subject=x509.Name([]))
    assert label_of(unnamed.certificate) == "spiffe.example"
    assert label_of(b"no certificate").startswith("sha256:")
    assert label_of(b"0" * (LONGEST + 1)).startswith("sha256:")


def test_the_unit_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The innermost unit of the systemd hierarchy, in both forms of control groups; none of a process that is gone."""
    read, write = os.pipe()
    assert unit_of(2**22 + 1) == ""
    for text, unit in (
        ("0::/system.slice/nginx.service\n", "nginx.service"),
        (
            "9:memory:/x.service\n1:name=systemd:/user.slice/user@1.service/app.slice/b.scope/c\n",
            "b.scope",
        ),
        ("0::/\n", ""),
    ):
        os.write(write, text.encode())
        monkeypatch.setattr(os, "open", lambda path, flags: os.dup(read))
        assert unit_of(1) == unit
        monkeypatch.undo()
    os.close(read)
    os.close(write)


async def test_the_kind_that_is_counted() -> None:
    """Role, protocol and source are those of the request; the reason is a failure's name, and no word of an agent."""
    for tag, reason in (("EXPIRED", "EXPIRED"), ("something of theirs", "")):
        values = {"tag": [{"name": "failure", "value": tag}]}
        async with stage() as played:
            with connected_pair() as (ours, _):
                request = played.another(ours, asked=CLIENT)
                played.dispatcher.pull(played.agent, request.submission.group, 2)
                played.dispatcher.done(played.agent, request.id, Outcome(errno.EKEYEXPIRED, values))
            kind = Kind("client", played.agent.protocol, request.submission.source.name, reason)
            assert played.dispatcher.metrics.outcomes == {(request.submission.group, errno.EKEYEXPIRED, kind): 1}
            played.dispatcher.consumer_gone(played.request)


def test_kinds_are_bounded() -> None:
    """Further ones are counted by group and status alone."""
    metrics = Metrics()
    for number in range(MOST_KINDS + 2):
        metrics.handshake("tlshd", 0, 0.1, Kind(protocol=str(number)))
    assert len(metrics.outcomes) == MOST_KINDS + 1
    assert metrics.outcomes["tlshd", 0, UNKNOWN] == 2


async def test_the_audit_log_has_all_levels() -> None:
    """An ended request is handed on with the event's fields, also where their level is not logged."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    ended: list[Any] = []
    async with stage() as played:
        played.dispatcher.ended = lambda request, fields: ended.append((request.id, fields["status"]))
        number = played.pulled().id
        played.dispatcher.done(played.agent, number, Outcome.failure(errno.EIO, "over"))
    assert ended == [(number, "EIO")]
