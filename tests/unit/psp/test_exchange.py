"""The exchange: the way that it goes, and that every other way ends with the documented error and no keys left."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given, settings, strategies as st

from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Role, Secret
from hsframework_psp.exchange import TABLE, Exchange, Input, State
from hsframework_psp.keys import Grant, Key
from hsframework_psp.messages import Answer, Carrier, Keys, Offer, Proof, decode
from hsframework_psp.versions import Version
from tests.unit.psp.support import CHOICES, Side, binding, grant_for, run, side

MESSAGES = ("OFFER", "ANSWER", "KEYS", "client PROOF", "server PROOF")
DOCUMENTED = {
    Failure.GARBAGE,
    Failure.ILLEGAL_PARAMETER,
    Failure.UNEXPECTED_MESSAGE,
    Failure.NO_COMMON_PARAMETERS,
    Failure.BAD_SIGNATURE,
}


def script() -> list[bytes]:
    """Return the five messages of an exchange that went well."""
    seen: list[bytes] = []

    def record(number: int, message: bytes) -> bytes:
        seen.append(message)
        return message

    run(side(Role.CLIENT), side(Role.SERVER), record)
    assert [type(decode(message)) for message in seen] == [Offer, Answer, Keys, Proof, Proof]
    return seen


def wiped(*ends: Side) -> bool:
    """True if nothing is left in the exchange, nor in what was given to it."""
    return all(not end.exchange.keys and all(grant.key.wiped for grant in end.given) for end in ends)


def test_both_ends_get_each_others_grant() -> None:
    """Each sends under what the other's device gave out; both are done, agree, and have wiped what they held."""
    client, server = side(Role.CLIENT), side(Role.SERVER)
    run(client, server)
    assert client.done
    assert server.done
    for end, other in ((client, Role.SERVER), (server, Role.CLIENT)):
        grant = grant_for(other, Version.AES_GCM_256)
        assert end.tx == (grant.spi, grant.key.reveal())
        assert (end.exchange.carrier, end.exchange.version) == CHOICES[0]
    assert wiped(client, server)


@pytest.mark.parametrize(("offered", "had"), list(itertools.product(range(1, 8), repeat=2)))
def test_the_servers_preference_decides(offered: int, had: int) -> None:
    """Every subset of three choices against every other: the server's first that is offered, or alert 40."""
    theirs, ours = ([CHOICES[i] for i in range(3) if mask >> i & 1] for mask in (offered, had))
    client, server = side(Role.CLIENT, theirs), side(Role.SERVER, ours)
    expected = next((choice for choice in ours if choice in theirs), None)
    if expected is None:
        with pytest.raises(HandshakeFailed) as failed:
            run(client, server)
        assert failed.value.failure is Failure.NO_COMMON_PARAMETERS
    else:
        run(client, server)
        assert (client.exchange.carrier, client.exchange.version) == expected


def test_an_unknown_choice_is_passed_over() -> None:
    """A later version in the offer harms nothing."""
    server = side(Role.SERVER)
    server.begin()
    server.receive(Offer(((9, 200), (1, 1))).encode())
    assert isinstance(decode(server.sent[0]), Answer)


@pytest.mark.parametrize("number", range(5), ids=MESSAGES)
def test_every_flipped_bit_ends_it(number: int) -> None:
    """Any bit of any message: documented failures, within this exchange, and never two ends that believe each other."""
    message = script()[number]
    for bit in range(len(message) * 8):
        client, server = side(Role.CLIENT), side(Role.SERVER)

        def turn(at: int, data: bytes, bit: int = bit) -> bytes:
            if at != number:
                return data
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            return bytes(changed)

        with pytest.raises(HandshakeFailed) as failed:
            run(client, server, turn)
        assert failed.value.failure in DOCUMENTED
        assert State.FAILED in (client.exchange.state, server.exchange.state)
        broken = client if client.exchange.state is State.FAILED else server
        assert wiped(broken)


@pytest.mark.parametrize("number", range(5), ids=MESSAGES)
def test_every_truncation_ends_it(number: int) -> None:
    """Cut anywhere, or too long: GARBAGE."""
    whole = script()[number]
    for cut in (*(whole[:size] for size in range(len(whole))), whole + b"\0"):
        with pytest.raises(HandshakeFailed) as failed:
            run(
                side(Role.CLIENT),
                side(Role.SERVER),
                lambda at, data, cut=cut: cut if at == number else data,  # type: ignore[misc]
            )
        assert failed.value.failure is Failure.GARBAGE


