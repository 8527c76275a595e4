"""PSP through the whole service: two consumers, a dispatcher, an agent whose workers are forked.  Software device."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hsframework.client import AsyncClient, Client, HandshakeOptions, Session
from hsframework.errors import HandshakeError
from hsframework.interface import Role, Secret
from hsframework.testing.network import tcp_pair
from hsframework_psp.streams import PspStream
from tests.peers.test_examples import example
from tests.support.meetings import SHA384, TIMEOUT, Pki
from tests.support.processes import Program
from tests.support.secrets import written
from tests.support.service import Service, python_path

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def psp_service(service: Service) -> Service:
    """The tier's service serves every installed plugin."""
    service.wait_for_groups("psp")
    return service


def options(pki: Pki, role: Role, **changes: object) -> HandshakeOptions:
    make = pki.client if role is Role.CLIENT else pki.server
    credential = pki.leaf("good")
    identity = {} if "psks" in changes else {"identities": (credential.identity,), "trust": pki.trust}
    return make(**{"group": "psp", "attributes": {"device": "software"}, **identity, **changes})


def both(client: Client, near: HandshakeOptions, far: HandshakeOptions) -> tuple[Session, Session]:
    """Run handshakes on both ends of a connection, whose sockets the sessions have."""
    one, two = tcp_pair(TIMEOUT)
    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(client.handshake, two, far)
        return client.handshake(one, near), serving.result()


def close(*sessions: Session) -> None:
    for session in sessions:
        session.socket.close()


def test_both_ends(psp_service: Service, pki: Pki) -> None:
    """A session with its facts, secrets as secrets; data both ways; packets of the consumer's own."""
    with Client(psp_service.runtime) as client:
        near, far = both(client, options(pki, Role.CLIENT), options(pki, Role.SERVER))
        assert near.protocol == "psp"
        assert near.tags["version"] == "aes-gcm-256"
        assert not near.in_kernel
        assert near.peer.certificates[0] == far.peer.certificates[0] == pki.leaf("good").identity.chain[0]
        assert isinstance(near.parameters["tx-key"], Secret)
        one, two = near.stream(), far.stream()
        assert isinstance(one, PspStream)
        assert isinstance(two, PspStream)
        one.send(b"question")
        assert two.receive() == b"question"
        two.send(b"answer")
        assert one.receive() == b"answer"
        assert one.packets is not None
        assert two.packets is not None
        assert two.packets.open(one.packets.seal(b"a segment", next_header=6)).payload == b"a segment"
        one.close()
        assert two.receive() == b""
        two.close()
        close(near, far)


def test_with_a_psk(psp_service: Service, pki: Pki) -> None:
    """The server's key is looked up by the identity that the client names."""
    with Client(psp_service.runtime) as client:
        near = options(pki, Role.CLIENT, psks=(SHA384,), peer_name=None, trust=None)
        far = options(pki, Role.SERVER, psks=(SHA384,))
        sessions = both(client, near, far)
        assert [session.peer.psk_identity for session in sessions] == [SHA384.identity] * 2
        close(*sessions)


def test_an_anonymous_client(psp_service: Service, pki: Pki) -> None:
    """Mutual authentication is the default: ENOKEY, with what to do."""
    with Client(psp_service.runtime) as client:
        one, two = tcp_pair(TIMEOUT)
        with one, two, pytest.raises(HandshakeError, match="give an identity") as refused:
            client.handshake(one, pki.client(group="psp"))
        assert refused.value.errno == errno.ENOKEY


def test_no_two_sessions_share_a_key(psp_service: Service, pki: Pki) -> None:
    """Over all workers, 40 sessions at once: every key is its own."""
    with Client(psp_service.runtime) as client, ThreadPoolExecutor(8) as pool:
        near, far = options(pki, Role.CLIENT), options(pki, Role.SERVER)
        found = list(pool.map(lambda _: both(client, near, far), range(40)))
        keys = {
            session.parameters[name].reveal() for pair in found for session in pair for name in ("rx-key", "tx-key")
        }
        assert len(keys) == 80
        for pair in found:
            close(*pair)


