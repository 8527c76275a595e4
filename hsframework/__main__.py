"""The console script, and ``python -m hsframework``."""

from __future__ import annotations

import sys

from hsframework.interrupt import leave_when_interrupted


def main() -> int:
    """Run the command that the command line names: :func:`hsframework.cli.main`."""
    leave_when_interrupted()
    from hsframework import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
