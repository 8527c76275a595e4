"""Secrets, looked for from outside: in the log, in processes, and on others' connections."""

from __future__ import annotations

import asyncio
import base64
import errno
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_private_key

from hsframework.client import AsyncClient, HandshakeOptions
from hsframework.client.wire import codec
from hsframework.interface import PresharedKey, Secret
from hsframework.process.capabilities import CAP_KILL, CAP_NET_ADMIN
from tests.load.traffic import DEADLINE, Credentials, check_served, handshake_pair, outcome, spoken_to
from tests.support.running import Service, running_service, status_of, tcp_pairs
from tests.support.secrets import written

TOY = Path(__file__).with_name("toy_plugin.py").read_text()
CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service("[agents.tls13]\nprocesses = 2\n", plugins={"toy": TOY}, agents=2) as running:
        running.wait_for_agents(protocol="toy")
        yield running


def test_written_finds_what_is_there() -> None:
    """The search below would find a secret in each of its forms."""
    secret = bytes(range(7, 39))
    for text in (str({"key": secret}), secret.hex().upper(), base64.b64encode(b"\1" + secret + b"\2").decode()):
        shifted = [secret[skip:][:24] for skip in range(3)]
        assert any(form.lower() in text.lower() for part in shifted for form in written(part)), text


def test_no_secret_in_the_log(credentials: Credentials) -> None:
    """Neither keys nor traffic secrets are in any process's output at level debug, after good and bad handshakes."""
    with running_service(plugins={"toy": TOY}) as service:
        service.wait_for_agents(protocol="toy")
        secrets = asyncio.run(_sessions(service, credentials))
        secrets += [credentials.psk.key.reveal(), *_private_parts(credentials.identity.private_key.reveal())]
        assert service.stop() == 0
        text = (service.log.end() + service.output).lower()
    assert len(service.log.events("handshake")) >= 10
    assert "log lines were dropped" not in text
    for secret in secrets:
        for skip in range(3):
            part = secret[skip:][:24]
            assert not any(form.lower() in text for form in written(part))


async def _sessions(service: Service, credentials: Credentials) -> list[bytes]:
    async with AsyncClient(service.runtime_dir) as client:
        secrets = await many_kinds(client, credentials)
        for behaviour in ("raises", "returns_a_nonsense_result", "success_without_a_session"):
            with tcp_pairs() as ((near, _),):
                options = HandshakeOptions(group="toy", psks=(credentials.psk,), peer_name=behaviour)
                assert (await outcome(client, near, options)).errno
    assert len(secrets) >= 12
    return secrets


async def many_kinds(client: AsyncClient, credentials: Credentials) -> list[bytes]:
    """Run handshakes that succeed and handshakes that fail; return the secrets of those that succeed."""
    secrets: list[bytes] = []
    for psk in (False, True):
        with tcp_pairs() as (pair,):
            for session in await handshake_pair(client, pair, credentials, psk=psk):
                secrets += [item.reveal() for item in session.parameters.values() if isinstance(item, Secret)]
                assert session.raw_parameters is not None
                secrets.append(session.raw_parameters.reveal())
    wrong = PresharedKey(credentials.psk.identity, Secret(bytes(range(32))))
    unknown = PresharedKey(b"nobody", credentials.psk.key)
    untrusting = HandshakeOptions(peer_name="another.example", trust=credentials.trust, timeout=DEADLINE)
    for near_options, far_options in (
        (HandshakeOptions(psks=(wrong,), timeout=DEADLINE), credentials.psk_server()),
        (HandshakeOptions(psks=(unknown,), timeout=DEADLINE), credentials.psk_server()),
        (untrusting, credentials.server()),
        (credentials.psk_client(), credentials.server()),
    ):
        with tcp_pairs() as ((near, far),):
            ends = (outcome(client, near, near_options), outcome(client, far, far_options))
            assert all(ended.errno for ended in await asyncio.gather(*ends))
    with tcp_pairs() as ((near, far),):
        far.sendall(b"\x16\x03\x03\x00\x05nonsense")
        assert (await outcome(client, near, credentials.client())).errno
    with tcp_pairs() as ((near, far),):
        assert (await outcome(client, near, credentials.server(timeout=0.1))).errno == errno.ETIMEDOUT
    return secrets


