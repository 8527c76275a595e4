"""Two exchanges connected through memory, and what they need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hsframework.interface import Role, Secret
from hsframework_psp.binding import Binding
from hsframework_psp.exchange import Done, Exchange, MakeRx, Read, ReadProof, Step, Switch
from hsframework_psp.keys import Grant, Key
from hsframework_psp.messages import Carrier, Choice
from hsframework_psp.versions import Version
from hsframework_tls13.ciphers import AES_128_GCM

EXPORTER = Secret(bytes(range(32)))
CHOICES: tuple[Choice, ...] = (
    (Carrier.CONNECTION, Version.AES_GCM_256),
    (Carrier.CONNECTION, Version.AES_GCM_128),
    (Carrier.PACKETS, Version.AES_GCM_256),
)


def binding(secret: Secret = EXPORTER) -> Binding:
    return Binding(AES_128_GCM, secret)


def grant_for(role: Role, version: Version) -> Grant:
    """Return what the side's device grants: always the same."""
    return Grant(0x11111111 * role, Key(bytes([role]) * version.key_size))


@dataclass
class Side:
    """An exchange with its device and what it has sent.  ``tx`` is what the device was given for sending."""

    exchange: Exchange
    sent: list[bytes] = field(default_factory=list)
    given: list[Grant] = field(default_factory=list)
    tx: tuple[int, bytes] | None = None
    step: Step | None = None

    def begin(self) -> None:
        self._follow(self.exchange.begin())

    def receive(self, message: bytes) -> None:
        self._follow(self.exchange.message(message))

    def grant_for(self, version: Version) -> Grant:
        """Return what the device grants."""
        return grant_for(self.exchange.role, version)

    @property
    def done(self) -> bool:
        return isinstance(self.step, Done)

    def _follow(self, step: Step) -> None:
        while True:
            self.step = step
            match step:
                case MakeRx(_, version):
                    grant = self.grant_for(version)
                    self.given.append(grant)
                    step = self.exchange.received_by(grant)
                case Switch(grant, output):
                    self._send(output)
                    self.tx = grant.spi, grant.key.reveal()
                    step = self.exchange.switched()
                case Read(output) | ReadProof(output) | Done(output):
                    self._send(output)
                    return

    def _send(self, output: bytes) -> None:
        if output:
            self.sent.append(output)


def side(role: Role, choices: Sequence[Choice] = CHOICES, secret: Secret = EXPORTER) -> Side:
    return Side(Exchange(role, binding(secret), choices))


def run(
    client: Side, server: Side, on_the_way: Callable[[int, bytes], bytes] = lambda number, message: message
) -> None:
    """Run both to their end; ``on_the_way`` may change the message with this number.  Raises the errors of either."""
    client.begin()
    server.begin()
    number = 0
    taken = {id(client): 0, id(server): 0}
    while any(taken[id(end)] < len(end.sent) for end in (client, server)):
        for sender, receiver in ((client, server), (server, client)):
            while taken[id(sender)] < len(sender.sent):
                message = sender.sent[taken[id(sender)]]
                taken[id(sender)] += 1
                receiver.receive(on_the_way(number, message))
                number += 1
