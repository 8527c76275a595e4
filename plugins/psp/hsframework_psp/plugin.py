"""The protocol ``psp`` of the agent: the exchange of :mod:`.exchange` over a connection, with a device.

The rules:

* Until the switch an alert is sent on failure; after it nothing can be sent, and the connection is shut down: a socket
  that is half switched is of no use to anybody.
* The peer is authorized when TLS is done, before anything is asked of a device.
* Every way out wipes the keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import time
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from hsframework.errors import ConfigurationError, HandshakeError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import (
    AuthMode,
    CertificateDemand,
    Endpoint,
    Handshaker,
    Request,
    Result,
    Role,
)
from hsframework_psp.binding import Binding
from hsframework_psp.devices import Association, Device, DeviceRefused, PlainDataWaits
from hsframework_psp.exchange import Done, Exchange, MakeRx, Read, ReadProof, Step, Switch
from hsframework_psp.keys import Grant
from hsframework_psp.messages import PROOF_MESSAGE_SIZE, Carrier
from hsframework_psp.packet_device import PacketDevice
from hsframework_psp.per_process import PerProcess
from hsframework_psp.policy import permitted
from hsframework_psp.search import DeviceSearch
from hsframework_psp.session import specification
from hsframework_psp.settings import Settings, check_device
from hsframework_psp.software import SoftwareDevice
from hsframework_psp.tunnel import RECORD_HEADER_SIZE, Tunnel, record_body_size
from hsframework_psp.versions import Version
from hsframework_tls13.ageing import Ageing
from hsframework_tls13.contexts import Contexts
from hsframework_tls13.driver import establish, first_alert, say, session_alert
from hsframework_tls13.engine import Established
from hsframework_tls13.settings import Settings as TlsSettings

T = TypeVar("T")

ALPN = "psp-kx/1"
SWITCH_RETRY = 0.01
"""Seconds between two tries to switch while the kernel holds a segment that cannot be read."""

PROOF_TRIES = 5
"""Waits of that length for the rest of PROOF."""

LAST_WORD = 0.05
"""Seconds before the deadline at which PROOF is given up: the host says no more than that it is over."""


class PspHandshaker(Handshaker):
    """The handshaker of both roles."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._contexts = Contexts(TlsSettings(kernel_offload=False, require_alpn=True))
        self._contexts.check()
        self._ageing = Ageing(self._contexts)
        specification()
        self._packets = PerProcess(self._packet_device)
        self._search = DeviceSearch()

    def _packet_device(self) -> PacketDevice:
        device = SoftwareDevice(os.urandom, frozenset(self._settings.preference))
        return PacketDevice(device, rotate_every=self._settings.rotate_every, clock=time.monotonic)

    def close(self) -> None:
        packets = self._packets.existing
        if packets is not None:
            packets.close()
        self._search.close()
        self._ageing.close()

    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        self._ageing.used()
        with contextlib.ExitStack() as stack:
            try:
                offer = self._contexts.offer(request, self._contexts.settings.suites)
                preference = permitted(self._settings.preference, request)
                devices = await self._prepare(request, endpoint, stack, preference)
            except HandshakeFailed as error:
                await say(endpoint, first_alert(error))
                raise
            session, flight = await establish(
                request,
                endpoint,
                self._contexts,
                offer=offer,
                alpn=(ALPN,),
                client_certificate=self._demand(request),
            )
            await _authorize(request, endpoint, session, flight)
            run = _Run(session, devices, preference, endpoint, request.deadline)
            return await run.run(flight)

    async def _prepare(
        self, request: Request, endpoint: Endpoint, stack: contextlib.ExitStack, preference: Sequence[Version]
    ) -> Sequence[Device]:
        if request.alpn:
            raise HandshakeError(f"PSP uses the ALPN {ALPN} itself: leave ALPN out of the request", errno=errno.EINVAL)
        unauthenticated = request.auth_mode is AuthMode.UNAUTHENTICATED
        if self._settings.mutual and request.role is Role.CLIENT and unauthenticated:
            raise HandshakeFailed(
                Failure.NO_KEY, "PSP clients prove who they are: give an identity or a key, or set plugins.psp.mutual"
            )
        return await self._devices(request, endpoint, stack, preference)

    async def _devices(
        self, request: Request, endpoint: Endpoint, stack: contextlib.ExitStack, preference: Sequence[Version]
    ) -> Sequence[Device]:
        """Return the devices in order of preference; at least one."""
        wanted = request.attributes.get("device", self._settings.device)
        try:
            check_device("the request's attribute device", wanted)
        except ConfigurationError as error:
            raise HandshakeError(str(error), errno=errno.EINVAL) from None
        if request.kernel_consumer:
            # It has no use for keys of its own.
            wanted = "kernel"
        devices: list[Device] = []
        if wanted != "software":
            try:
                devices.append(await self._search.find(request, endpoint.socket, preference, stack))
            except DeviceRefused:
                if wanted == "kernel":
                    raise
        if wanted != "kernel":
            devices.append(self._packets.get())
        return devices

    def _demand(self, request: Request) -> CertificateDemand:
        return CertificateDemand.REQUIRE if self._settings.mutual else request.client_certificate


async def _authorize(request: Request, endpoint: Endpoint, session: Established, flight: bytes) -> None:
    try:
        request.authorize(session.peer)
    except HandshakeError as refusal:
        failure = refusal.failure if isinstance(refusal, HandshakeFailed) else Failure.NOT_AUTHORIZED
        await say(endpoint, flight + session_alert(session, failure))
        raise


