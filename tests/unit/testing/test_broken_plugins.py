"""Each broken plugin fails the check that is there for its fault, and the failure says what the fault is.

Most of them succeed with themselves, which is what their authors will have tried.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

import hsframework
from hsframework.errors import ConfigurationError, StreamError
from hsframework.interface import (
    AsyncStream,
    Demand,
    EstablishedSession,
    Handshaker,
    PresharedKey,
    Role,
    Secret,
    Stream,
)
from hsframework.netlink.spec import parse_specification
from hsframework.testing.conformance import ConformanceFailure, ConformanceSuite, Scenario, refused
from tests.unit.testing import broken_handshakers as broken, openly
from tests.unit.testing.toy_exchange import keystream
from tests.unit.testing.toy_plugin import (
    CLIENT,
    KEY,
    SERVER,
    STRANGER,
    DatagramHandshaker,
    DatagramProtocol,
    SealedStream,
    ToyHandshaker,
    ToyPlugin,
    ToyProtocol,
    ToySettings,
    ToyStream,
    plugin_with,
    scenario_for,
)


class NumbersFromOne(ToyStream):
    """Its two directions do not agree on the number of the first record."""

    first_received = 1


class DropsWhatIsThere(ToyStream):
    """Begins with an empty socket."""

    def __init__(self, sock: socket.socket, role: Role, key: Secret) -> None:
        super().__init__(sock, role, key)
        sock.setblocking(False)
        try:
            while sock.recv(4096):
                pass
        except BlockingIOError:
            pass


class PlainText(SealedStream):
    """Proves its records, and does not encrypt them."""

    async def _send_record(self, data: bytes) -> None:
        self._sent += 1
        record = len(data).to_bytes(2, "big") + data + self.seal(self._role, self._sent, data)
        await self._loop.sock_sendall(self._socket, record)

    async def receive(self, max_size: int = 65536) -> bytes:
        size = int.from_bytes(await self._exactly(2), "big")
        self._received += 1
        data = await self._exactly(size)
        if await self._exactly(32) != self.seal(self._peer, self._received, data):
            raise StreamError("a record does not verify")
        return data


class OneNumber(SealedStream):
    """Every record has the number 0."""

    async def _send_record(self, data: bytes) -> None:
        self._sent = 0
        await super()._send_record(data)

    async def receive(self, max_size: int = 65536) -> bytes:
        self._received = 0
        return await super().receive(max_size)


class OneKey(SealedStream):
    """Both directions are the client's."""

    def __init__(self, sock: socket.socket, role: Role, key: Secret) -> None:
        super().__init__(sock, Role.CLIENT, key)
        self._peer = Role.CLIENT


class OldKey(SealedStream):
    """The session's key is the same in all sessions."""

    def __init__(self, sock: socket.socket, role: Role, key: Secret) -> None:
        super().__init__(sock, role, KEY)


class LargeRecords(SealedStream):
    """A stream with lengths of four bytes, all of which it takes."""

    async def _send_record(self, data: bytes) -> None:
        pad = keystream(self._key, self._role, self._sent, len(data))
        self._sent += 1
        record = (len(data) + 32).to_bytes(4, "big") + bytes(a ^ b for a, b in zip(data, pad, strict=True))
        await self._loop.sock_sendall(self._socket, record + self.seal(self._role, self._sent, data))

    async def receive(self, max_size: int = 65536) -> bytes:
        while len(self._rest) < 4:
            self._rest += await self._exactly(1)
        size = int.from_bytes(self._rest, "big") - 32
        body, self._rest = await self._exactly(size), b""
        data = bytes(a ^ b for a, b in zip(body, keystream(self._key, self._peer, self._received, size), strict=True))
        self._received += 1
        if await self._exactly(32) != self.seal(self._peer, self._received, data):
            raise StreamError("a record does not verify")
        return data


class TakesAnyEnd(SealedStream):
    """The end of the connection is the end of the data."""

    async def receive(self, max_size: int = 65536) -> bytes:
        try:
            return await super().receive(max_size)
        except ConnectionResetError:
            return b""


