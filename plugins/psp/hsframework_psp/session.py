"""The consumer's session: attribute set ``session`` to a stream."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from functools import cache
from typing import Any

from hsframework.errors import HsframeworkError, StreamError
from hsframework.interface import AsyncStream, EstablishedSession, Secret, Stream
from hsframework.netlink.spec import Specification, package_specification
from hsframework.streams import UserSpaceChannel
from hsframework_psp.connection import ConnectionChannel
from hsframework_psp.messages import Carrier
from hsframework_psp.packet_stream import Packets, PacketSession
from hsframework_psp.packets import PacketOpener, PacketSealer
from hsframework_psp.renewal import TimedRenewal
from hsframework_psp.rotation import RotationRenewal
from hsframework_psp.streams import AsyncPspStream, PspStream
from hsframework_psp.versions import Version


@cache
def specification() -> Specification:
    """Return the plugin's netlink spec."""
    return package_specification("hsframework_psp", "psp")


def attach(session: EstablishedSession, sock: socket.socket, *, asynchronous: bool) -> Stream | AsyncStream:
    """Return a stream.  Raises StreamError for parameters that are not those of a PSP session.

    The stream's ``renewal`` tells when the session is due; its ``packets`` seals and opens, for the carrier *packets*.
    """
    stream = AsyncPspStream if asynchronous else PspStream
    parameters = session.parameters
    carrier = parameters.get("carrier")
    if carrier == Carrier.CONNECTION and session.in_kernel:
        return stream(ConnectionChannel(sock), _watched(parameters, sock), None)
    if carrier == Carrier.PACKETS and not session.in_kernel:
        packets = packets_of(parameters)
        return stream(
            UserSpaceChannel(sock, PacketSession(packets)), TimedRenewal(_number(parameters, "lifetime")), packets
        )
    raise StreamError(f"the session's parameters make no sense: carrier {carrier!r}, in the kernel {session.in_kernel}")


def _watched(parameters: Mapping[str, Any], sock: socket.socket) -> RotationRenewal:
    device = _number(parameters, "device-id")
    renewal = RotationRenewal(device, _number(parameters, "rotations"))
    try:
        protected = renewal.family.sends_protected(sock.fileno())
    except HsframeworkError as error:
        renewal.close()
        raise StreamError(f"the socket cannot be asked for its session: {error}", errno=error.errno) from None
    if not protected:
        renewal.close()
        raise StreamError("the session is said to be in the socket, and the socket would send plain text")
    return renewal


def packets_of(parameters: Mapping[str, Any]) -> Packets:
    """Return the carrier *packets* alone, for a consumer without the stream.  Call it once: IVs count on."""
    version = _version(parameters)
    try:
        sealer = PacketSealer(
            version,
            _number(parameters, "tx-spi"),
            _secret(parameters, "tx-key"),
            next_iv=_number(parameters, "next-iv"),
        )
        opener = PacketOpener(version, _number(parameters, "rx-spi"), _secret(parameters, "rx-key"))
    except ValueError as error:
        raise StreamError(f"the session's parameters make no sense: {error}") from None
    return Packets(sealer, opener)


def _version(parameters: Mapping[str, Any]) -> Version:
    number = _number(parameters, "version")
    if number not in Version.__members__.values():
        raise StreamError(f"the session's parameters name version {number}, which is not known")
    return Version(number)


def _number(parameters: Mapping[str, Any], name: str) -> int:
    value = parameters.get(name)
    if not isinstance(value, int):
        raise StreamError(f"the session's parameters have no {name}")
    return value


def _secret(parameters: Mapping[str, Any], name: str) -> bytes:
    value = parameters.get(name)
    if not isinstance(value, Secret):
        raise StreamError(f"the session's parameters have no {name}")
    return value.reveal()
