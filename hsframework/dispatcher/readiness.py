"""Readiness of the dispatcher, and a line of status.

It is ready once an agent has joined each required group.  The kernel's TLS was tried before that, at the start.

An agent of in-kernel QUIC sockets is a member of the kernel's group, too, and takes none of the requests of NFS and
NVMe: where the plugin of TLS is in use, an agent that takes TCP sockets is waited for.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Mapping

import structlog

from hsframework.configuration.settings import Configuration
from hsframework.dispatcher.requests.core import Dispatcher
from hsframework.dispatcher.requests.groups import kind
from hsframework.probes import Probe, Yes

KERNEL_GROUP = "tlshd"
TLS_PLUGIN = "tls13"

Required = Mapping[str, int | None]
"""Groups that must have an agent, each with the SO_PROTOCOL of the sockets that it must take; None: any."""

_log = structlog.get_logger("hsframework.dispatcher")


def required_groups(configuration: Configuration, *, serves_kernel: bool, plugins: Collection[str]) -> Required:
    """Return what must be served before the service is ready; ``plugins``: those that are in use."""
    names = configuration.required_groups
    kernel = set(plugins) & set(configuration.kernel.plugins)
    if names is None:
        names = (KERNEL_GROUP,) if serves_kernel and kernel else ()
    tcp = socket.IPPROTO_TCP if TLS_PLUGIN in kernel else None
    return {name: tcp if name == KERNEL_GROUP else None for name in names}


class Readiness:
    """Look-out for the agents of the required groups.

    ``announce``: called once, when all have one.  ``report``: called with each new line of status.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        required: Required,
        kernel_tls: Probe[frozenset[int]],
        announce: Callable[[], None],
        report: Callable[[str], None],
    ) -> None:
        self._dispatcher = dispatcher
        self._required = required
        self._kernel_tls = kernel_tls
        self._announce = announce
        self._report = report
        self._said = ""
        self.ready = False
        dispatcher.members_changed = self.look
        self.look()

    def look(self) -> None:
        """Announce that all required groups have an agent, once; report what has changed."""
        missing = self.missing()
        if not missing and not self.ready:
            self.ready = True
            _log.info("the service is ready", required=tuple(self._required))
            self._announce()
        status = self._status(missing)
        if status != self._said:
            self._said = status
            self._report(status)

    def missing(self) -> list[str]:
        """Return the required groups that are not served now: ``tlshd (TCP sockets)``."""
        found = []
        for name, protocol in self._required.items():
            group = self._dispatcher.groups.get(name)
            if group is None or not (group.members if protocol is None else group.serves(protocol)):
                found.append(name if protocol is None else f"{name} ({kind(protocol)} sockets)")
        return found

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
