"""The exchange as a state machine (docs/design/psp-handshake.md, "State machine").  Sans-IO.

::

    exchange = Exchange(role, binding, choices)
    step = exchange.begin()
    while not isinstance(step, Done):
        step = exchange.received_by(spi, key)   # after MakeRx
               exchange.switched()              # after Switch, once the Tx association is in place
               exchange.message(data)           # after Read and ReadProof: what was read

The rules:

* :data:`TABLE` has the inputs of each state; any other input ends the exchange with UNEXPECTED_MESSAGE.
* Each input returns the one step that comes next.  ``output`` of a step goes to the peer *before* the step is taken.
* A failure is final, and wipes every key; so does success.  Keys are given out by Switch alone, to be used at once.
* The peer was authenticated by TLS; nothing here trusts a message for its sender.
"""

from __future__ import annotations

import enum
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Role
from hsframework_psp.binding import Binding
from hsframework_psp.keys import Grant, Key
from hsframework_psp.messages import MAX_CHOICES, Answer, Carrier, Choice, Keys, Offer, Proof, decode
from hsframework_psp.versions import Version


class State(enum.Enum):
    """The states of an exchange, named as in the document."""

    START = "START"
    OFFERED = "OFFERED"
    LISTENING = "LISTENING"
    PREPARING = "PREPARING"
    ANSWERED = "ANSWERED"
    SWITCHING = "SWITCHING"
    PROVING = "PROVING"
    DONE = "DONE"
    FAILED = "FAILED"


class Input(enum.Enum):
    """The inputs of an exchange."""

    BEGIN = "begin"
    RECEIVED_BY = "received-by"
    SWITCHED = "switched"
    OFFER = "OFFER"
    ANSWER = "ANSWER"
    KEYS = "KEYS"
    PROOF = "PROOF"


@dataclass(frozen=True, slots=True)
class Read:
    """A step: send ``output`` through the TLS session, then read one message from it."""

    output: bytes = b""


@dataclass(frozen=True, slots=True)
class MakeRx:
    """A step: make the Rx association, and pass its grant to :meth:`Exchange.received_by`."""

    carrier: Carrier
    version: Version


@dataclass(frozen=True, slots=True)
class Switch:
    """A step: send ``output`` through TLS, then make the Tx association; nothing is sent in plain TCP after that.

    ``after_proof``: only once the peer's PROOF waits unread.
    """

    grant: Grant
    output: bytes = b""
    after_proof: bool = False


@dataclass(frozen=True, slots=True)
class ReadProof:
    """A step: send ``output`` behind the switch, then read PROOF from there."""

    output: bytes = b""


@dataclass(frozen=True, slots=True)
class Done:
    """The last step: send ``output`` behind the switch; the connection is the consumer's."""

    output: bytes = b""


Step = Read | MakeRx | Switch | ReadProof | Done

_INPUTS = {Offer: Input.OFFER, Answer: Input.ANSWER, Keys: Input.KEYS, Proof: Input.PROOF}

TABLE: Mapping[tuple[Role, State, Input], tuple[str, State]] = {
    (Role.CLIENT, State.START, Input.BEGIN): ("_offer", State.OFFERED),
    (Role.CLIENT, State.OFFERED, Input.ANSWER): ("_take_answer", State.PREPARING),
    (Role.CLIENT, State.PREPARING, Input.RECEIVED_BY): ("_give_keys", State.SWITCHING),
    (Role.CLIENT, State.SWITCHING, Input.SWITCHED): ("_prove_first", State.PROVING),
    (Role.CLIENT, State.PROVING, Input.PROOF): ("_check_last", State.DONE),
    (Role.SERVER, State.START, Input.BEGIN): ("_listen", State.LISTENING),
    (Role.SERVER, State.LISTENING, Input.OFFER): ("_choose", State.PREPARING),
    (Role.SERVER, State.PREPARING, Input.RECEIVED_BY): ("_answer", State.ANSWERED),
    (Role.SERVER, State.ANSWERED, Input.KEYS): ("_take_keys", State.SWITCHING),
    (Role.SERVER, State.SWITCHING, Input.SWITCHED): ("_await_proof", State.PROVING),
    (Role.SERVER, State.PROVING, Input.PROOF): ("_check_and_prove", State.DONE),
}
"""(role, state, input) → (action, next state)."""