def command(service: Service, *words: object) -> Program:
    """Run `hsframework connect` or `listen`, with its first word."""
    program = [sys.executable, "-m", "hsframework", str(words[0]), "--runtime-dir", str(service.runtime)]
    environment = {"PYTHONPATH": python_path(), "PYTHONUNBUFFERED": "1"}
    return Program([*program, *map(str, words[1:]), "--protocol", "psp", "--json"], env=environment)


def test_on_the_command_line(psp_service: Service, pki: Pki) -> None:
    """listen and connect with each other: facts, data both ways, the end properly said, status 0 on both."""
    ours = pki.files("good")
    words = ["--cert", ours.certificate, "--key", ours.private_key, "--ca", pki.ca, "--attribute", "device=software"]
    with command(psp_service, "listen", *words, "--once", "0") as server:
        port = server.wait_for(r"listening on 127\.0\.0\.1:(\d+)")[1]
        with command(psp_service, "connect", *words, "--servername", "server.example", "127.0.0.1", port) as client:
            for program in (client, server):
                facts = json.loads(program.wait_for(r'^\{"ok": .*\}$')[0])
                assert (facts["protocol"], facts["in_kernel"], facts["alpn"]) == ("psp", False, "psp-kx/1")
                assert facts["tags"]["device"] == "software"
            for sender, receiver in ((client, server), (server, client)):
                sender.send(b"protected\n")
                assert receiver.read(10) == b"protected\n"
            client.close_input()
            server.close_input()
            assert client.wait() == 0, client.said()
        assert server.wait() == 0, server.said()


def test_the_example(psp_service: Service, pki: Pki, tmp_path: Path) -> None:
    """The how-to's program as it stands, but for the device, which is in software here, and where things are."""
    ours = pki.files("good")
    for name, file in (("client.pem", ours.certificate), ("client.key", ours.private_key), ("ca.pem", pki.ca)):
        shutil.copy(file, tmp_path / name)
    code = example("docs/howto/psp.md", "psp").replace('"kernel"', '"software"')
    code = code.replace("Client()", f"Client({str(psp_service.runtime)!r})")
    words = ["--cert", ours.certificate, "--key", ours.private_key, "--ca", pki.ca, "--attribute", "device=software"]
    with command(psp_service, "listen", *words, "--once", "--echo", "0") as server:
        port = server.wait_for(r"listening on 127\.0\.0\.1:(\d+)")[1]
        code = code.replace('("server.example", 4433)', f'("127.0.0.1", {port})')
        ended = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": python_path()},
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert (ended.stdout, ended.stderr) == (b"software False\nb'hello'\n", b"")
        assert server.wait() == 0, server.said()


def test_the_example_of_the_readme(psp_service: Service, pki: Pki, capsys: pytest.CaptureFixture[str]) -> None:
    """The example serves a session with a peer that answers; the packet that it prints is one for the peer."""
    names: dict[str, Any] = {}
    exec(compile(example("plugins/psp/README.md", "session"), "<example>", "exec"), names)
    with Client(psp_service.runtime) as client, ThreadPoolExecutor(1) as pool:
        near, far = both(client, options(pki, Role.CLIENT), options(pki, Role.SERVER))
        stream = far.stream()
        assert isinstance(stream, PspStream)
        assert stream.packets is not None

        def answer() -> None:
            assert stream.receive() == b"hello"
            stream.send(b"good day")

        answering = pool.submit(answer)
        names["talk"](near, b"a segment")
        answering.result()
        word, packet = capsys.readouterr().out.splitlines()
        assert word == "b'good day'"
        assert stream.packets.open(bytes.fromhex(packet)).payload == b"a segment"
        stream.close()
        close(near, far)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--attribute", "device=kernel"), r"no PSP on this connection.*\[EOPNOTSUPP\]"),
        (("--alpn", "h2"), r"leave ALPN out of the request.*\[EINVAL\]"),
    ],
)
def test_refusals_on_the_command_line(words: tuple[str, ...], text: str, psp_service: Service, pki: Pki) -> None:
    """A line with what is wrong, and status 1."""
    ours = pki.files("good")
    identity = ["--cert", ours.certificate, "--key", ours.private_key, "--ca", pki.ca]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with command(psp_service, "connect", *identity, *words, "127.0.0.1", port) as client:
            client.wait_for(text)
            assert client.wait() == 1


