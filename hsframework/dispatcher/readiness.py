"""Readiness of the dispatcher, and a line of status.

It is ready once an agent has joined each required group.  The kernel's TLS was tried before that, at the start.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import structlog

from hsframework.configuration.settings import Configuration
from hsframework.dispatcher.requests.core import Dispatcher
from hsframework.probes import Probe, Yes

KERNEL_GROUP = "tlshd"

_log = structlog.get_logger("hsframework.dispatcher")


def required_groups(configuration: Configuration, *, serves_kernel: bool, plugins: Collection[str]) -> tuple[str, ...]:
    """Return the groups that must have an agent before the service is ready; ``plugins``: those that are in use."""
    if configuration.required_groups is not None:
        return configuration.required_groups
    return (KERNEL_GROUP,) if serves_kernel and set(plugins) & set(configuration.kernel.plugins) else ()


class Readiness:
    """Look-out for the agents of the required groups.

    ``announce``: called once, when all have one.  ``report``: called with each new line of status.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        required: Collection[str],
        kernel_tls: Probe[frozenset[int]],
        announce: Callable[[], None],
        report: Callable[[str], None],
    ) -> None:
        self._dispatcher = dispatcher
        self._required = tuple(required)
        self._kernel_tls = kernel_tls
        self._announce = announce
        self._report = report
        self._said = ""
        self.ready = False
        dispatcher.members_changed = self.look
        self.look()

    def look(self) -> None:
        """Announce that all required groups have an agent, once; report what has changed."""
        groups = self._dispatcher.groups
        missing = [name for name in self._required if name not in groups or not groups[name].members]
        if not missing and not self.ready:
            self.ready = True
            _log.info("the service is ready", required=self._required)
            self._announce()
        status = self._status(missing)
        if status != self._said:
            self._said = status
            self._report(status)

    def _status(self, missing: Collection[str]) -> str:
        served = sorted(name for name, group in self._dispatcher.groups.items() if group.members)
        words = [f"serves {', '.join(served)}" if served else "serves nothing"]
        if missing:
            words.append(f"waits for an agent of {', '.join(missing)}")
        if isinstance(self._kernel_tls, Yes):
            words.append("the kernel has TLS")
        else:
            words.append(f"the kernel's TLS: {self._kernel_tls.reason}")
        return "; ".join(words)