def _private_parts(der: bytes) -> list[bytes]:
    key = load_der_private_key(der, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return [der, key.private_numbers().private_value.to_bytes(32, "big")]


def test_what_an_agent_may_do(service: Service) -> None:
    """Agents have a user of their own each, no capability, no way to gain one, and leave no core dump."""
    assert status_of(service.keeper())["Uid"] != status_of(service.keeper("toy"))["Uid"]
    for plugin in ("tls13", "toy"):
        for pid in (service.keeper(plugin), *service.workers(plugin)):
            status = status_of(pid)
            assert 0 not in map(int, status["Uid"].split() + status["Gid"].split())
            assert not status["Groups"]
            assert [int(status[name], 16) for name in CAPABILITIES] == [0] * len(CAPABILITIES)
            assert status["NoNewPrivs"] == "1"


def test_what_the_dispatcher_may_do(service: Service) -> None:
    """Started by root, it keeps CAP_KILL (hung agents) and CAP_NET_ADMIN (the kernel's requests) alone."""
    allowed = 1 << CAP_KILL | 1 << CAP_NET_ADMIN
    status = status_of(service.dispatcher)
    for name in CAPABILITIES:
        assert int(status[name], 16) & ~allowed == 0
    assert int(status["CapEff"], 16) == allowed


def test_no_core_dumps(service: Service) -> None:
    """No process of the service leaves one."""
    for pid in service.processes():
        (limit,) = (line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if "core file size" in line)
        assert limit.split()[4:6] == ["0", "0"]


def test_nobody_looks_into_a_process(service: Service) -> None:
    """An agent's own user reads neither its memory nor its map, and may look into other processes of its own."""
    for pid in (*service.workers(), service.keeper(), service.dispatcher, service.pid):
        user = int(status_of(pid)["Uid"].split()[0]) or int(status_of(service.keeper())["Uid"].split()[0])
        for name in ("mem", "maps", "environ", "fd/0", "auxv"):
            reader = subprocess.run(
                ["cat", f"/proc/{pid}/{name}"], user=user, group=user, extra_groups=[], capture_output=True, text=True
            )
            assert reader.returncode
            assert "Permission denied" in reader.stderr
        with subprocess.Popen(["cat"], user=user, group=user, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdin is not None
            assert other.stdout is not None
            other.stdin.write(b"started")
            other.stdin.flush()
            assert other.stdout.read(7)
            seen = subprocess.run(["cat", f"/proc/{other.pid}/maps"], user=user, group=user, capture_output=True)
            other.stdin.close()
        assert b"libc" in seen.stdout


def test_secrets_go_to_the_owner_alone(service: Service, credentials: Credentials) -> None:
    """While others' handshakes succeed, a consumer with a request under way hears nothing but its own result."""
    asyncio.run(_owner_alone(service, credentials))


async def _owner_alone(service: Service, credentials: Credentials) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as curious, tcp_pairs() as ((near, far),):
        curious.connect(str(service.runtime_dir / "consumer.sock"))
        values = credentials.client().submit_values()
        socket.send_fds(curious, [codec().encode("submit", values, sequence=1)], [near.fileno()])
        await spoken_to([far])
        curious.setblocking(False)
        async with AsyncClient(service.runtime_dir) as one, AsyncClient(service.runtime_dir) as other:
            for _ in range(10):
                await check_served(one, credentials)
                # Numbers of others' requests, as a curious consumer would try them: they mean its own.
                for number in range(2, 40):
                    curious.send(codec().encode("cancel", {"request-id": number}, sequence=number))
            with pytest.raises(BlockingIOError):
                curious.recv(65536)
            served = await other.handshake(far, credentials.server())
        message = codec().decode(await loop.sock_recv(curious, 65536))
        assert (message.operation, message.sequence, message.values["status"]) == ("result", 1, 0)
        assert served.raw_parameters is not None
        assert message.values["session"].reveal() == served.raw_parameters.reveal()
