"""A service whose links for one user are used up, by the clients of several programs."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from hsframework.adapters.sockets import SessionSocket
from hsframework.client import Client, HandshakeOptions
from tests.adapters.conftest import ROOT
from tests.support.service import running_service

pytestmark = pytest.mark.peers

CLIENTS, CALLS = 4, 20
USER = 1000


@contextlib.contextmanager
def others_server(folder: Path) -> Iterator[tuple[str, int]]:
    """Run a TLS server of Python's ssl, which needs no link, and yield its address."""
    files = ROOT.issue(["localhost"]).write(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.private_key)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with context.wrap_socket(self.request, server_side=True) as sock:
                sock.recv(1)

    class Server(socketserver.ThreadingTCPServer):
        request_queue_size = 128
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield "127.0.0.1", server.server_address[1]
        server.shutdown()
        thread.join()


OPTIONS = HandshakeOptions(peer_name="localhost", trust=ROOT.trust(), timeout=60)


def call(client: Client, address: tuple[str, int]) -> str:
    """Run a handshake, and return the cipher."""
    with SessionSocket.connect(client, address, OPTIONS) as sock:
        sock.sendall(b"x")
        return str(sock.cipher())


def become(uid: int) -> None:
    """Take another user in this process: root's links are not limited."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def all_calls(runtime: Path, address: tuple[str, int]) -> list[str]:
    """Run all handshakes at once, and return their ciphers."""
    clients = [Client(runtime) for _ in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS * CALLS) as threads:
        calls = [threads.submit(call, client, address) for client in clients for _ in range(CALLS)]
        found = [each.result() for each in calls]
    for client in clients:
        client.close()
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_callers_beyond_the_users_links_wait_their_turn(tmp_path: Path) -> None:
    """Four clients with eighty handshakes at once, over the 20 links of their user: none fails, none is in doubt."""
    limited = f'[limits]\nconnections-per-user = 20\n[[allow]]\nusers = ["{USER}"]\n'
    with running_service(configuration=limited) as service, others_server(tmp_path) as address:
        with Client(service.runtime) as client:
            call(client, address)  # imports what the other user may not read
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(1, mp_context=context, initializer=become, initargs=(USER,)) as processes:
            found = processes.submit(all_calls, service.runtime, address).result()
        assert len(found) == CLIENTS * CALLS
        assert all("TLSv1.3" in cipher for cipher in found)
        assert "connection refused: too many are open" in service.log.text


def test_a_reset_link_was_not_read() -> None:
    """The kernel's word on which the client relies: ECONNRESET where the packet was not read, an end where it was."""
    for read, outcome in ((False, ConnectionResetError), (True, None)):
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with near:
            near.send(b"request")
            if read:
                far.recv(100)
            far.close()
            if outcome is None:
                assert near.recv(100) == b""
            else:
                with pytest.raises(outcome):
                    near.recv(100)
