"""The whole demonstration: start of the service, scenarios, output, clean-up."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from hsframework.agent.privileges import agent_user
from hsframework.cli.demo.exchange import Outcome, run_scenario
from hsframework.cli.demo.peers import openssl_program
from hsframework.cli.demo.picture import Cast, picture, table
from hsframework.cli.demo.processes import (
    START_TIMEOUT,
    DemoError,
    Service,
    process_facts,
    wait_for_socket,
)
from hsframework.cli.demo.quic_peers import free_port
from hsframework.cli.demo.scenarios import Credentials, scenarios
from hsframework.client import AsyncClient, HandshakeOptions, connect_udp
from hsframework.client.session import installed_plugins
from hsframework.errors import HandshakeError, RequestRefused

PROTOCOLS = ("tls13", "quic", "psp")
"""Protocols that are shown if they are installed; the first one must be."""
GROUPS = {"tls13": ("tls13", "tlshd"), "quic": ("quic", "tlshd"), "psp": ("psp",)}
"""Groups that the agents join, by protocol."""

_LONGEST_FOLDER = 60
_POLL = 0.01

Say = Callable[[str], None]


def run_demo(say: Say = print) -> int:
    """Run the demonstration.  Return 0 if every outcome was expected, else 1.  Raises DemoError if it cannot be run."""
    openssl_program()
    try:
        outcomes, cast = asyncio.run(_stage(say))
    except asyncio.CancelledError:
        sys.exit(128 + signal.SIGTERM)
    return _show(outcomes, cast, say)


async def _stage(say: Say) -> tuple[list[Outcome], Cast]:
    # SIGTERM must not leave the dispatcher and the agents running, also not while one is being started.
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with ExitStack() as stack:
        folder = _folder(stack)
        private = folder / "private"
        private.mkdir(mode=0o700)
        say("Making throw-away certificates and keys.")
        return await _perform(folder, private, Credentials(private), stack, say)


async def _perform(
    folder: Path, private: Path, credentials: Credentials, stack: ExitStack, say: Say
) -> tuple[list[Outcome], Cast]:
    runtime = folder / "run"
    protocols = [name for name in PROTOCOLS if name in installed_plugins().protocols]
    configuration = _write_configuration(private, protocols)
    words = ["--config", str(configuration), "--runtime-dir", str(runtime), "--log-format", "json"]
    say(f"Starting the dispatcher and an agent each for {' and '.join(protocols)}, as processes of their own.")
    dispatcher = Service("dispatcher", ["dispatcher", *words], private)
    stack.callback(dispatcher.stop)
    dispatcher_start = await wait_for_socket(runtime / "consumer.sock", dispatcher)
    agents = {}
    for name in protocols:
        agents[name] = Service(f"agent {name}", ["agent", name, *words], private)
        stack.callback(agents[name].stop)
    async with AsyncClient(runtime) as client:
        starts = [await _wait_for_agent(client, name, agents[name], dispatcher) for name in protocols]
        workers = {name: agent.worker() for name, agent in agents.items()}
        cast = Cast(process_facts(os.getpid()), dispatcher.worker(), workers, dispatcher_start, max(starts))
        todo = scenarios(credentials, protocols, runtime)
        peers = " and ".join(dict.fromkeys(scenario.peers.name for scenario in todo))
        say(f"Running {len(todo)} handshakes with the programs of {peers}.\n")
        outcomes = []
        for scenario in todo:
            outcomes.append(await run_scenario(scenario, client, private))
            for service in (dispatcher, *agents.values()):
                service.check()
    return outcomes, cast


async def _wait_for_agent(client: AsyncClient, protocol: str, agent: Service, dispatcher: Service) -> float:
    """Wait until an agent serves the group, and return the seconds that it took.

    Submits a dead connection until the answer is a failed handshake; ESRCH means that no agent has joined yet.
    """
    begun = time.monotonic()
    with _dead_connection(protocol) as sock:
        while True:
            agent.check()
            dispatcher.check()
            try:
                await client.handshake(sock, HandshakeOptions(group=protocol, timeout=2.0))
            except RequestRefused as error:
                if error.errno != errno.ESRCH or time.monotonic() - begun > START_TIMEOUT:
                    raise DemoError(f"the agent did not begin to serve: {error}", errno=error.errno) from None
            except HandshakeError:
                return time.monotonic() - begun
            await asyncio.sleep(_POLL)


def _dead_connection(protocol: str) -> socket.socket:
    """Return a socket of the protocol's kind without a live peer."""
    if socket.IPPROTO_UDP in installed_plugins().protocols[protocol].protocol.socket_protocols:
        return connect_udp("127.0.0.1", free_port())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
        far.close()
    return sock


def _show(outcomes: list[Outcome], cast: Cast, say: Say) -> int:
    for protocol in cast.agents:
        first = next(outcome for outcome in outcomes if outcome.scenario.peers.protocol == protocol)
        if not first.problem:
            say(picture(cast, first) + "\n")
    say(table(outcomes) + "\n")
    wrong = [outcome for outcome in outcomes if outcome.problem]
    if wrong:
        say(f"{len(wrong)} of {len(outcomes)} did not come out as they should.")
        return 1
    sessions = sum(not outcome.status for outcome in outcomes)
    say(
        f"All {len(outcomes)} came out as they should: {sessions} sessions, "
        f"{len(outcomes) - sessions} refused with the right errno."
    )
    return 0


def _folder(stack: ExitStack) -> Path:
    """Make a temporary folder that the agents' users may traverse, with a path short enough for unix sockets."""
    base = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="hsframework-demo-", dir=base if len(base) <= _LONGEST_FOLDER else "/tmp"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o711)
    return folder


def _write_configuration(folder: Path, protocols: Sequence[str]) -> Path:
    """Write the configuration: the users that may join the groups, since the agents are started apart."""
    path = folder / "hsframework.toml"
    members: dict[str, list[str]] = {}
    for protocol in protocols:
        user = agent_user(None, protocol)
        for group in GROUPS[protocol] if user is not None else ():
            assert user is not None
            members.setdefault(group, []).append(f'"{user.uid}"')
    tables = [f"[groups.{group}]\nusers = [{', '.join(users)}]\n" for group, users in members.items()]
    path.write_text("\n".join(tables))
    return path
