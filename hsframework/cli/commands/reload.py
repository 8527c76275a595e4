"""Have the running service read its files again: configuration, certificates, keys, lists, pre-shared keys.

All or nothing: if one of them is wrong, nothing is taken of the others, the reason is said, and the exit status is 1.
Handshakes under way end by what was in force when they began.  For root and the service's own user.

example:
  hsframework reload
"""

from __future__ import annotations

import argparse
import json

from hsframework.cli.options.service import add_runtime_dir
from hsframework.client.groups import reload_service

DONE = "Configuration and credentials were read again and are in force."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as a JSON object")
    add_runtime_dir(parser)


def run(arguments: argparse.Namespace) -> int:
    ended = reload_service(arguments.runtime_dir)
    if arguments.json:
        print(json.dumps(ended, indent=2))
    else:
        print(f"Nothing was taken: {ended['problem']}" if ended["problem"] else DONE)
        for key in ended["waiting"]:
            print(f"{key} waits for a restart.")
    return 1 if ended["problem"] else 0
