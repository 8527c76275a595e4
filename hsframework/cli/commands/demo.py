"""Run the main job on this machine: TLS 1.3 handshakes with OpenSSL's own programs, through a dispatcher and an agent.

Where hsframework-quic is installed, QUIC is shown too, with aioquic's own client and server; where hsframework-psp is,
PSP with a device in software, and our own commands at the other end.  Everything is throw-away and stays on the
loopback interface; the program 'openssl' and the package hsframework-tls13 are needed.  Exit status 0: all of it
worked.
"""

from __future__ import annotations

import argparse

from hsframework.cli.options.installed import check_installed
from hsframework.cli.options.quiet import silence_logs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command has no arguments."""


def run(arguments: argparse.Namespace) -> int:
    silence_logs()
    check_installed("tls13")
    from hsframework.cli.demo.stage import run_demo

    return run_demo()