class Exchange:
    """One side of an exchange.  ``choices``: ours, in order of preference, 1 to 16."""

    def __init__(self, role: Role, binding: Binding, choices: Sequence[Choice]) -> None:
        if not 1 <= len(choices) <= MAX_CHOICES:
            raise ValueError(f"an exchange needs 1 to {MAX_CHOICES} choices")
        self.role = role
        self.state = State.START
        self.carrier: Carrier | None = None
        self.version: Version | None = None
        self._choices = tuple(choices)
        self._binding: Binding | None = binding
        self._transcript = bytearray()
        self._received: bytes = b""
        self._proofs: dict[Role, bytes] = {}
        self._ours: Grant | None = None
        self._theirs: Grant | None = None
        self._failed: HandshakeFailed | None = None

    def begin(self) -> Step:
        """Return the first step."""
        return self._input(Input.BEGIN)

    def received_by(self, grant: Grant) -> Step:
        """Take the grant of the Rx association that is in place; return the next step."""
        return self._input(Input.RECEIVED_BY, grant)

    def switched(self) -> Step:
        """Note that the Tx association is in place; return the next step."""
        return self._input(Input.SWITCHED)

    def message(self, data: bytes) -> Step:
        """Take one message of the peer's; return the next step.  Raises HandshakeFailed."""
        self._check_alive()
        try:
            message = decode(data)
        except HandshakeFailed as error:
            self.fail(error)
            raise
        self._received = data
        try:
            return self._input(_INPUTS[type(message)], message)
        finally:
            self._received = b""

    def fail(self, error: HandshakeFailed) -> None:
        """Give up: keys are wiped, and every further input raises ``error`` again."""
        if self.state is not State.DONE and self._failed is None:
            self._failed = HandshakeFailed(error.failure, error.detail, peer_alert=error.peer_alert)
            self.state = State.FAILED
            self._wipe()

    @property
    def keys(self) -> tuple[Key, ...]:
        """The keys that are held now."""
        return tuple(grant.key for grant in (self._ours, self._theirs) if grant is not None)

    def _input(self, happened: Input, *arguments: Any) -> Step:
        self._check_alive()
        row = TABLE.get((self.role, self.state, happened))
        try:
            if row is None:
                raise HandshakeFailed(
                    Failure.UNEXPECTED_MESSAGE, f"{happened.value} for a {self.role.name.lower()} in {self.state.value}"
                )
            action: Callable[..., Step] = getattr(self, row[0])
            step = action(*arguments)
        except HandshakeFailed as error:
            for argument in arguments:
                _wipe_grant(argument)
            self.fail(error)
            raise
        self.state = row[1]
        if self.state is State.DONE:
            self._wipe()
        return step

    def _check_alive(self) -> None:
        if self._failed is not None:
            raise HandshakeFailed(self._failed.failure, self._failed.detail, peer_alert=self._failed.peer_alert)
        if self.state is State.DONE:
            raise HandshakeFailed(Failure.UNEXPECTED_MESSAGE, "the exchange is over")

    # The client's actions

    def _offer(self) -> Step:
        return Read(self._said(Offer(self._choices).encode()))

    def _take_answer(self, answer: Answer) -> Step:
        if (answer.carrier, answer.version) not in self._choices:
            raise HandshakeFailed(
                Failure.ILLEGAL_PARAMETER,
                f"ANSWER chooses {answer.carrier.name} with {answer.version.label}, which was not offered",
            )
        self.carrier, self.version, self._theirs = answer.carrier, answer.version, answer.grant
        self._said(self._received)
        return MakeRx(answer.carrier, answer.version)

    def _give_keys(self, grant: Grant) -> Step:
        carrier, version = self._agreed()
        self._ours = grant
        assert self._theirs is not None
        return Switch(self._theirs, self._said(Keys(carrier, version, grant).encode()))

    def _prove_first(self) -> Step:
        return ReadProof(self._proof(self.role))

    def _check_last(self, proof: Proof) -> Step:
        self._verify(proof)
        return Done()

    # The server's actions

    def _listen(self) -> Step:
        return Read()

    def _choose(self, offer: Offer) -> Step:
        choice = next((choice for choice in self._choices if choice in offer.choices), None)
        if choice is None:
            ours = [(int(carrier), int(version)) for carrier, version in self._choices]
            detail = f"(carrier, version): the client offers {list(offer.choices)}, here are {ours}"
            raise HandshakeFailed(Failure.NO_COMMON_PARAMETERS, detail)
        carrier, version = choice
        self.carrier, self.version = carrier, version
        self._said(self._received)
        return MakeRx(carrier, version)

    def _answer(self, grant: Grant) -> Step:
        carrier, version = self._agreed()
        self._ours = grant
        return Read(self._said(Answer(carrier, version, grant).encode()))

    def _take_keys(self, keys: Keys) -> Step:
        if (keys.carrier, keys.version) != (self.carrier, self.version):
            raise HandshakeFailed(
                Failure.ILLEGAL_PARAMETER, f"KEYS are for {keys.carrier.name} with {keys.version.label}: not agreed on"
            )
        assert self._ours is not None
        if keys.carrier is Carrier.PACKETS and keys.grant.key == self._ours.key:
            # Both ends' nonces count from 1.  A device keeps its nonces apart itself.
            raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, "KEYS give back the key that ANSWER gave")
        self._theirs = keys.grant
        self._said(self._received)
        return Switch(keys.grant, after_proof=True)

    def _await_proof(self) -> Step:
        return ReadProof()

    def _check_and_prove(self, proof: Proof) -> Step:
        self._verify(proof)
        return Done(self._proof(self.role))

    # Both

    def _agreed(self) -> tuple[Carrier, Version]:
        assert self.carrier is not None
        assert self.version is not None
        return self.carrier, self.version

    def _said(self, message: bytes) -> bytes:
        self._transcript += message
        return message

    def _proof(self, sender: Role) -> bytes:
        if not self._proofs:
            assert self._binding is not None
            self._proofs = self._binding.proofs(bytes(self._transcript))
        return Proof(self._proofs[sender]).encode()

    def _verify(self, proof: Proof) -> None:
        expected = self._proof(Role.SERVER if self.role is Role.CLIENT else Role.CLIENT)
        if not hmac.compare_digest(proof.encode(), expected):
            raise HandshakeFailed(Failure.BAD_SIGNATURE, "the proof behind the switch is wrong")

    def _wipe(self) -> None:
        for grant in (self._ours, self._theirs):
            _wipe_grant(grant)
        self._ours = self._theirs = None
        self._transcript[:] = bytes(len(self._transcript))
        self._transcript.clear()
        self._binding = None
        self._proofs = {}


def _wipe_grant(value: object) -> None:
    grant = value if isinstance(value, Grant) else getattr(value, "grant", None)
    if isinstance(grant, Grant):
        grant.key.wipe()