class TakesSessionsOfOthers(ToyPlugin):
    """Gives a stream for every session."""

    @hsframework.hookimpl
    def hsframework_attach_session(
        self, session: EstablishedSession, socket: socket.socket, asynchronous: bool
    ) -> Stream | AsyncStream | None:
        return super().hsframework_attach_session(replace(session, protocol="toy"), socket, asynchronous)


class ShowsItsKey(ToyStream):
    """In its repr."""

    def __repr__(self) -> str:
        return f"ShowsItsKey({self._key.reveal()!r})"


@dataclass(frozen=True)
class Careless(ToySettings):
    """Takes every number of tries."""

    def __post_init__(self) -> None:
        pass


@dataclass(frozen=True)
class Terse(ToySettings):
    """Settings whose error does not say which of them is wrong."""

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise ConfigurationError("wrong configuration")


class PreparesRudely(ToyProtocol):
    """Fails in prepare with an exception of its own."""

    settings_type = Careless

    def prepare(self, settings: Any) -> Handshaker:
        if settings.tries < 1:
            raise KeyError(settings.tries)
        return ToyHandshaker(settings)


class OpenKey(ToyPlugin):
    """Its session's key is no secret by the specification."""

    def __init__(self) -> None:
        super().__init__(type("Open", (ToyProtocol,), {"specification": OPEN_SPECIFICATION}), OpenStream)


class NakedGoodbye(SealedStream):
    """Ends a direction by a length of zero, and proves nothing about it.  A length counts the proof too."""

    async def _send_record(self, data: bytes) -> None:
        pad = keystream(self._key, self._role, self._sent, len(data))
        self._sent += 1
        body = bytes(a ^ b for a, b in zip(data, pad, strict=True)) + self.seal(self._role, self._sent, data)
        await self._loop.sock_sendall(self._socket, len(body).to_bytes(2, "big") + body)

    async def send_eof(self) -> None:
        await self._loop.sock_sendall(self._socket, bytes(2))

    async def receive(self, max_size: int = 65536) -> bytes:
        if self._rest or not (size := int.from_bytes(await self._exactly(2), "big")):
            data, self._rest = self._rest[:max_size], self._rest[max_size:]
            return data
        if not 32 < size <= 1032:
            raise StreamError("a length that no record has")
        body, pad = await self._exactly(size), keystream(self._key, self._peer, self._received, size - 32)
        self._received += 1
        self._rest = bytes(a ^ b for a, b in zip(body[:-32], pad, strict=True))
        if self.seal(self._peer, self._received, self._rest) != body[-32:]:
            raise StreamError("a record does not verify")
        data, self._rest = self._rest[:max_size], self._rest[max_size:]
        return data


class OpenStream(SealedStream):
    """Takes its key as bytes."""

    def __init__(self, sock: socket.socket, role: Role, key: Any) -> None:
        super().__init__(sock, role, Secret(key))


OPEN_SPECIFICATION = parse_specification(
    """
name: toy
attribute-sets:
  - {name: request, attributes: [{name: key, type: binary}]}
  - {name: session, attributes: [{name: key, type: binary}]}
operations: {list: []}
""",
    sensitive="{request: [key]}",
)
WITH_PSK = replace(CLIENT, psks=(PresharedKey(b"host", Secret(bytes(32))),))
OTHER_PSK = (PresharedKey(b"host", Secret(b"another key of 32 bytes, as such")),)


def with_settings(kind: type[ToySettings]) -> ToyPlugin:
    """Return the toy with other settings."""
    return ToyPlugin(type("Changed", (ToyProtocol,), {"settings_type": kind}))


@dataclass(frozen=True)
class Fault:
    """A plugin, the check that finds it, and what the failure says."""

    check: str
    says: str
    plugin: object
    changes: dict[str, Any] = field(default_factory=dict)
    works: bool = True

    def suite(self) -> ConformanceSuite:
        """Return the conformance test of this plugin."""
        scenario = scenario_for(self.plugin, **self.changes)

        class Suite(ConformanceSuite):
            def scenario(self) -> Scenario:
                return scenario

        return Suite()


