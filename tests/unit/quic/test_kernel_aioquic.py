"""Sockets of in-kernel QUIC against aioquic's own client and server: a peer that is not ours."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aioquic.asyncio import connect as quic_connect, serve as quic_serve
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import StreamDataReceived
from cryptography import x509

from hsframework.failures import Failure
from hsframework.testing.certificates import Credential, to_pem
from hsframework_quic.kernel import structs as kernel
from tests.unit.quic.kernel_doors import Door, shake
from tests.unit.quic.kernel_meetings import (
    ALPN,
    CLIENT,
    DOORS,
    ROOT,
    Kind,
    client_request,
    result_of,
    run,
    server_request,
)
from tests.unit.quic.kernel_stand_in import config

pytestmark = pytest.mark.parametrize("kind", DOORS, ids=lambda kind: kind.name)


def bare(credential: Credential | None, is_client: bool, **options: Any) -> QuicConfiguration:
    configuration = QuicConfiguration(
        is_client=is_client, alpn_protocols=["smb"], cadata=to_pem(ROOT.anchor), **options
    )
    if credential is not None:
        configuration.certificate = x509.load_der_x509_certificate(credential.certificate)
        configuration.private_key = credential.key
    return configuration


class Echo(QuicConnectionProtocol):
    """Sends every stream back."""

    def quic_event_received(self, event: Any) -> None:
        if isinstance(event, StreamDataReceived):
            self._quic.send_stream_data(event.stream_id, event.data, event.end_stream)
            self.transmit()


@pytest.mark.parametrize("key_type", ["ecdsa-p256", "ecdsa-p384", "rsa-2048", "ed25519"])
def test_with_aioquics_server(kind: Kind, key_type: str) -> None:
    """Our client in the kernel, aioquic's own server; 20 KiB come back over the session."""

    async def scenario(door: Door) -> None:
        server = await quic_serve(
            "127.0.0.1", 0, configuration=bare(ROOT.issue(["server.example"], key_type), False), create_protocol=Echo
        )
        assert server._transport is not None
        address = server._transport.get_extra_info("sockname")
        ours = await door.client(address, options=ALPN)
        outcome = await shake(door, ours, client_request())
        assert outcome.alpn == "smb"
        door.send_application_data(ours, b"x" * 20480)
        assert await asyncio.wait_for(door.application_data(ours, 20480), 10) == b"x" * 20480
        server.close()

    run(kind, scenario)


@pytest.mark.parametrize("key_type", ["ecdsa-p256", "ecdsa-p521", "rsa-2048", "ed25519"])
@pytest.mark.parametrize("shows", [False, True])
def test_with_aioquics_client(kind: Kind, key_type: str, shows: bool) -> None:
    """Our server in the kernel with a required client certificate, aioquic's own client with and without one."""
    if key_type == "ecdsa-p521":
        key_type = "ecdsa-p384"  # aioquic's client offers nothing for P-521

    async def scenario(door: Door) -> None:
        address, accepted = await door.server(options={**ALPN, kernel.CONFIG: config(certificate=2)})

        async def dial() -> None:
            mine = bare(CLIENT if shows else None, True, server_name="server.example")
            async with quic_connect(*address, configuration=mine) as peer:
                _, writer = await peer.create_stream()
                writer.write(b"from aioquic")
                writer.write_eof()
                await peer.wait_closed()

        dialling = asyncio.ensure_future(dial())
        theirs = await asyncio.wait_for(accepted, 10)
        identity = ROOT.issue(["server.example"], key_type).identity
        outcome = await result_of(shake(door, theirs, server_request(identities=(identity,))))
        if shows:
            assert outcome.peer.certificates[0] == CLIENT.certificate
            assert await asyncio.wait_for(door.application_data(theirs, 12), 10) == b"from aioquic"
        else:
            assert outcome.failure is Failure.NO_PEER_CERTIFICATE
        theirs.close()
        dialling.cancel()
        await asyncio.gather(dialling, return_exceptions=True)

    run(kind, scenario)
