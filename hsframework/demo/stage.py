"""The demonstration as a whole: start the service, run the scenarios, show what happened, leave nothing behind."""

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
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from hsframework.agent.privileges import agent_user
from hsframework.client import AsyncClient, HandshakeOptions
from hsframework.demo import psp
from hsframework.demo.exchange import Outcome, run_scenario
from hsframework.demo.peers import openssl_program
from hsframework.demo.picture import Cast, picture, table
from hsframework.demo.processes import (
    START_TIMEOUT,
    DemoError,
    Service,
    process_facts,
    wait_for_socket,
)
from hsframework.demo.scenarios import Credentials, scenarios
from hsframework.errors import HandshakeError, RequestRefused
from hsframework.supervisor import plugin_names

PROTOCOL = "tls13"
PSP = "psp"
GROUPS = {PROTOCOL: ("tls13", "tlshd"), PSP: ("psp",)}

_LONGEST_FOLDER = 60
_POLL = 0.01

Say = Callable[[str], None]


def run_demo(say: Say = print) -> int:
    """Run everything.  Returns 0 if all of it worked, else 1.  Raises DemoError when it could not be run."""
    openssl_program()
    # Whoever ends us must not leave the dispatcher and the agent behind.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with ExitStack() as stack:
        folder = _folder(stack)
        private = folder / "private"
        private.mkdir(mode=0o700)
        say("Making throw-away certificates and keys.")
        credentials = Credentials(private)
        outcomes, cast = asyncio.run(_perform(folder, private, credentials, stack, say))
    return _show(outcomes, cast, say)


async def _perform(
    folder: Path, private: Path, credentials: Credentials, stack: ExitStack, say: Say
) -> tuple[list[Outcome], Cast]:
    runtime = folder / "run"
    configuration = _write_configuration(private)
    words = ["--config", str(configuration), "--runtime-dir", str(runtime), "--log-format", "json"]
    say("Starting the dispatcher and an agent, as processes of their own.")
    dispatcher = Service("dispatcher", ["dispatcher", *words], private)
    stack.callback(dispatcher.stop)
    dispatcher_start = await wait_for_socket(runtime / "consumer.sock", dispatcher)
    agent = Service("agent", ["agent", PROTOCOL, *words], private)
    stack.callback(agent.stop)
    async with AsyncClient(runtime) as client:
        agent_start = await _wait_for_agent(client, PROTOCOL, agent, dispatcher)
        cast = Cast(process_facts(os.getpid()), dispatcher.worker(), agent.worker(), dispatcher_start, agent_start)
        todo = scenarios(credentials)
        if PSP in plugin_names():
            second = Service("agent of PSP", ["agent", PSP, *words], private)
            stack.callback(second.stop)
            await _wait_for_agent(client, PSP, second, dispatcher)
            todo += psp.scenarios(credentials, runtime)
        say(f"Running {len(todo)} handshakes with OpenSSL's s_server and s_client, for PSP with our own commands.\n")
        outcomes = []
        for scenario in todo:
            outcomes.append(await run_scenario(scenario, client, private))
            dispatcher.check()
            agent.check()
    return outcomes, cast


async def _wait_for_agent(client: AsyncClient, group: str, agent: Service, dispatcher: Service) -> float:
    """Until somebody serves the group: a request on a connection that is dead ends in another way than ESRCH."""
    begun = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as sock:
        far, _ = listener.accept()
        far.close()
        while True:
            agent.check()
            dispatcher.check()
            try:
                await client.handshake(sock, HandshakeOptions(group=group, timeout=2.0))
            except RequestRefused as error:
                if error.errno != errno.ESRCH or time.monotonic() - begun > START_TIMEOUT:
                    raise DemoError(f"the agent did not begin to serve: {error}", errno=error.errno) from None
            except HandshakeError:
                return time.monotonic() - begun
            await asyncio.sleep(_POLL)


def _show(outcomes: list[Outcome], cast: Cast, say: Say) -> int:
    first = outcomes[0]
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
    """A temporary folder that the agent's user may pass through, with a path short enough for unix sockets."""
    base = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="hsframework-demo-", dir=base if len(base) <= _LONGEST_FOLDER else "/tmp"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o711)
    return folder


def _write_configuration(folder: Path) -> Path:
    """The dispatcher is started apart from the agents, so it is told which users may join the groups."""
    path = folder / "hsframework.toml"
    users = {protocol: agent_user(None, protocol) for protocol in GROUPS}
    tables = [
        f'[groups.{group}]\nusers = ["{user.uid}"]\n'
        for protocol, user in users.items()
        if user is not None
        for group in GROUPS[protocol]
    ]
    path.write_text("\n".join(tables))
    return path
