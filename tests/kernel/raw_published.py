"""A TLS agent of the published raw-netlink form, written from the published text alone: the standard library, and none
of this project's code.

    python -m tests.kernel.raw_published FOLDER

FOLDER has ca.pem, and as a server certificate.pem and key.pem.  Prints "joined", then a line for each request.

The text is the series of February 2023 for netdev, "net/handshake: Create a NETLINK service for handling handshake
requests" and "net/tls: Support AF_HANDSHAKE in kTLS", with the agent of that month.  As that one, this agent takes its
parameters and reports by a netlink socket of its own each time, asks for no acknowledgement, takes any MSG_STATUS in
the answer to ACCEPT for a failure, keeps the last of an attribute that is repeated, and ignores those that it does not
know.
"""

from __future__ import annotations

import base64
import ctypes
import hashlib
import hmac
import os
import socket
import ssl
import struct
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

NETLINK_HANDSHAKE = 23
NLGRP_TLS_13 = PROTO_TLS_13 = 1
MSG_READY, MSG_ACCEPT, MSG_DONE = 0x11, 0x12, 0x13
ATTR_MSG_STATUS, ATTR_SOCKFD, ATTR_PROTOCOL, ATTR_ACCEPT_RESP, ATTR_DONE_ARGS = 1, 2, 3, 4, 5
TLS_TYPE, TLS_AUTH, TLS_PRIORITIES, TLS_X509_CERT, TLS_X509_PRIVKEY = 20, 21, 22, 23, 24
TLS_PSK, TLS_SESS_STATUS, TLS_PEERID, TLS_TIMEOUT = 25, 26, 27, 28
STATUS_OK, STATUS_INVAL, STATUS_BADF, STATUS_NOTREADY, STATUS_SYSTEMFAULT = range(5)
TYPE_CLIENTHELLO, TYPE_SERVERHELLO = 1, 2
AUTH_UNSPEC, AUTH_UNAUTH, AUTH_X509, AUTH_PSK = range(4)
SESS_STATUS_OK, SESS_STATUS_FAULT, SESS_STATUS_REJECTED = range(3)
NLA_F_NESTED, NLM_F_REQUEST = 0x8000, 1
DEFAULT_TIMEOUT = 40.0
Attributes = dict[int, bytes]


class Failed(Exception):
    """The service's status, or what netlink says."""


def put(kind: int, payload: bytes) -> bytes:
    """Make an attribute."""
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def put_u32(kind: int, value: int) -> bytes:
    """Make an attribute that is a number."""
    return put(kind, struct.pack("=I", value))


def parse(data: bytes, highest: int = TLS_TIMEOUT) -> Attributes:
    """Read attributes by number, the last of each; unknown ones are left out."""
    found: Attributes = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if kind & 0x3FFF <= highest:
            found[kind & 0x3FFF] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


def number(attributes: Attributes, kind: int, default: int = 0) -> int:
    """Return a number, or the default."""
    return int(struct.unpack("=I", attributes[kind])[0]) if kind in attributes else default


def netlink() -> socket.socket:
    """Open a socket of the family."""
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_HANDSHAKE)
    made.bind((0, 0))
    return made


def send(sock: socket.socket, kind: int, body: bytes) -> None:
    """Send a request that asks for no acknowledgement."""
    sock.send(struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST, 1, 0) + body)


@dataclass(frozen=True)
class Parameters:
    """ACCEPT's answer.  Serials that are 0 name no key."""

    sockfd: int
    type: int
    auth: int
    priorities: str
    certificate: int
    private_key: int
    psk: int
    timeout: float


def accept() -> Parameters:
    """Take a request.  Raises Failed."""
    with netlink() as sock:
        send(sock, MSG_ACCEPT, put_u32(ATTR_PROTOCOL, PROTO_TLS_13))
        answer = sock.recv(1 << 16)
    if struct.unpack_from("=H", answer, 4)[0] != MSG_ACCEPT:
        raise Failed(f"a message of type {answer[4]}")
    outer = parse(answer[16:])
    if ATTR_MSG_STATUS in outer:
        raise Failed(f"MSG_STATUS {number(outer, ATTR_MSG_STATUS)}")
    tls = parse(outer[ATTR_ACCEPT_RESP])
    return Parameters(
        sockfd=number(outer, ATTR_SOCKFD),
        type=number(tls, TLS_TYPE),
        auth=number(tls, TLS_AUTH),
        priorities=tls.get(TLS_PRIORITIES, b"").split(b"\0")[0].decode(),
        certificate=number(tls, TLS_X509_CERT),
        private_key=number(tls, TLS_X509_PRIVKEY),
        psk=number(tls, TLS_PSK),
        timeout=number(tls, TLS_TIMEOUT) or DEFAULT_TIMEOUT,
    )


def done(fd: int, status: int) -> None:
    """Report, with the three attributes that the agent of that month sent.  The descriptor is gone then."""
    arguments = put_u32(TLS_SESS_STATUS, status) + put_u32(TLS_AUTH, AUTH_UNAUTH) + put_u32(TLS_PEERID, 0)
    with netlink() as sock:
        send(sock, MSG_DONE, put_u32(ATTR_SOCKFD, fd) + put(ATTR_DONE_ARGS | NLA_F_NESTED, arguments))


