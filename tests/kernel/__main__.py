"""Run a command in the test kernel by hand::

    python -m tests.kernel [--memory 8G] [--timeout 300] [--log] COMMAND ...

Its output and exit code become this program's; ``--log`` adds the kernel's log on the error output.
"""

from __future__ import annotations

import argparse
import sys

from tests.kernel import uml


def main() -> int:
    """Run the command and return its exit code, or 125 where the kernel could not run it to its end."""
    parser = argparse.ArgumentParser(prog="python -m tests.kernel", description="Run a command in the test kernel.")
    parser.add_argument("--memory", default=uml.MEMORY)
    parser.add_argument("--timeout", type=float, default=uml.TIMEOUT)
    parser.add_argument("--log", action="store_true", help="the kernel's log too")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    chosen = parser.parse_args()
    try:
        outcome = uml.run(chosen.command or ["true"], memory=chosen.memory, timeout=chosen.timeout)
    except (uml.Unavailable, uml.KernelFailed) as error:
        print(error, file=sys.stderr)
        return 125
    if chosen.log:
        print(outcome.console, file=sys.stderr)
    sys.stdout.write(outcome.output)
    return outcome.exit_code % 256


if __name__ == "__main__":
    sys.exit(main())