class _Run:
    """The I/O of one exchange, from the end of TLS to the consumer's first byte."""

    def __init__(
        self,
        session: Established,
        devices: Sequence[Device],
        preference: Sequence[Version],
        endpoint: Endpoint,
        deadline: float,
    ) -> None:
        self._deadline = deadline
        self._session = session
        self._devices = {device.carrier: device for device in devices}
        choices = [(item.carrier, version) for item in devices for version in preference if version in item.versions]
        self._exchange = Exchange(session.role, Binding(session.suite, session.exporter_secret), choices)
        self._tunnel = Tunnel(session)
        self._endpoint = endpoint
        self._association: Association | None = None
        self._output = b""
        self._switched = False

    async def run(self, flight: bytes) -> Result:
        """Run the exchange.  ``flight``: TLS's last one, which goes out with our first message."""
        self._output = flight
        try:
            step = self._exchange.begin()
            while not isinstance(step, Done):
                step = await self._take(step)
            self._say_behind(step.output)
            await self._flush()
        except HandshakeFailed as error:
            await self._give_up(error)
            raise
        except BaseException:
            self._wipe(HandshakeFailed(Failure.CANCELLED))
            raise
        return self._result()

    async def _take(self, step: Step) -> Step:
        match step:
            case Read(output):
                self._say_inside(output)
                await self._flush()
                return self._exchange.message(await self._read_message())
            case MakeRx(carrier, version):
                return self._make_rx(carrier, version)
            case Switch(grant, output, after_proof):
                self._say_inside(output)
                if self._exchange.carrier is Carrier.CONNECTION:
                    await self._flush()
                    if after_proof:
                        await self._expect_proof(self._proof_waits())
                await self._switch(grant)
                return self._exchange.switched()
            case ReadProof(output):
                self._say_behind(output)
                await self._flush()
                return self._exchange.message(await self._expect_proof(self._read_proof()))
        raise AssertionError(step)

    async def _expect_proof(self, coming: Coroutine[Any, Any, T]) -> T:
        try:
            async with asyncio.timeout_at(self._deadline - LAST_WORD):
                return await coming
        except TimeoutError:
            assert self._association is not None
            complaints = self._association.complaints() or "the device has no complaints"
            detail = f"PROOF does not come: what one end protects does not get through to the other ({complaints})"
            raise HandshakeFailed(Failure.SILENCE, detail) from None

    def _make_rx(self, carrier: Carrier, version: Version) -> Step:
        association = self._association = self._devices[carrier].associate(version)
        return self._exchange.received_by(association.grant)

    async def _proof_waits(self) -> None:
        """Wait until PROOF, or something else, can be read.

        Less than PROOF's size may be its first part, which is soon whole, or an alert, which the switch will tell.
        """
        for _ in range(PROOF_TRIES):
            if len(await self._endpoint.peek(PROOF_MESSAGE_SIZE)) == PROOF_MESSAGE_SIZE:
                return
            await asyncio.sleep(SWITCH_RETRY)

    async def _switch(self, grant: Grant) -> None:
        assert self._association is not None
        while True:
            try:
                self._association.switch(grant)
            except PlainDataWaits:
                await self._judge_plain_data()
            else:
                self._switched = True
                return

    async def _judge_plain_data(self) -> None:
        """Read the waiting data, which can only be the peer's last message, or return if nothing can be read yet.

        Raises HandshakeFailed.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SWITCH_RETRY):
                await self._endpoint.peek(1)
            self._exchange.message(await self._read_message())

    async def _read_message(self) -> bytes:
        while True:
            record = await self._endpoint.receive_record(RECORD_HEADER_SIZE, record_body_size)
            message = self._tunnel.open(record)
            if message is not None:
                return message

    async def _read_proof(self) -> bytes:
        assert self._association is not None
        return await self._association.receive(self._endpoint, PROOF_MESSAGE_SIZE)

    def _say_inside(self, message: bytes) -> None:
        if message:
            self._output += self._tunnel.seal(message)

    def _say_behind(self, message: bytes) -> None:
        if message:
            assert self._association is not None
            self._output += self._association.seal(message)

    async def _flush(self) -> None:
        """Send the queued output, in one segment where it can."""
        output, self._output = self._output, b""
        if output:
            await self._endpoint.send(output)

    async def _give_up(self, error: HandshakeFailed) -> None:
        self._wipe(error)
        if not self._switched:
            await say(self._endpoint, self._output + self._tunnel.alert(error.failure))

    def _wipe(self, error: HandshakeFailed) -> None:
        self._exchange.fail(error)
        if self._association is not None:
            self._association.wipe()
        if self._switched:
            with contextlib.suppress(OSError):
                self._endpoint.socket.shutdown(socket.SHUT_RDWR)

    def _result(self) -> Result:
        assert self._association is not None
        version, carrier = self._exchange.version, self._exchange.carrier
        assert version is not None
        assert carrier is not None
        session = self._session
        parameters = self._association.parameters()
        self._association.wipe()
        return Result(
            peer=session.peer,
            alpn=ALPN,
            in_kernel=carrier is Carrier.CONNECTION,
            session=parameters,
            tags={
                "version": version.label,
                "device": self._devices[carrier].name,
                "cipher": session.suite.name,
                "group": session.group,
            },
        )
