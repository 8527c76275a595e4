"""aioquic's own client and server as a program, with pipes for their data: a QUIC peer that is not ours.

::

    python -m hsframework.cli.demo.aioquic_peer server HOST PORT --cert FILE --key FILE [--alpn NAME]
    python -m hsframework.cli.demo.aioquic_peer client HOST PORT --ca FILE --name NAME [--cert FILE --key FILE] [--alpn
    NAME]

Standard input goes to the first bidirectional stream, what the peer sends on it to standard output; the program ends
when both have ended.  The demonstration runs it where hsframework-quic is installed, which brings aioquic; the tests
run it too.  The core does not depend on aioquic: the running program alone imports it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aioquic.quic.configuration import QuicConfiguration

CHUNK = 65536
LISTENING = "listening"


def main() -> None:
    """Run the client or the server that the command line names."""
    from aioquic.quic.configuration import QuicConfiguration

    arguments = _arguments()
    configuration = QuicConfiguration(is_client=arguments.role == "client", alpn_protocols=[arguments.alpn])
    if arguments.cert is not None:
        configuration.load_cert_chain(arguments.cert, arguments.key)
    if arguments.role == "client":
        configuration.server_name = arguments.name
        configuration.load_verify_locations(cafile=arguments.ca)
    asyncio.run((_client if configuration.is_client else _server)(arguments, configuration))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="aioquic with pipes for its data")
    parser.add_argument("role", choices=("client", "server"))
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--ca")
    parser.add_argument("--name")
    parser.add_argument("--alpn", default="demo")
    parser.add_argument("--retry", action="store_true")
    return parser.parse_args()


async def _client(arguments: argparse.Namespace, configuration: QuicConfiguration) -> None:
    from aioquic.asyncio import connect

    async with connect(arguments.host, arguments.port, configuration=configuration) as protocol:
        reader, writer = await protocol.create_stream()
        await _pump(reader, writer)


async def _server(arguments: argparse.Namespace, configuration: QuicConfiguration) -> None:
    from aioquic.asyncio import serve

    done = asyncio.Event()
    tasks: set[asyncio.Task[None]] = set()

    def on_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(_pump(reader, writer))
        tasks.add(task)
        task.add_done_callback(lambda _: done.set())

    server = await serve(
        arguments.host,
        arguments.port,
        configuration=configuration,
        stream_handler=on_stream,
        retry=arguments.retry,
    )
    print(LISTENING, file=sys.stderr, flush=True)
    await done.wait()
    server.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry data both ways, until both have ended."""
    sender = asyncio.create_task(_send(writer))
    while data := await reader.read(CHUNK):
        await asyncio.to_thread(_write_all, data)
    await sender


async def _send(writer: asyncio.StreamWriter) -> None:
    loop = asyncio.get_running_loop()
    pipe = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(pipe), sys.stdin)
    while data := await pipe.read(CHUNK):
        writer.write(data)
    writer.write_eof()


def _write_all(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(sys.stdout.fileno(), view) :]


if __name__ == "__main__":
    main()
