"""``hsframework run`` for tests that use it as a consumer does: awaited by its groups, and it must end well."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from tests.support import running
from tests.support.running import python_path, short_folder

__all__ = ["Service", "python_path", "running_service"]


class Service(running.Service):
    """A running service."""

    @property
    def runtime(self) -> Path:
        """The folder of its sockets."""
        return self.runtime_dir

    def wait_for_groups(self, *groups: str) -> None:
        """Wait until an agent has joined each of these."""
        for group in groups:
            self.log.wait("an agent joins", groups=partial(_has, group))


def _has(group: str, joined: Sequence[str]) -> bool:
    return group in joined


@contextlib.contextmanager
def running_service(
    *, configuration: str = "", groups: Sequence[str] = ("tls13",), plugins: Path | None = None
) -> Iterator[Service]:
    """Run the service until the end of the block.  ``plugins``: a further folder with some."""
    with short_folder() as folder:
        service = Service(folder, configuration, plugins)
        try:
            service.wait_for_groups(*groups)
            yield service
            assert service.process.poll() is None, service.log.text
            assert service.stop() == 0, service.log.text
        finally:
            service.clean_up()