def test_no_key_in_the_log(psp_service: Service, pki: Pki) -> None:
    """At level debug, after sessions and after refusals: neither an SPI's key nor one of ours."""
    with Client(psp_service.runtime) as client:
        near, far = both(client, options(pki, Role.CLIENT), options(pki, Role.SERVER))
        keys = [session.parameters[name].reveal() for session in (near, far) for name in ("rx-key", "tx-key")]
        keys.append(pki.leaf("good").identity.private_key.reveal())
        one, two = tcp_pair(TIMEOUT)
        with one, two, ThreadPoolExecutor(1) as pool:
            refusing = options(pki, Role.SERVER, attributes={"device": "kernel"})
            failing = pool.submit(client.handshake, two, refusing)
            with pytest.raises(HandshakeError):
                client.handshake(one, options(pki, Role.CLIENT))
            with pytest.raises(HandshakeError):
                failing.result()
        for session in (near, far):
            assert "tx-key" not in repr(session)
            assert not any(key.hex() in repr(session.parameters) for key in keys)
        close(near, far)
    said = psp_service.log.text.lower()
    assert '"event": "handshake"' in said
    for key in keys:
        for skip in range(3):
            assert not any(form.lower() in said for form in written(key[skip:][:24]))


async def _async_both(client: AsyncClient, pki: Pki) -> None:
    import asyncio

    one, two = tcp_pair(TIMEOUT)
    with one, two:
        near, far = await asyncio.gather(
            client.handshake(one, options(pki, Role.CLIENT)), client.handshake(two, options(pki, Role.SERVER))
        )
        async with near.stream() as first, far.stream() as second:  # type: ignore[attr-defined]
            await first.send(b"question")
            assert await second.receive() == b"question"


def test_over_asyncio(psp_service: Service, pki: Pki) -> None:
    """The asynchronous client."""
    import asyncio

    async def scene() -> None:
        async with AsyncClient(psp_service.runtime) as client:
            await _async_both(client, pki)

    asyncio.run(asyncio.wait_for(scene(), TIMEOUT))


def test_the_peer_dies(psp_service: Service, pki: Pki) -> None:
    """A consumer that withdraws in mid-handshake costs its peer one error at once."""
    with Client(psp_service.runtime) as client:
        one, two = tcp_pair(TIMEOUT)
        with two:
            threading.Timer(0, one.close).start()
            with pytest.raises(HandshakeError) as failed:
                client.handshake(two, options(pki, Role.SERVER))
            assert failed.value.errno == errno.ECONNRESET


@pytest.mark.parametrize("role", list(Role), ids=lambda role: role.name.lower())
def test_a_tls_policy(psp_service: Service, pki: Pki, role: Role) -> None:
    """The TLS session and the version of PSP are the policy's; data flows; ChaCha20 is no cipher of PSP's."""
    policy = "NORMAL:-CIPHER-ALL:+AES-128-GCM:-GROUP-ALL:+GROUP-SECP384R1"
    ends = {end: options(pki, end, **({"tls_priorities": policy} if end is role else {})) for end in Role}
    with Client(psp_service.runtime) as client:
        sessions = both(client, ends[Role.CLIENT], ends[Role.SERVER])
        for session in sessions:
            assert (session.tags["version"], session.tags["cipher"]) == ("aes-gcm-128", "TLS_AES_128_GCM_SHA256")
            assert session.tags["group"] == "secp384r1"
        one, two = (session.stream() for session in sessions)
        one.send(b"under the policy")
        assert two.receive() == b"under the policy"
        close(*sessions)
        near, far = tcp_pair(TIMEOUT)
        with near, far, pytest.raises(HandshakeError, match="none of the versions of PSP") as refused:
            client.handshake(near, options(pki, role, tls_priorities="NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305"))
        assert refused.value.errno == errno.EOPNOTSUPP