def read_key(serial: int) -> bytes:
    """Read a key's payload."""
    buffer = ctypes.create_string_buffer(1 << 15)
    size = ctypes.CDLL(None, use_errno=True).syscall(250, 11, serial, buffer, len(buffer))
    if size < 0:
        raise OSError(ctypes.get_errno(), f"key {serial}")
    return buffer.raw[:size]


def identity(serials: Parameters, scratch: Path) -> tuple[Path, Path]:
    """Write files with the certificate and the private key that the consumer has named, both DER in their keys."""
    certificate, key = scratch / "certificate.pem", scratch / "key.pem"
    certificate.write_text(ssl.DER_cert_to_PEM_cert(read_key(serials.certificate)))
    encoded = base64.encodebytes(read_key(serials.private_key)).decode()
    key.write_text(f"-----BEGIN PRIVATE KEY-----\n{encoded}-----END PRIVATE KEY-----\n")
    return certificate, key


def context_for(parameters: Parameters, folder: Path, scratch: Path) -> ssl.SSLContext:
    """Set up TLS 1.3 for a request.  The peer's name is not checked: the form does not name it."""
    server = parameters.type == TYPE_SERVERHELLO
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.load_verify_locations(folder / "ca.pem")
    context.keylog_filename = str(scratch / "secrets")
    if server:
        context.num_tickets = 0
        context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    else:
        context.verify_mode = ssl.CERT_REQUIRED
    if parameters.auth == AUTH_X509 and parameters.certificate:
        context.load_cert_chain(*identity(parameters, scratch))
    return context


def record(sock: socket.socket) -> bytes:
    """Read one record of TLS, and no byte more."""
    header = _exactly(sock, 5)
    return header + _exactly(sock, int.from_bytes(header[3:], "big"))


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise EOFError("the peer is gone")
        data += piece
    return data


def shake(sock: socket.socket, context: ssl.SSLContext, server: bool) -> str:
    """Shake hands and return the name of the cipher.  Raises OSError or EOFError."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_side=server)
    while True:
        try:
            session.do_handshake()
        except ssl.SSLWantReadError:
            sock.sendall(outgoing.read())
            incoming.write(record(sock))
            continue
        except ssl.SSLError:
            sock.sendall(outgoing.read())  # the alert
            raise
        sock.sendall(outgoing.read())
        cipher = session.cipher()
        assert cipher is not None
        return str(cipher[0])


def plant(sock: socket.socket, cipher: str, secrets: Path, server: bool) -> None:
    """Plant the session in the socket."""
    lines = [line.split() for line in secrets.read_text().splitlines() if not line.startswith("#")]
    secret = {words[0]: bytes.fromhex(words[2]) for words in lines}
    ours, theirs = secret["CLIENT_TRAFFIC_SECRET_0"], secret["SERVER_TRAFFIC_SECRET_0"]
    if server:
        ours, theirs = theirs, ours
    kind, digest, size = (52, "sha384", 32) if "AES_256_GCM" in cipher else (51, "sha256", 16)
    sock.setsockopt(socket.IPPROTO_TCP, 31, b"tls")
    for direction, chosen in ((1, ours), (2, theirs)):
        key, iv = expand(chosen, b"key", size, digest), expand(chosen, b"iv", 12, digest)
        sock.setsockopt(282, direction, struct.pack("=HH", 0x0304, kind) + iv[4:] + key + iv[:4] + bytes(8))


def expand(secret: bytes, label: bytes, size: int, digest: str) -> bytes:
    """Do HKDF-Expand-Label of RFC 8446, section 7.1, for what one block holds."""
    label = b"tls13 " + label
    info = struct.pack(">HB", size, len(label)) + label + b"\0"
    return hmac.new(secret, info + b"\1", getattr(hashlib, digest)).digest()[:size]


def serve(parameters: Parameters, folder: Path) -> int:
    """Serve a request and return the session status."""
    server = parameters.type == TYPE_SERVERHELLO
    sock = socket.socket(fileno=os.dup(parameters.sockfd))
    with sock, tempfile.TemporaryDirectory() as scratch:
        sock.settimeout(parameters.timeout)
        try:
            context = context_for(parameters, folder, Path(scratch))
        except OSError:
            return SESS_STATUS_FAULT
        try:
            cipher = shake(sock, context, server)
        except (OSError, EOFError):
            return SESS_STATUS_REJECTED
        plant(sock, cipher, Path(scratch, "secrets"), server)
        return SESS_STATUS_OK


def main() -> None:
    """Serve for ever."""
    listener = netlink()
    listener.setsockopt(270, 1, NLGRP_TLS_13)
    print("joined", flush=True)
    while True:
        assert struct.unpack_from("=H", listener.recv(1 << 12), 4)[0] == MSG_READY
        try:
            parameters = accept()
        except Failed as failure:
            print(failure, flush=True)
            continue
        status = serve(parameters, Path(sys.argv[1]))
        done(parameters.sockfd, status)
        print(f"session status {status}", flush=True)


if __name__ == "__main__":
    main()
