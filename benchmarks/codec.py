"""Benchmark of the message codec beside pyroute2's, for the same spec, with a TLS handshake for scale.

Prints microseconds for one message, the best of several rounds.  docs/design/codec.md quotes it.
"""

from __future__ import annotations

import contextlib
import datetime
import platform
import timeit
from collections.abc import Callable
from importlib.metadata import version

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from hsframework.netlink.messages import MessageCodec
from hsframework.netlink.pyroute2_classes import message, message_class, values
from hsframework.netlink.spec import builtin_specification

TYPE = 0x20
LOCAL = builtin_specification("local")
REQUEST = {
    "request-id": 7,
    "group": "tls13",
    "message-type": 1,
    "auth-mode": 3,
    "timeout": 9000,
    "peername": "server.example.org",
    "attributes": bytes(600),
}
"""A request for a client's handshake, as sent to an agent: seven attributes."""


def best(function: Callable[[], object]) -> float:
    """Return the microseconds of one call."""
    timer = timeit.Timer(function)
    count, _ = timer.autorange()
    return min(timer.repeat(5, count)) / count * 1e6


def ours() -> tuple[float, float]:
    """Return our codec's microseconds to encode and to decode."""
    codec = MessageCodec(LOCAL, message_type=TYPE)
    encoded = codec.encode("accept", REQUEST)
    assert codec.decode(encoded).values == REQUEST
    return best(lambda: codec.encode("accept", REQUEST)), best(lambda: codec.decode(encoded))


def pyroute2() -> tuple[float, float]:
    """Return pyroute2's microseconds to encode and to decode, with every attribute read."""
    kind = message_class(LOCAL, "request")

    def encode() -> bytes:
        result = message(LOCAL, "accept", REQUEST)
        result["header"]["type"] = TYPE
        result.encode()
        return bytes(result.data)

    def decode() -> dict[str, object]:
        result = kind(encoded)
        result.decode()
        return values(LOCAL, "request", result)

    encoded = encode()
    assert decode() == REQUEST
    return best(encode), best(decode)


def handshake() -> float:
    """Return the microseconds of a TLS 1.3 handshake, both ends, on memory BIOs, with ECDSA P-256."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    server, client = SSL.Context(SSL.TLS_SERVER_METHOD), SSL.Context(SSL.TLS_CLIENT_METHOD)
    server.use_certificate(builder.sign(key, hashes.SHA256()))
    server.use_privatekey(key)
    for context in (server, client):
        context.set_min_proto_version(SSL.TLS1_3_VERSION)

    def once() -> None:
        ends = [SSL.Connection(client, None), SSL.Connection(server, None)]
        ends[0].set_connect_state()
        ends[1].set_accept_state()
        done = [False, False]
        while not all(done):
            for index in (0, 1):
                try:
                    ends[index].do_handshake()
                    done[index] = True
                except SSL.WantReadError:
                    pass
                with contextlib.suppress(SSL.WantReadError):
                    ends[1 - index].bio_write(ends[index].bio_read(65536))

    return best(once)


def main() -> None:
    """Measure and print."""
    print(f"Python {platform.python_version()}, pyroute2 {version('pyroute2')}, pyOpenSSL {version('pyOpenSSL')}")
    rows = {"hsframework": ours(), "pyroute2": pyroute2()}
    print(f"{'message of 7 attributes':24} {'encode':>10} {'decode':>10}")
    for name, (encode, decode) in rows.items():
        print(f"{name:24} {encode:7.1f} µs {decode:7.1f} µs")
    scale = handshake()
    print(f"{'TLS handshake, both ends':24} {scale:7.0f} µs")
    for name, (encode, decode) in rows.items():
        print(f"6 messages, {name:12} {6 * (encode + decode) / scale:10.0%} of the handshake")


if __name__ == "__main__":
    main()