def found_by(check: str, handshaker: type[ToyHandshaker], says: str, *, works: bool = True) -> Any:
    """Return the parameter of a handshaker that breaks a rule."""
    base = DatagramProtocol if issubclass(handshaker, DatagramHandshaker) else ToyProtocol
    changes = {"streams": False} if base is DatagramProtocol else {}
    fault = Fault(check, says, plugin_with(handshaker, base), changes, works)
    return pytest.param(fault, id=f"{check}-{handshaker.__name__}")


def other(check: str, name: str, says: str, plugin: object, *, works: bool = True, **changes: Any) -> Any:
    """Return the parameter of a plugin that breaks a rule elsewhere."""
    return pytest.param(Fault(check, says, plugin, changes, works), id=f"{check}-{name}")


def promises(demand: Demand) -> Any:
    """Return the parameter of a plugin that declares a demand, and keeps to nothing."""
    plugin = ToyPlugin(type("Promises", (ToyProtocol,), {"understands": frozenset({demand})}))
    return other("demands_are_kept", demand.name, f"understands has {demand.name}", plugin)


FAULTS = [
    *map(promises, (Demand.ALPN, Demand.CLIENT_CERTIFICATE, Demand.PEER_NAME, Demand.TRUST)),
    found_by("cancellation_is_honoured", broken.ConvertsCancellation, "in place of CancelledError"),
    found_by("cancellation_is_honoured", broken.SucceedsWhenCancelled, "returns a result in place of"),
    found_by("cancellation_is_honoured", broken.ShieldsItself, "leaves a task that runs on when it has ended"),
    found_by("nothing_is_left_behind", broken.SetsOptions, "leaves it so (client): SO_RCVLOWAT", works=False),
    found_by("nothing_is_left_behind", broken.SetsATimer, "10 timers (call_later)"),
    found_by("nothing_is_left_behind", broken.LeavesItsTimer, "5 handshakers that are closed leave behind: 5 timers"),
    found_by("nothing_is_left_behind", broken.KeepsRequests, "objects of hsframework.interface.request.Request"),
    found_by("handshake_succeeds", broken.ComputesLong, "in one callback of the event loop", works=False),
    found_by("handshake_succeeds", broken.FailsToClose, "close() of toy's handshaker fails", works=False),
    found_by("different_pairs_are_kept_apart", broken.OneAtATime, "waits for another one whose peer is silent"),
    found_by("different_pairs_are_kept_apart", broken.RemembersKeys, "with different keys succeed with each other"),
    found_by("different_pairs_are_kept_apart", broken.HasAFixedKey, "two sessions have a key in common"),
    found_by("bad_network", broken.HasNoTime, "with a slow peer"),
    found_by("kernel_consumers_are_served_in_the_kernel", broken.OverlooksTheKernel, "it would go on in plain text"),
    found_by("authorize_is_obeyed", broken.AsksAboutAnother, "asks authorize about"),
    found_by("authorize_is_obeyed", broken.AsksInVain, "goes on after authorize has refused its peer"),
    found_by("no_byte_too_many_is_read", broken.TakesAll, "in one piece with message 1 to the client"),
    other("proofs_are_compared_in_constant_time", "Openly", "(line 15): proof == expected", openly.PLUGIN),
    other("data_is_protected", "NakedGoodbye", "ended by a record without a body", ToyPlugin(stream=NakedGoodbye)),
    found_by("different_pairs_are_kept_apart", broken.KeepsItsFirstKey, "and succeeds where it is the first"),
    other("data_is_protected", "LargeRecords", "has a record that announces", ToyPlugin(stream=LargeRecords)),
    other(
        "handshake_succeeds",
        "DeclaresNothing",
        "name the auth mode in the protocol's auth_modes",
        ToyPlugin(type("DeclaresNothing", (ToyProtocol,), {"auth_modes": frozenset()})),
        works=False,
    ),
    found_by("handshake_succeeds", broken.SaysNo, "not today", works=False),
    found_by("handshake_succeeds", broken.ReturnsNonsense, "EIO", works=False),
    found_by("handshake_succeeds", broken.ReturnsWhatCannotBeTold, "colour", works=False),
    found_by("handshake_succeeds", broken.EstablishesNothing, "success without a session", works=False),
    other("handshake_succeeds", "Uninstalled", "no plugin 'nowhere' is installed", "nowhere", works=False),
    found_by("exactly_one_outcome", broken.SharesItsExchange, "of 20 handshakes at once"),
    found_by("deadline_is_kept", broken.SwallowsCancellation, "after its deadline"),
    found_by("deadline_is_kept", broken.WaitsInFinally, "after its deadline", works=False),
    found_by("deadline_is_kept", broken.LosesPatience, "a peer that says nothing (as client): the handshake succeeds"),
    found_by("deadline_is_kept", broken.BlocksTheLoop, "blocks the event loop", works=False),
    found_by("deadline_is_kept", broken.Sleeps, "blocks the event loop", works=False),
    found_by("no_byte_too_many_is_read", broken.ReadsAhead, "belong to the consumer"),
    found_by("no_byte_too_many_is_read", broken.ExpectsWholeMessages, "when the stream is cut behind byte 1:"),
    found_by("no_byte_too_many_is_read", broken.SaysGoodbye, "leaves 3 bytes of its own in the socket"),
    found_by("no_byte_too_many_is_read", broken.ReadsOn, "is not there for the consumer"),
    other("no_bytes_are_lost", "NumbersFromOne", "arrived, or others", ToyPlugin(stream=NumbersFromOne)),
    other(
        "no_bytes_are_lost", "DropsWhatIsThere", "that were sent over the session", ToyPlugin(stream=DropsWhatIsThere)
    ),
    other("no_bytes_are_lost", "NoStream", "there is no stream over the session", ToyPlugin(stream=None)),
    other("no_bytes_are_lost", "StreamAllTheSame", "says streams=False", ToyPlugin(), streams=False),
    found_by("nothing_is_left_behind", broken.LeaksTheFd, "end by success leave behind: 10 open socket"),
    found_by(
        "nothing_is_left_behind", broken.LeaksOnFailure, "end by refusal (another key) leave behind: 20 open pipe"
    ),
    found_by("nothing_is_left_behind", broken.LeavesATask, "the task", works=False),
    found_by("nothing_is_left_behind", broken.LeavesAThread, "the thread 'forgotten'"),
    found_by("nothing_is_left_behind", broken.ForgetsATask, "an error that nobody handles", works=False),
    found_by("cancellation_is_honoured", broken.SwallowsCancellation, "is cancelled after 0 messages, and goes on"),
    found_by("cancellation_is_honoured", broken.WaitsInFinally, "and goes on", works=False),
    found_by("errors_carry_an_errno", broken.RaisesItsOwn, "an exception of its own (told as EIO)"),
    found_by("errors_carry_an_errno", broken.SaysNothing, "error has no text"),
    found_by("errors_carry_an_errno", broken.ChecksNothing, "both ends succeed, where"),
    found_by("errors_carry_an_errno", broken.RefusesByWaiting, "nobody refuses before the deadline"),
    found_by("errors_carry_an_errno", broken.HopesForMore, "is not noticed"),
    other("errors_carry_an_errno", "NothingRefused", "no pair that is refused", ToyPlugin(), refused={}),
    found_by("garbage_survives", broken.TrustsLengths, "IndexError"),
    found_by("garbage_survives", broken.BelievesAnything, "has a session"),
    found_by("garbage_survives", broken.BearsAGrudge, "does not succeed any more"),
    found_by("bad_network", broken.ExpectsWholeMessages, "a stream has no borders"),
    found_by("bad_network", broken.SendsOnce, "send again what was not answered"),
    other("settings_errors_are_readable", "Careless", "a wrong 'tries' is taken", with_settings(Careless)),
    other("settings_errors_are_readable", "Terse", "does not name it", with_settings(Terse)),
    other("settings_errors_are_readable", "Rude", "is not a ConfigurationError", ToyPlugin(PreparesRudely)),
    other("settings_errors_are_readable", "Untold", "does not say which values", ToyPlugin(), wrong_settings={}),
    found_by("no_file_is_opened_by_a_handshake", broken.OpensAFile, "broken_handshakers.py"),
    found_by("no_file_is_opened_by_a_handshake", broken.ImportsLate, "imported_late"),
    found_by("no_file_is_opened_by_a_handshake", broken.RunsAProgram, "the program 'true'"),
    found_by("no_file_is_opened_by_a_handshake", broken.Forks, "a process, by fork"),
    found_by("no_secret_is_shown", broken.LogsTheKey, "a secret is shown"),
    found_by("no_secret_is_shown", broken.PrintsTheKey, "a secret is shown"),
    found_by("no_secret_is_shown", broken.TellsTheKeyInATag, "a secret is shown"),
    found_by("no_secret_is_shown", broken.TellsTheKeyInAnError, "a secret is shown"),
    found_by("no_secret_is_shown", broken.KeepsTheKey, "a secret is shown"),
    other("no_secret_is_shown", "ShowsItsKey", "a secret is shown", ToyPlugin(stream=ShowsItsKey)),
    found_by("no_secret_is_shown", broken.LogsTheKeyAtDebug, "a secret is shown"),
    found_by("changed_messages_are_refused", broken.BelievesServers, "message 1 to the client has byte"),
    found_by("changed_messages_are_refused", broken.ChecksHalf, "message 1 to the client has byte 35 of 50 changed"),
    found_by(
        "every_ending_is_noticed",
        broken.TakesAnEndForConsent,
        "the client hangs up before message 2 to the server, and the server has a session",
    ),
    found_by("every_ending_is_noticed", broken.CallsItTime, "ETIMEDOUT long before its deadline"),
    found_by("every_ending_is_noticed", broken.HopesForMore, "waits on until its deadline"),
    found_by("altered_messages_are_refused", broken.SaysItAgain, "that of an earlier handshake (a replay)"),
    found_by(
        "altered_messages_are_refused", broken.HasAFixedNonce, "a peer plays all messages of an earlier handshake"
    ),
    found_by("altered_messages_are_refused", broken.ForgivesOnce, "sends it wrong, and then it right"),
    found_by("altered_messages_are_refused", broken.ProvesAlike, "own message 1 for a body (a reflection)"),
    other(
        "errors_carry_an_errno",
        "ZerosForStrangers",
        "with a client that it does not know, whose key is all zeros",
        plugin_with(broken.ZerosForStrangers),
        client=WITH_PSK,
        server=replace(WITH_PSK, role=Role.SERVER),
        refused={"another key": (WITH_PSK, replace(WITH_PSK, role=Role.SERVER, psks=OTHER_PSK))},
    ),
    found_by("altered_messages_are_refused", broken.BlamesItself, "says that the fault is its own side's (NO_KEY)"),
    found_by("altered_messages_are_refused", broken.PassesOver, "waits until its deadline"),
    found_by("errors_carry_an_errno", broken.CallsEverythingTime, "fails with ETIMEDOUT long before its deadline"),
    found_by("errors_carry_an_errno", broken.GivesNoErrno, "fails with EIO"),
    found_by("errors_carry_an_errno", broken.EndsTheProcess, "ends the process that serves it: exit status 3"),
    found_by("no_secret_is_shown", broken.WritesTheKey, "a secret is shown"),
    found_by("no_secret_is_shown", broken.LogsHalfTheKey, "a secret is shown"),
    found_by("no_secret_is_shown", broken.LogsWhatItDerives, "a secret is shown"),
    other(
        "no_secret_is_shown",
        "Short",
        "has 3 bytes, and is not looked for",
        ToyPlugin(),
        client=replace(CLIENT, attributes={"key": Secret(b"key")}),
        server=replace(SERVER, attributes={"key": Secret(b"key")}),
    ),
    other("no_secret_is_shown", "OpenKey", "no secret by the specification", OpenKey()),
    other(
        "errors_carry_an_errno",
        "OtherErrno",
        "another key: the server is to refuse with EKEYREJECTED, and has: ECONNRESET",
        ToyPlugin(),
        refused={"another key": refused((CLIENT, STRANGER), client=errno.EKEYREJECTED, server=errno.EKEYREJECTED)},
    ),
    other(
        "errors_carry_an_errno",
        "MaySucceed",
        "another key: the client is to refuse with an errno, and has: success",
        plugin_with(broken.BelievesServers),
        refused={"another key": refused((CLIENT, STRANGER), may_succeed=Role.SERVER)},
    ),
    other(
        "errors_carry_an_errno",
        "BelievesServers",
        "the client is to refuse with EKEYREJECTED, and has: success",
        plugin_with(broken.BelievesServers),
        refused_by={"another key": (Role.CLIENT, errno.EKEYREJECTED)},
    ),
    other(
        "errors_carry_an_errno",
        "AuthorizesFirst",
        "the client calls authorize for a peer that it then refuses with EKEYREJECTED",
        plugin_with(broken.AuthorizesFirst),
        refused_by={"another key": (Role.CLIENT, errno.EKEYREJECTED)},
    ),
    other(
        "errors_carry_an_errno",
        "UnknownWord",
        "refused_by has ['a key']",
        ToyPlugin(),
        refused_by={"a key": (Role.CLIENT, errno.EKEYREJECTED)},
    ),
    other("handshake_succeeds", "Anonymous", "is reported as anonymous", ToyPlugin(), works=False, client=WITH_PSK),
    found_by("data_is_protected", broken.SaysItAgain, "the client sends the same messages in two handshakes"),
    found_by("data_is_protected", broken.ClaimsTheKernel, "is reported in the kernel, and what is written"),
    other("data_is_protected", "PlainText", "is on the wire as it was sent", ToyPlugin(stream=PlainText)),
    other("data_is_protected", "OneNumber", "sent twice in one direction", ToyPlugin(stream=OneNumber)),
    other("data_is_protected", "OneKey", "sent in both directions", ToyPlugin(stream=OneKey)),
    other("data_is_protected", "OldKey", "sent in two sessions", ToyPlugin(stream=OldKey)),
    other("data_is_protected", "NoProof", "the client's data is changed on its way", ToyPlugin(stream=ToyStream)),
    other("end_of_data_is_told", "TakesAnyEnd", "the client is cut off behind", ToyPlugin(stream=TakesAnyEnd)),
    other("sessions_of_others_are_left", "TakesAll", "for a session of another protocol", TakesSessionsOfOthers()),
    other(
        "protocol_does_no_io", "Clumsy", "(line 5) imports time", ToyPlugin(), sans_io=("tests.unit.testing.clumsy",)
    ),
    other("protocol_does_no_io", "NoSuchModule", "no module", ToyPlugin(), sans_io=("tests.unit.testing.nowhere",)),
]


