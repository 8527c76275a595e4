"""A TLS peer on bare pyOpenSSL, as a program: for what the machine's own OpenSSL is too old for.

Nothing of hsframework takes part.  ``server`` prints its port on a line of its own; then, for one connection, a line of
JSON with what was agreed on; what it receives after that it sends back until the end.  ``client PORT`` connects, prints
the same, sends one line and prints what comes back.

::

    python bare_openssl.py server --cert FILE --key FILE --ca FILE --groups X25519MLKEM768
    python bare_openssl.py client PORT --ca FILE --name server.example
"""

from __future__ import annotations

import argparse
import json
import socket
import sys

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from OpenSSL import SSL, crypto
from OpenSSL._util import lib


def context(arguments: argparse.Namespace) -> SSL.Context:
    """Make the context that the arguments ask for."""
    result = SSL.Context(SSL.TLS_SERVER_METHOD if arguments.role == "server" else SSL.TLS_CLIENT_METHOD)
    result.set_min_proto_version(SSL.TLS1_3_VERSION)
    if arguments.cert:
        result.use_certificate_chain_file(arguments.cert)
        with open(arguments.key, "rb") as file:
            key = load_pem_private_key(file.read(), None)
        der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        # pyOpenSSL's own use_privatekey_file is for the types that it knows by name.
        assert lib.SSL_CTX_use_PrivateKey(result._context, crypto.load_privatekey(crypto.FILETYPE_ASN1, der)._pkey) == 1
    if arguments.ca:
        result.load_verify_locations(arguments.ca)
        result.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    if arguments.groups:
        assert lib.SSL_CTX_set1_curves_list(result._context, arguments.groups.encode()) == 1
    return result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["server", "client"])
    parser.add_argument("port", nargs="?", type=int, default=0)
    for name in ("--cert", "--key", "--ca", "--groups", "--name"):
        parser.add_argument(name)
    arguments = parser.parse_args()
    if arguments.role == "server":
        with socket.create_server(("127.0.0.1", 0)) as listener:
            print(listener.getsockname()[1], flush=True)
            sock, _ = listener.accept()
    else:
        sock = socket.create_connection(("127.0.0.1", arguments.port))
    connection = SSL.Connection(context(arguments), sock)
    if arguments.role == "server":
        connection.set_accept_state()
    else:
        connection.set_connect_state()
        connection.set_tlsext_host_name(arguments.name.encode())
    connection.do_handshake()
    peer = connection.get_peer_certificate()
    facts = {
        "group": connection.get_group_name(),
        "cipher": connection.get_cipher_name(),
        "peer": None if peer is None else peer.to_cryptography().public_key_algorithm_oid.dotted_string,
    }
    print(json.dumps(facts), flush=True)
    if arguments.role == "client":
        connection.sendall(b"from the peer\n")
    try:
        while True:
            data = connection.recv(65536)
            if arguments.role == "server":
                connection.sendall(data)
            else:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
    except SSL.ZeroReturnError:
        connection.shutdown()


main()
