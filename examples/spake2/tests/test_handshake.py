"""The protocol without I/O."""

from __future__ import annotations

import errno

import pytest
from hsframework.errors import ConfigurationError, HandshakeError, StreamError
from hsframework.interface import Role, Secret

from hsframework_spake2.curve import ORDER, SIZE, decode, negative, product, total
from hsframework_spake2.exchange import (
    CLIENT_CONFIRM,
    HEADER_SIZE,
    HELLO,
    MAX_IDENTITY,
    SERVER_CONFIRM,
    SHARE,
    VERSION,
    Exchange,
    body_size,
    hello_of,
)
from hsframework_spake2.password import scalar_of
from hsframework_spake2.session import to_parameters, to_transport
from hsframework_spake2.settings import Settings
from hsframework_spake2.spake2 import _BLINDS
from hsframework_spake2.transport import MAX_PLAINTEXT, Transport

PASSWORD = 77


def exchange(role: Role, password: int = PASSWORD, identity: bytes = b"alice", server: bytes = b"host") -> Exchange:
    """Return one side."""
    return Exchange(role, password, identity=identity, server=server)


def met(client: Exchange, server: Exchange) -> None:
    """Have both take each other's share."""
    server.agree(hello_of(client.share())[1])
    client.agree(server.share()[HEADER_SIZE:])


def transports() -> tuple[Transport, Transport]:
    """Return both ends of a session."""
    client, server = exchange(Role.CLIENT), exchange(Role.SERVER)
    met(client, server)
    server.confirm(client.confirmation())
    client.confirm(server.confirmation())
    return to_transport(to_parameters(client.keys())), to_transport(to_parameters(server.keys()))


def test_both_have_the_same_session() -> None:
    """Either end opens the messages of the other, byte by byte."""
    for near, far in (transports(), transports()[::-1]):
        wire = near.encrypt(b"hello ") + near.encrypt(b"world") + near.close()
        assert b"".join(far.decrypt(wire[at : at + 1]) for at in range(len(wire))) == b"hello world"
        assert far.peer_closed
        assert near.close() == b""
        with pytest.raises(StreamError):
            near.encrypt(b"more")


@pytest.mark.parametrize(
    "other",
    [
        exchange(Role.SERVER, password=78),
        exchange(Role.SERVER, identity=b"bob"),
        exchange(Role.SERVER, server=b"other"),
    ],
)
def test_ends_that_disagree(other: Exchange) -> None:
    """Another password, client or server: neither end confirms, and neither has keys."""
    client = exchange(Role.CLIENT)
    met(client, other)
    for one, confirmation in ((client, other.confirmation()), (other, client.confirmation())):
        with pytest.raises(HandshakeError) as caught:
            one.confirm(confirmation)
        assert caught.value.errno == errno.EKEYREJECTED
        with pytest.raises(AssertionError):
            one.keys()


def test_a_confirmation_that_comes_back() -> None:
    """A client is not content with its own confirmation."""
    client, server = exchange(Role.CLIENT), exchange(Role.SERVER)
    met(client, server)
    with pytest.raises(HandshakeError):
        client.confirm(client.confirmation())


def test_a_share_that_cancels_the_blind() -> None:
    """A share whose key is the neutral element is refused: it would be the same for every scalar."""
    client = exchange(Role.CLIENT)
    with pytest.raises(HandshakeError) as caught:
        client.agree(product(PASSWORD, _BLINDS[Role.SERVER]).encoded)
    assert caught.value.errno == errno.EPROTO


def test_the_server_cannot_take_its_role_from_the_client() -> None:
    """A share that is sent back to its sender makes no key that the sender confirms."""
    client = exchange(Role.CLIENT)
    share = hello_of(client.share())[1]
    client.agree(share)
    with pytest.raises(HandshakeError):
        client.confirm(client.confirmation())
    assert total(decode(share), negative(product(PASSWORD, _BLINDS[Role.CLIENT])))