@pytest.mark.parametrize("role", list(Role), ids=lambda role: role.name)
def test_every_order_but_one(role: Role) -> None:
    """All messages in every state that a side comes through: only its own next one is taken."""
    messages = script()
    expected = [1, 4] if role is Role.CLIENT else [0, 2, 3]
    for good in range(len(expected) + 1):
        for number, message in enumerate(messages):
            end = side(role)
            end.begin()
            for step in expected[:good]:
                end.receive(messages[step])
            if good < len(expected) and number == expected[good]:
                end.receive(message)
                continue
            # The other side's proof is the one thing that only its content can tell from the right one.
            proofs = good < len(expected) and {number, expected[good]} == {3, 4}
            with pytest.raises(HandshakeFailed) as failed:
                end.receive(message)
            assert failed.value.failure is (Failure.BAD_SIGNATURE if proofs else Failure.UNEXPECTED_MESSAGE)
            assert wiped(end)


@pytest.mark.parametrize("role", list(Role), ids=lambda role: role.name)
def test_reflection(role: Role) -> None:
    """A side's own messages sent back to it get nowhere; its own proof in place of the other's is a wrong one."""
    client, server = side(Role.CLIENT), side(Role.SERVER)
    end = client if role is Role.CLIENT else server
    last = 4 if role is Role.CLIENT else 3

    def reflect(number: int, message: bytes) -> bytes:
        own = end.exchange
        return Proof(binding().proofs(bytes(own._transcript))[role]).encode() if number == last else message

    with pytest.raises(HandshakeFailed) as failed:
        run(client, server, reflect)
    assert failed.value.failure is Failure.BAD_SIGNATURE
    assert wiped(end)


@pytest.mark.parametrize("forged", [Role.CLIENT, Role.SERVER])
def test_another_session_s_proof(forged: Role) -> None:
    """Replay and splicing: with another TLS session's exporter secret the proof is wrong."""
    client = side(Role.CLIENT, secret=Secret(b"1" * 32) if forged is Role.CLIENT else Secret(b"2" * 32))
    server = side(Role.SERVER, secret=Secret(b"3" * 32))
    with pytest.raises(HandshakeFailed) as failed:
        run(client, server)
    assert failed.value.failure is Failure.BAD_SIGNATURE
    assert failed.value.failure.errno == 129
    assert wiped(server)


def _answer(carrier: Carrier, version: Version, spi: int = 7) -> bytes:
    return Answer(carrier, version, Grant(spi, Key(bytes(version.key_size)))).encode()


def test_a_choice_that_was_not_offered() -> None:
    """Downgrade to the cipher without encryption by the server's word alone."""
    client = side(Role.CLIENT)
    client.begin()
    with pytest.raises(HandshakeFailed) as failed:
        client.receive(_answer(Carrier.CONNECTION, Version.AES_GMAC_128))
    assert failed.value.failure is Failure.ILLEGAL_PARAMETER


def test_keys_for_something_else() -> None:
    """KEYS repeat what was agreed on."""
    server = side(Role.SERVER)
    server.begin()
    server.receive(script()[0])
    grant = Grant(7, Key(bytes(16)))
    with pytest.raises(HandshakeFailed) as failed:
        server.receive(Keys(Carrier.CONNECTION, Version.AES_GCM_128, grant).encode())
    assert failed.value.failure is Failure.ILLEGAL_PARAMETER
    assert wiped(server)


def test_the_servers_own_key_comes_back() -> None:
    """A client that gives the server its own key would have both send under one, with the same nonces."""
    choices = [(Carrier.PACKETS, Version.AES_GCM_256)]
    client, server = side(Role.CLIENT, choices), side(Role.SERVER, choices)
    client.begin()
    server.begin()
    server.receive(client.sent[0])
    answer = decode(server.sent[0])
    assert isinstance(answer, Answer)
    with pytest.raises(HandshakeFailed, match="give back") as failed:
        server.receive(Keys(answer.carrier, answer.version, Grant(answer.grant.spi + 1, answer.grant.key)).encode())
    assert failed.value.failure is Failure.ILLEGAL_PARAMETER
    assert wiped(server)


