"""The session that the agent hands to a consumer: attribute set ``session`` of ``specs/tls13.yaml``, both ways."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from functools import cache
from typing import Any

from hsframework.errors import StreamError
from hsframework.interface import EstablishedSession, Secret
from hsframework.netlink.spec import Specification, package_specification
from hsframework.tls import kernel as kernel_tls
from hsframework_tls13.channel import Channel, UserSpaceChannel
from hsframework_tls13.ciphers import BY_CODE, CipherSuite
from hsframework_tls13.client_hello import TLS_1_3
from hsframework_tls13.engine import Established
from hsframework_tls13.ktls_stream import KernelChannel
from hsframework_tls13.records import MAX_PLAINTEXT
from hsframework_tls13.settings import LEAST_PAYLOAD


@cache
def specification() -> Specification:
    """Return the plugin's netlink spec."""
    return package_specification("hsframework_tls13", "tls13")


def to_parameters(session: Established) -> dict[str, Any]:
    """Return the parameters for a consumer in user space."""
    return {
        "version": TLS_1_3,
        "cipher": session.suite.code,
        "client-traffic-secret": session.client_secret,
        "server-traffic-secret": session.server_secret,
        "exporter-secret": session.exporter_secret,
        "read-sequence": 0,
        "write-sequence": 0,
        **({} if session.max_payload == MAX_PLAINTEXT else {"max-payload": session.max_payload}),
    }


def channel_for(session: EstablishedSession, sock: socket.socket) -> Channel:
    """Return the consumer's channel.  Raises StreamError for parameters that are not those of a TLS 1.3 session."""
    parameters = session.parameters
    suite = _suite(parameters)
    client, server = (_secret(parameters, f"{side}-traffic-secret", suite) for side in ("client", "server"))
    if session.in_kernel:
        if not kernel_tls.is_planted(sock.getsockopt):
            raise StreamError("the session is said to be in the socket, and the socket would send plain text")
        return KernelChannel(sock, session.role, suite, client, server)
    return UserSpaceChannel(
        sock,
        session.role,
        suite,
        client,
        server,
        read_sequence=parameters.get("read-sequence", 0),
        write_sequence=parameters.get("write-sequence", 0),
        max_payload=_max_payload(parameters),
    )


def _suite(parameters: Mapping[str, Any]) -> CipherSuite:
    suite = BY_CODE.get(parameters.get("cipher", 0))
    if parameters.get("version") != TLS_1_3 or suite is None:
        raise StreamError("the session's parameters name no TLS 1.3 cipher suite")
    return suite


def _max_payload(parameters: Mapping[str, Any]) -> int:
    size = parameters.get("max-payload", MAX_PLAINTEXT)
    if not LEAST_PAYLOAD <= size <= MAX_PLAINTEXT:
        raise StreamError(f"the session's records cannot be limited to {size} bytes")
    return int(size)


def _secret(parameters: Mapping[str, Any], name: str, suite: CipherSuite) -> Secret:
    secret = parameters.get(name)
    size = 48 if suite.hash == "sha384" else 32
    if not isinstance(secret, Secret) or len(secret) != size:
        raise StreamError(f"the session's parameters have no {name} of {size} bytes")
    return secret