@pytest.mark.parametrize(
    ("due", "kind", "size", "number"),
    [
        (HELLO, 0, 70, errno.EPROTO),
        (HELLO, SHARE, SIZE, errno.EPROTO),
        (HELLO, HELLO, 2 + SIZE, errno.EPROTO),
        (HELLO, HELLO, 3 + MAX_IDENTITY + SIZE, errno.EPROTO),
        (SHARE, SHARE, SIZE - 1, errno.EPROTO),
        (CLIENT_CONFIRM, SERVER_CONFIRM, 32, errno.EPROTO),
        (SERVER_CONFIRM, CLIENT_CONFIRM, 32, errno.EPROTO),
        (SERVER_CONFIRM, SERVER_CONFIRM, 33, errno.EPROTO),
    ],
)
def test_headers_that_are_refused(due: int, kind: int, size: int, number: int) -> None:
    """A message of another kind or size than the one that is due is refused by its header."""
    with pytest.raises(HandshakeError) as caught:
        body_size(due)(bytes([kind]) + size.to_bytes(2, "big"))
    assert caught.value.errno == number


@pytest.mark.parametrize("identity", [b"a", b"a" * MAX_IDENTITY])
def test_the_shortest_and_the_longest_identity(identity: bytes) -> None:
    """Both go on the wire, and are read."""
    client = exchange(Role.CLIENT, identity=identity)
    message = client.share()
    assert body_size(HELLO)(message[:HEADER_SIZE]) == len(message) - HEADER_SIZE
    assert hello_of(message)[0] == identity


@pytest.mark.parametrize(
    "head", [bytes((VERSION, 0)), bytes((VERSION, 4)) + b"alice", bytes((VERSION, 6)) + b"alice", b"\2\5alice"]
)
def test_first_messages_that_are_refused(head: bytes) -> None:
    """An empty identity, a length that is not its own, another version."""
    with pytest.raises(HandshakeError):
        hello_of(bytes(HEADER_SIZE) + head + bytes(SIZE))


def test_the_scalar_of_a_password() -> None:
    """It depends on password, identity and cost, and on nothing else."""
    made = scalar_of(Secret(b"secret"), b"alice", 8)
    assert 1 <= made <= ORDER - 2
    assert made == scalar_of(Secret(b"secret"), b"alice", 8)
    others = {scalar_of(Secret(b"Secret"), b"alice", 8), scalar_of(Secret(b"secret"), b"bob", 8)}
    assert len({made, *others, scalar_of(Secret(b"secret"), b"alice", 9)}) == 4


def test_large_data_and_one_changed_byte() -> None:
    """Data of more than one message is read whole; a message that was changed ends the direction for good."""
    near, far = transports()
    data = bytes(2 * MAX_PLAINTEXT + 1)
    assert far.decrypt(near.encrypt(data)) == data
    wire = bytearray(near.encrypt(b"x") + near.encrypt(b"y"))
    wire[-1] ^= 1
    assert far.decrypt(bytes(wire)) == b"x"
    for _ in range(2):
        with pytest.raises(StreamError) as caught:
            far.decrypt(near.encrypt(b"z"))
        assert caught.value.errno == errno.EBADMSG


def test_cut_off() -> None:
    """The end of the connection without the end of the data is an error, and after it none."""
    near, far = transports()
    far.decrypt(near.encrypt(b"data"))
    with pytest.raises(StreamError) as caught:
        far.receive_eof()
    assert caught.value.errno == errno.ECONNRESET
    near, far = transports()
    far.decrypt(near.close())
    far.receive_eof()


@pytest.mark.parametrize("wrong", [{"version": 2}, {"send-key": Secret(b"short")}, {"receive-key": bytes(32)}])
def test_parameters_that_are_refused(wrong: dict[str, object]) -> None:
    """Parameters of another version, or without a key, make no stream."""
    good = {"version": VERSION, "send-key": Secret(bytes(32)), "receive-key": Secret(bytes(32))}
    to_transport(good)
    with pytest.raises(StreamError):
        to_transport({**good, **wrong})


@pytest.mark.parametrize("cost", [7, 21])
def test_cost(cost: int) -> None:
    """A cost that protects nothing, or that takes a gigabyte and more, is refused."""
    with pytest.raises(ConfigurationError, match="from 8 to 20"):
        Settings(cost=cost)
