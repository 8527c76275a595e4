"""The sources of the kernel's requests: one for each form of the service in each network namespace.

The namespaces are our own and those that are configured, for as long as they exist.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

import structlog

from hsframework.configuration.settings import Configuration
from hsframework.dispatcher.keys.keyring import KernelKeys
from hsframework.dispatcher.keys.vault import Vault
from hsframework.dispatcher.namespaces import network_namespace, which
from hsframework.dispatcher.requests.core import Dispatcher
from hsframework.dispatcher.sources.kernel.genl import GenericWire, refusal
from hsframework.dispatcher.sources.kernel.groups import GENERIC, RAW, form_groups
from hsframework.dispatcher.sources.kernel.others import Watch
from hsframework.dispatcher.sources.kernel.raw import RawWire
from hsframework.dispatcher.sources.kernel.request import KernelRequests
from hsframework.dispatcher.sources.kernel.source import KernelSource
from hsframework.dispatcher.sources.kernel.wire import Wire
from hsframework.netlink.socket import NetlinkError
from hsframework.process.kept import Kept, member_name

LOOK_INTERVAL = 0.5
"""Seconds between two looks for namespaces that came or went, and for services that were missing."""

_log = structlog.get_logger("hsframework.dispatcher")


@dataclass(frozen=True)
class Form:
    """A form of the service.  ``name``: the name of its source in our own namespace."""

    name: str
    open_wire: Callable[[], Wire]
    groups: Collection[str]


class KernelSources:
    """Every source of the kernel's requests.  There is none where the kernel does not allow us to serve it.

    To be made in the main thread, before any other is started.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        vault: Vault,
        configuration: Configuration,
        *,
        loop: asyncio.AbstractEventLoop,
        kept: Kept | None = None,
    ) -> None:
        self._dispatcher = dispatcher
        self._kept = kept or Kept()
        self._loop = loop
        self._own: list[KernelSource] = []
        self._further: dict[str, tuple[tuple[int, int], list[KernelSource]]] = {}
        """Device and inode of a namespace, and its sources, by the namespace's name."""
        self._retired: list[KernelSource] = []
        self._timer: asyncio.TimerHandle | None = None
        self._watch: Watch | None = None
        self._forms = served_forms(configuration)
        self.refusal = "" if self._forms or not configuration.kernel.enabled else _reason()
        """Reason why no form is served though it is configured; empty: there is none."""
        self._namespaces = configuration.kernel.namespaces if self._forms else ()
        if not self._forms:
            return
        self._requests = KernelRequests(vault, KernelKeys(configuration.kernel.keyrings), configuration)
        self._own = [self._open(form, None) for form in self._forms]
        self._look()
        # Before the first look for others' members: what a predecessor had joined is ours.
        dispatcher.expect({group for source in self._all() for group in source.held()})
        self._watch = Watch(form_groups(configuration), self._inodes, self._served, loop=loop)

    def renew(self, vault: Vault, configuration: Configuration) -> None:
        """Take requests by these from now on; those that were taken before keep their terms."""
        if self._forms:
            self._requests.renew(vault, configuration)

    def close(self) -> None:
        """Leave every group and close every socket."""
        for source in [*self._all(), *self._retired]:
            source.close()
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None:
            self._watch.close()

    def _inodes(self) -> set[int]:
        """Return the inodes of the sockets by which we are a member of groups."""
        return {inode for source in [*self._all(), *self._retired] if (inode := source.inode) is not None}

    def _served(self) -> list[str | None]:
        """Return the namespaces that are served and exist; None is our own."""
        return [None, *self._further]

    def _all(self) -> list[KernelSource]:
        return [*self._own, *(source for _, sources in self._further.values() for source in sources)]

    def _open(self, form: Form, namespace: str | None) -> KernelSource:
        name = form.name if namespace is None else f"{form.name}:{namespace}"
        return KernelSource(
            name,
            self._dispatcher,
            self._requests,
            partial(self._open_wire, form, namespace, member_name(name)),
            form.groups,
            self._look_later,
            loop=self._loop,
            kept=self._kept,
        )

    def _open_wire(self, form: Form, namespace: str | None, kept: str) -> Wire:
        """Open a form in a namespace, and go on with the socket of a predecessor if there is one that fits."""
        with contextlib.nullcontext() if namespace is None else network_namespace(namespace):
            wire = form.open_wire()
            fd = self._kept.take(kept)
            if fd is not None:
                try:
                    wire.adopt(fd)
                except NetlinkError as error:
                    _log.warning("a socket of the dispatcher before is not used", name=kept, reason=str(error))
            return wire

    def _look_later(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(LOOK_INTERVAL, self._look)

    def _look(self) -> None:
        """Look for namespaces and services that came or went: nothing announces them.

        A namespace that has lost its name exists for as long as we have sockets in it.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._namespaces:
            self._look_later()
        for name in self._namespaces:
            self._look_at(name)
        self._close_retired()
        for source in self._all():
            source.look()

    def _look_at(self, name: str) -> None:
        there, known = which(name), self._further.get(name)
        if known is not None and known[0] != there:
            del self._further[name]
            _log.info("a network namespace is gone", namespace=name)
            for source in known[1]:
                source.retire()
                self._retired.append(source)
        if there is not None and name not in self._further:
            self._further[name] = there, [self._open(form, name) for form in self._forms]

    def _close_retired(self) -> None:
        """Close the retired sources whose last request is completed."""
        for source in [source for source in self._retired if source.over]:
            source.close()
            self._retired.remove(source)


def served_forms(configuration: Configuration) -> list[Form]:
    """Return the forms that are configured and that we may serve."""
    settings = configuration.kernel
    forms: list[Form] = []
    if not settings.enabled:
        return forms
    refused = refusal()
    if refused is None:
        forms += [
            Form(GENERIC, GenericWire, found.groups) for found in form_groups(configuration) if found.form == GENERIC
        ]
    else:
        tell = _log.warning if refused.forbidden else _log.info
        tell("no requests of the kernel's are taken", reason=refused.reason)
        if refused.forbidden:
            return forms
    if settings.raw.enabled:
        forms.append(Form(RAW, partial(RawWire, settings.raw.protocols), settings.raw.protocols))
    return forms


def _reason() -> str:
    refused = refusal()
    return "" if refused is None else refused.reason
