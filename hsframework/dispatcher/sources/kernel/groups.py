"""Groups of the kernel, by the form of the service that has them: the only place that knows which there are.

* Those of the kernel's own form are the ones that the running kernel names (CTRL_CMD_GETFAMILY).  A handler class has
  the number of its group's place in the family, where the first is a class of no requests, so that further groups
  are served as the kernel has them.
* Those of the raw-netlink form are listed in the configuration, with the numbers that the module has for them.
* Where the kernel has no such family, or cannot be asked, what the spec lists is still the kernel's
  (:func:`form_of`): an agent must not become its agent unnoticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hsframework.configuration.settings import Configuration
from hsframework.errors import HsframeworkError
from hsframework.netlink.control import loaded_family
from hsframework.netlink.socket import NETLINK_GENERIC, RequestSocket
from hsframework.netlink.spec import builtin_specification

GENERIC, RAW = "kernel", "kernel-raw"
"""Names of the forms, and of their sources in our own network namespace."""

NO_CLASS = 0
"""Handler class of which there are no requests."""


@dataclass(frozen=True)
class FormGroups:
    """The groups of one form of the service.  ``protocol``: the netlink family; ``groups``: numbers by name."""

    form: str
    protocol: int
    groups: Mapping[str, int]


def handler_classes(groups: Mapping[str, int]) -> dict[str, int]:
    """Return the handler class of each group of the family that has requests.

    ``groups``: all of the family's, with the numbers that the running kernel gives them, one behind the other.
    """
    first = min(groups.values(), default=0)
    return {name: number - first for name, number in groups.items() if number - first != NO_CLASS}


def form_groups(configuration: Configuration) -> list[FormGroups]:
    """Return the groups of the forms that are configured and that this kernel has.  Raises HsframeworkError."""
    found = []
    if configuration.kernel.enabled:
        named = _named_by_the_kernel()
        if named:
            served = {name: named[name] for name in handler_classes(named)}
            found.append(FormGroups(GENERIC, NETLINK_GENERIC, served))
        raw = configuration.kernel.raw
        if raw.enabled:
            found.append(FormGroups(RAW, builtin_specification("handshake-raw").protonum or 0, raw.protocols))
    return found


def form_of(group: str, configuration: Configuration) -> str | None:
    """Return the form that has a group of this name, or None if it is no group of the kernel's.

    One that both forms have is the kernel's own.
    """
    try:
        named = _named_by_the_kernel()
    except HsframeworkError:
        named = {}
    if group in named or group in builtin_specification("handshake").groups:
        return GENERIC
    raw = configuration.kernel.raw
    return RAW if raw.enabled and group in raw.protocols else None


def _named_by_the_kernel() -> Mapping[str, int]:
    """Return all groups of the kernel's family, none if it has no such family.  No module is loaded."""
    sock = RequestSocket(NETLINK_GENERIC)
    try:
        family = loaded_family(sock, builtin_specification("handshake").name)
    finally:
        sock.close()
    return {} if family is None else family.groups
