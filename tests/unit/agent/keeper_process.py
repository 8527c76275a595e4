"""A keeper in a process of its own, for the tests: ``keeper_process.py SOCKET OPTIONS`` with the options as JSON.

Its protocol is the toy with the behaviour that the options name.  With ``watch`` every file that is opened, and every
module that is imported, after the warm-up is told on stderr.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from hsframework.agent import keeper, warmup
from hsframework.agent.keeper import keeper_main
from hsframework.agent.privileges import agent_user
from hsframework.agent.warmup import KeeperOptions
from hsframework.configuration.settings import AgentSettings
from hsframework.interface import Endpoint, Handshaker, Request, Result
from hsframework.telemetry.log import configure
from tests.unit.agent.fakes import Behaviour, ToyPlugin, ToyProtocol, greet, registry_with


async def kill(request: Request, endpoint: Endpoint) -> Result:
    """Kill the process, as a crash in a native library does."""
    os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.Event().wait()
    raise AssertionError


async def fail(request: Request, endpoint: Endpoint) -> Result:
    """Fail by a plugin's fault, with a traceback for the log."""
    raise ValueError("a fault in the toy")


async def reads(request: Request, endpoint: Endpoint) -> Result:
    """Read a file of the interpreter's, as a late import does: a worker may read no others."""
    Path(os.__file__).read_bytes()  # noqa: ASYNC240  (a file that never blocks)
    return Result()


class BrokenProtocol(ToyProtocol):
    """Cannot be prepared."""

    def prepare(self, settings: Any) -> Handshaker:
        raise RuntimeError("cannot be prepared")


class CarelessProtocol(ToyProtocol):
    """Changes what signals do in the whole process, as a library may."""

    def prepare(self, settings: Any) -> Handshaker:
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        os.register_at_fork(after_in_parent=lambda: signal.set_wakeup_fd(-1))
        return super().prepare(settings)


async def hoard(request: Request, endpoint: Endpoint) -> Result:
    """Run out of memory."""
    raise MemoryError


PROTOCOLS = {"broken": BrokenProtocol, "careless": CarelessProtocol}
BEHAVIOURS: dict[str, Behaviour] = {"greet": greet, "kill": kill, "fail": fail, "hoard": hoard, "reads": reads}


def watch_files() -> None:
    """Report opened files from the end of the warm-up on."""
    warm_up = warmup.warm_up
    events = ("open", "import", "os.listdir", "os.scandir", "ctypes.dlopen", "subprocess.Popen", "os.exec")

    def tell(event: str, arguments: tuple[Any, ...]) -> None:
        if event in events:
            os.write(2, f"OPENED {event} {arguments!r:.200}\n".encode())

    def watched(options: KeeperOptions) -> Any:
        result = warm_up(options)
        sys.addaudithook(tell)
        return result

    keeper.warm_up = watched  # type: ignore[attr-defined]


def main() -> int:
    path, options = Path(sys.argv[1]), json.loads(sys.argv[2])
    configure("info", "console")
    if options.get("watch"):
        watch_files()
    behaviour = options.get("behaviour", "greet")
    protocol = PROTOCOLS.get(behaviour, ToyProtocol)(BEHAVIOURS.get(behaviour, greet))
    protocol.groups = tuple(options.get("groups", protocol.groups))
    control = options.get("control")
    return keeper_main(
        KeeperOptions(
            agent_socket_path=path,
            plugin=options.get("plugin", "plugin-0"),
            settings={"toy": options.get("settings", {})},
            agent=AgentSettings(processes=options.get("processes", 1)),
            user=agent_user(None, "toy"),
            control=None if control is None else socket.socket(fileno=control),
            registry=registry_with(ToyPlugin(protocol)),
        )
    )


if __name__ == "__main__":
    sys.exit(main())
