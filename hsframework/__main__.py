"""The console script, and ``python -m hsframework``."""

from __future__ import annotations

import sys

from hsframework.cli.interrupt import leave_when_interrupted


def main() -> int:
    """Run the command that the command line names: :func:`hsframework.cli.main.main`."""
    leave_when_interrupted()
    from hsframework.cli import main as cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