@pytest.fixture(autouse=True)
def _nothing_is_kept() -> Iterator[None]:
    yield
    broken.forget()


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_found(fault: Fault) -> None:
    """By its own check, in words that say what it is and how to mend it, and without a secret."""
    with pytest.raises(ConformanceFailure) as caught:
        getattr(fault.suite(), f"test_{fault.check}")()
    said = str(caught.value)
    assert fault.says in said
    assert "\n  Mend it: " in said
    for options in (CLIENT, SERVER):
        assert isinstance(options.attributes, dict)
        assert options.attributes["key"].reveal().hex() not in said


@pytest.mark.parametrize("fault", [item for item in FAULTS if item.values[0].works])
def test_fault_is_not_found_by_trying(fault: Fault) -> None:
    """The plugin succeeds with itself once: what its check finds is found by nothing else."""
    fault.suite().test_handshake_succeeds()


def test_records_of_a_plugin_are_no_leak() -> None:
    """Handlers of the tests keep log records, and the plugin is not blamed for them."""
    Fault("", "", plugin_with(broken.LogsWarnings)).suite().test_nothing_is_left_behind()


def test_late_imports_are_found_whatever_came_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that comes first has the module imported, and the one that asks for it still knows."""
    monkeypatch.delitem(sys.modules, "tests.unit.testing.imported_late", raising=False)
    suite = Fault("", "", plugin_with(broken.ImportsLate)).suite()
    suite.test_handshake_succeeds()
    with pytest.raises(ConformanceFailure, match="imported_late"):
        suite.test_no_file_is_opened_by_a_handshake()


def test_every_check_has_a_fault() -> None:
    """A check that nothing fails would prove nothing."""
    checks = {name.removeprefix("test_") for name in dir(ConformanceSuite) if name.startswith("test_")}
    assert {item.values[0].check for item in FAULTS} == checks
