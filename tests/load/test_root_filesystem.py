"""Once it is started, the service serves while the root filesystem hangs: an agent opens and imports nothing."""

from __future__ import annotations

import asyncio
import os
import signal

from hsframework.client import AsyncClient
from tests.load.test_secrets import many_kinds
from tests.load.traffic import Credentials, outcome, served_again
from tests.support.running import Service, running_service, tcp_pairs

WATCH = '''
"""Notes what an agent's interpreter opens, imports, loads or executes, and tells it at the end of each handshake."""

import os
import sys

import structlog

import hsframework

KINDS = ("open", "import", "os.exec", "os.posix_spawn", "os.listdir", "os.scandir", "ctypes.dlopen", "subprocess.Popen")
here = os.getpid()
noted = []


def note(event, arguments):
    if event in KINDS and os.getpid() != here:
        noted.append(f"{event} {arguments[0]!r}")


sys.addaudithook(note)


@hsframework.hookimpl
def hsframework_handshake_started(request):
    if request.alpn == ("open-a-file",):
        open("/dev/null").close()


@hsframework.hookimpl
def hsframework_handshake_finished(request, outcome, duration):
    structlog.get_logger("watch").info("noted", noted=list(noted))
'''


def test_agents_open_nothing(credentials: Credentials) -> None:
    """Neither for good nor for bad handshakes, before or after an agent is replaced; and the watch does see."""
    with running_service(plugins={"watch": WATCH}) as service:
        asyncio.run(_serve(service, credentials))
        noted = [event["noted"] for event in service.log.events("noted")]
        assert len({event["pid"] for event in service.log.events("noted")}) == 2
        assert len(noted) > 20
        assert noted[-1] == ["open '/dev/null'"]
        assert noted[:-1] == [[]] * (len(noted) - 1)


async def _serve(service: Service, credentials: Credentials) -> None:
    async with AsyncClient(service.runtime_dir) as client:
        await many_kinds(client, credentials)
        mark, (worker,) = service.log.mark, service.workers()
        os.kill(worker, signal.SIGKILL)
        service.log.wait("joined", since=mark)
        await served_again(client, credentials)
        await many_kinds(client, credentials)
        mark = service.log.mark
        with tcp_pairs() as ((near, far),):
            far.close()
            watched = credentials.client(alpn=("open-a-file",))
            assert (await outcome(client, near, watched)).errno
        service.log.wait("noted", since=mark)
