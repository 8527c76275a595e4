"""The sans-IO half of in-kernel QUIC: what is sent, installed and told, and in which order."""

from __future__ import annotations

import pytest

from hsframework.credentials.chain import Purpose
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import CertificateDemand, Role
from hsframework_quic.aioquic_adapter.tls_options import TlsOptions
from hsframework_quic.kernel.handshake import Action, Install, KernelHandshake, Select, Send
from hsframework_quic.kernel.structs import APPLICATION, HANDSHAKE, INITIAL
from tests.unit.quic.tls_support import CLIENT, SERVER, judge


class Parameters:
    """Remembers what it is asked, in order."""

    def __init__(self, body: bytes, *, refuse: bool = False) -> None:
        self.asked: list[str] = []
        self.told = b""
        self._body = body
        self._refuse = refuse

    def ours(self) -> bytes:
        self.asked.append("ours")
        return self._body

    def theirs(self, body: bytes) -> None:
        if self._refuse:
            raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, "by this test")
        self.asked.append("theirs")
        self.told = body


def client(parameters: Parameters) -> KernelHandshake:
    options = TlsOptions(
        role=Role.CLIENT,
        identities=(CLIENT.identity,),
        alpn=("smb",),
        verify=judge(Purpose.SERVER_AUTH, "server.example"),
        keep=lambda session: None,
    )
    return KernelHandshake(options, parameters)


def server(parameters: Parameters) -> KernelHandshake:
    options = TlsOptions(
        role=Role.SERVER,
        identities=(SERVER.identity,),
        alpn=("smb",),
        verify=judge(Purpose.CLIENT_AUTH),
        client_certificate=CertificateDemand.REQUIRE,
        issue=lambda session: b"t" * 32,
    )
    return KernelHandshake(options, parameters)


def sent(actions: list[Action]) -> list[Send]:
    return [action for action in actions if isinstance(action, Send)]


def shape(actions: list[Action]) -> list[tuple[str, object]]:
    """Return the actions with level and direction, for comparing."""
    shown: list[tuple[str, object]] = []
    for action in actions:
        if isinstance(action, Install):
            shown.append(("tx" if action.secret.send else "rx", action.secret.level))
        elif isinstance(action, Select):
            shown.append(("alpn", action.alpn))
        else:
            shown.append(("more" if action.more else "last", action.level))
    return shown


def test_the_order_of_the_contract() -> None:
    """Secrets before what they protect; the peer's parameters before ours and before any secret of a server's."""
    mine, yours = Parameters(b"client's"), Parameters(b"server's")
    ours, theirs = client(mine), server(yours)
    hello = ours.start()
    assert shape(hello) == [("last", INITIAL)]
    assert theirs.start() == []
    answer = theirs.feed(INITIAL, sent(hello)[0].data)
    assert yours.asked == ["theirs", "ours"]
    assert yours.told == b"client's"
    assert shape(answer) == [
        ("alpn", "smb"), ("tx", HANDSHAKE), ("rx", HANDSHAKE), ("tx", APPLICATION),
        ("more", INITIAL), ("last", HANDSHAKE),
    ]  # fmt: skip
    first, second = sent(answer)
    assert shape(ours.feed(first.level, first.data)) == [("rx", HANDSHAKE), ("tx", HANDSHAKE)]
    finished = ours.feed(second.level, second.data)
    assert mine.asked == ["ours", "theirs"]
    assert mine.told == b"server's"
    assert shape(finished) == [("rx", APPLICATION), ("tx", APPLICATION), ("last", HANDSHAKE)]
    assert (ours.finished, theirs.finished) == (True, False)
    end = theirs.feed(HANDSHAKE, sent(finished)[0].data)
    assert shape(end) == [("rx", APPLICATION), ("last", APPLICATION)]
    assert (ours.finished, theirs.finished) == (True, True)
    client_writes = [action.secret.secret for action in finished if isinstance(action, Install) and action.secret.send]
    server_reads = [action.secret.secret for action in end if isinstance(action, Install)]
    assert client_writes == server_reads


def test_cut_at_every_byte() -> None:
    """A read gives any part of a message or several: the outcome is the same."""
    mine, yours = Parameters(b"c"), Parameters(b"s")
    ours, theirs = client(mine), server(yours)
    flight, receiver = sent(ours.start()), theirs
    while flight:
        answer: list[Send] = []
        for part in flight:
            if receiver.finished:
                assert part.level == APPLICATION  # a ticket, which the kernel keeps
                receiver.take_ticket(part.data)
                continue
            for byte in part.data:
                answer += sent(receiver.feed(part.level, bytes((byte,))))
        flight, receiver = answer, (ours if receiver is theirs else theirs)
    assert ours.finished
    assert theirs.finished
    assert ours.agreed.peer.certificates[0] == SERVER.certificate
    assert theirs.agreed.peer.certificates[0] == CLIENT.certificate


def test_nothing_is_taken_after_the_end() -> None:
    """To feed a handshake that has finished is our own mistake: what is there is the consumer's."""
    ours, theirs = client(Parameters(b"c")), server(Parameters(b"s"))
    for part in sent(theirs.feed(INITIAL, sent(ours.start())[0].data)):
        ours.feed(part.level, part.data)
    with pytest.raises(RuntimeError):
        ours.feed(APPLICATION, b"application data")


def test_parameters_that_the_kernel_does_not_take() -> None:
    """The kernel's refusal ends the handshake before any secret."""
    ours, theirs = client(Parameters(b"c")), server(Parameters(b"s", refuse=True))
    with pytest.raises(HandshakeFailed) as caught:
        theirs.feed(INITIAL, sent(ours.start())[0].data)
    assert caught.value.failure is Failure.ILLEGAL_PARAMETER


@pytest.mark.parametrize(("level", "data"), [(3, b"x"), (255, b"x"), (HANDSHAKE, b"\x01"), (INITIAL, b"\x02\0\0\0")])
def test_what_does_not_belong_there(level: int, data: bytes) -> None:
    """A level that does not exist, a message at another level, a message of the other role."""
    with pytest.raises(HandshakeFailed) as caught:
        server(Parameters(b"s")).feed(level, data)
    assert caught.value.failure is Failure.UNEXPECTED_MESSAGE
