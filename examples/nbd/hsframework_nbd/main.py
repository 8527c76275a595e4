"""The command ``hsframework-nbd``: attach an export as a block device, and detach it."""

from __future__ import annotations

import argparse
import contextlib
import errno
import sys
import time

from hsframework.client import Client, HandshakeOptions
from hsframework.credentials.trust import load_trust
from hsframework.errors import HsframeworkError
from hsframework.netlink.socket import NetlinkError
from hsframework_nbd.connection import Place, connect
from hsframework_nbd.device import Devices, LostConnections

PAUSE = 1.0
"""Seconds between two attempts to connect again."""


def main() -> int:
    """Run the command.  Returns the exit status."""
    options = _parser().parse_args()
    try:
        with contextlib.closing(Devices()) as devices:
            if options.command == "detach":
                devices.end(options.index)
            else:
                _attach(options, devices)
    except (HsframeworkError, OSError) as error:
        print(f"hsframework-nbd: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hsframework-nbd", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    attach = commands.add_parser("attach", help="make a block device of an export")
    attach.add_argument("host")
    attach.add_argument("--port", type=int, default=10809)
    attach.add_argument("--export", default="", help="name of the export (the server's default)")
    attach.add_argument("--peer-name", help="name in the server's certificate (the host)")
    attach.add_argument("--trust", action="append", help="file of trust anchors, PEM")
    attach.add_argument("--profile", help="profile of the service: its identities, keys and trust")
    attach.add_argument("--runtime-dir", help="folder of the service's sockets")
    attach.add_argument("--keep", action="store_true", help="stay, and connect again when the connection is lost")
    detach = commands.add_parser("detach", help="end a device")
    detach.add_argument("index", type=int, help="the number in /dev/nbdNUMBER")
    return parser


def _attach(options: argparse.Namespace, devices: Devices) -> None:
    place = Place(
        options.host,
        options.port,
        options.export,
        HandshakeOptions(
            peer_name=options.peer_name or options.host,
            profile=options.profile,
            trust=None if options.trust is None else load_trust(options.trust),
        ),
    )
    with Client(options.runtime_dir) as client, contextlib.closing(LostConnections(devices)) as lost:
        sock, export = connect(client, place)
        with sock:
            index = devices.begin(sock, export)
        print(f"/dev/nbd{index}", flush=True)
        while options.keep and lost.wait(index):
            _connect_again(client, place, devices, index)


def _connect_again(client: Client, place: Place, devices: Devices, index: int) -> None:
    """Give the device a new connection.  Raises NetlinkError if the device has ended."""
    while True:
        try:
            sock, _ = connect(client, place)
        except (HsframeworkError, OSError) as error:
            print(f"hsframework-nbd: {error}; trying on", file=sys.stderr, flush=True)
            time.sleep(PAUSE)
            continue
        with sock:
            try:
                devices.use(index, sock)
            except NetlinkError as error:
                if error.errno != errno.ENOSPC:
                    raise
                return  # one loss was notified twice
        print(f"/dev/nbd{index} is connected again", flush=True)
        return


if __name__ == "__main__":
    sys.exit(main())