@pytest.mark.parametrize("spi", [0, 0x80000000])
def test_no_spi(spi: int) -> None:
    """The lower 31 bits are not all zero."""
    with pytest.raises(HandshakeFailed) as failed:
        decode(_answer(Carrier.CONNECTION, Version.AES_GCM_128, spi))
    assert failed.value.failure is Failure.ILLEGAL_PARAMETER


def test_extensions() -> None:
    """Unknown ones are passed over; twice the same, or one that is cut off, is refused."""

    def extended(extensions: bytes) -> bytes:
        message = _answer(Carrier.CONNECTION, Version.AES_GCM_128)
        length = len(message) - 4 + len(extensions)
        return message[:2] + length.to_bytes(2, "big") + message[4:] + extensions

    decode(extended(b"\0\1\0\0\0\2\0\1x"))
    for extensions, failure in (
        (b"\0\1\0\0\0\1\0\0", Failure.ILLEGAL_PARAMETER),
        (b"\0\1\0\1", Failure.GARBAGE),
        (b"\0\1\0", Failure.GARBAGE),
    ):
        with pytest.raises(HandshakeFailed) as failed:
            decode(extended(extensions))
        assert failed.value.failure is failure


def test_a_rekey_is_refused() -> None:
    """Epochs other than 0 are for a later version."""
    message = bytearray(script()[0])
    message[1] = 1
    with pytest.raises(HandshakeFailed) as failed:
        decode(bytes(message))
    assert failed.value.failure is Failure.ILLEGAL_PARAMETER


@settings(max_examples=500)
@given(st.binary(max_size=120) | st.builds(lambda head, body: head + len(body).to_bytes(2, "big") + body,
                                           st.binary(min_size=2, max_size=2), st.binary(max_size=100)))  # fmt: skip
def test_fuzz(data: bytes) -> None:
    """Any bytes are a message that encodes to the same meaning, or one of the documented failures."""
    try:
        message = decode(data)
    except HandshakeFailed as error:
        assert error.failure in DOCUMENTED
    else:
        assert decode(message.encode()) == message


STIMULI: dict[Input, Callable[[Exchange], object]] = {
    Input.BEGIN: lambda end: end.begin(),
    Input.RECEIVED_BY: lambda end: end.received_by(grant_for(end.role, Version.AES_GCM_256)),
    Input.SWITCHED: lambda end: end.switched(),
    Input.OFFER: lambda end: end.message(Offer(CHOICES).encode()),
    Input.ANSWER: lambda end: end.message(_answer(*CHOICES[0])),
    Input.KEYS: lambda end: end.message(Keys(*CHOICES[0], grant_for(Role.CLIENT, Version.AES_GCM_256)).encode()),
    Input.PROOF: lambda end: end.message(Proof(bytes(32)).encode()),
}


@given(st.sampled_from(list(Role)), st.lists(st.sampled_from(list(Input)), max_size=12))
def test_any_sequence_of_inputs_follows_the_table(role: Role, inputs: list[Input]) -> None:
    """A row of the table moves on; no row, or a wrong proof, ends it; after the end nothing is taken."""
    end = Exchange(role, binding(), CHOICES)
    for happened in inputs:
        before = end.state
        row = TABLE.get((role, before, happened))
        if row is not None and row[1] is not State.DONE:
            STIMULI[happened](end)
            assert end.state is row[1]
        else:
            with pytest.raises(HandshakeFailed):
                STIMULI[happened](end)
            assert end.state is State.FAILED
            assert not end.keys


def test_giving_up_wipes() -> None:
    """A deadline or a cancellation in any state leaves no key behind."""
    messages = script()
    for role, expected in ((Role.CLIENT, [1]), (Role.SERVER, [0, 2])):
        for good in range(len(expected) + 1):
            end = side(role)
            end.begin()
            for number in expected[:good]:
                end.receive(messages[number])
            end.exchange.fail(HandshakeFailed(Failure.SILENCE))
            assert wiped(end)
            with pytest.raises(HandshakeFailed, match="deadline"):
                end.exchange.switched()


def test_keys_do_not_show() -> None:
    """Neither in a repr nor through pickle; once wiped they cannot be asked for."""
    key = Key(b"secretsecretsecr")
    assert "secret" not in repr((key, Grant(1, key), decode(_answer(*CHOICES[0]))))
    with pytest.raises(TypeError):
        key.__reduce__()
    key.wipe()
    with pytest.raises(ValueError, match="wiped"):
        key.reveal()
