"""Terms: the configuration and the credentials that are in force together, read whole by a process of their own.

::

    reader ── snapshot of the configuration, snapshot of the credentials ──▶ dispatcher: one vault, one policy
             (two sealed memfds: the supervisor, which holds no secret, opens the first alone)

Rules:

* They are read all or nothing: one file that cannot be used, and nothing is taken of the others.
* They are whole: if a file has changed while they were read, or a process still has it open for writing, they are read
  again later.
* Nobody but the reader opens a file for them.  What makes use of them off the loop is :func:`opened`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from hsframework.configuration.agent_users import plugin_users
from hsframework.configuration.files import Print, Stamp, is_being_written, named_files, prints, stamps
from hsframework.configuration.renewal import renewed
from hsframework.configuration.settings import Configuration
from hsframework.credentials.trust import load_trust
from hsframework.dispatcher.keys.lists import Dates, check_lists, dates_of
from hsframework.dispatcher.keys.vault import Part, Vault
from hsframework.dispatcher.policy import Policy
from hsframework.errors import ConfigurationError, HsframeworkError
from hsframework.interface import Role
from hsframework.process.snapshot import freeze, thaw

CONFIGURATION, CREDENTIALS = "configuration", "credentials"
"""The two snapshots of terms, in the order in which they are sent."""


class Unsettled(HsframeworkError):
    """Error of files that changed while they were read."""


@dataclass(frozen=True, slots=True)
class InForce:
    """Configuration in force.  ``waiting``: keys whose new values wait for a restart.

    ``files`` and ``prints``: the files that it was read from, as they were then.
    """

    configuration: Configuration
    waiting: tuple[str, ...] = ()
    files: Mapping[str, Stamp] = field(default_factory=dict)
    prints: Mapping[str, Print] = field(default_factory=dict)
    lists: Mapping[str, Dates] | None = None
    """Revocation lists in force, by trust; None: they were not looked at."""

    @classmethod
    def at_start(cls, configuration: Configuration) -> InForce:
        """Return the state at the start, just after the configuration was read."""
        return cls(configuration, (), stamps(configuration), prints(configuration))


@dataclass(frozen=True, slots=True)
class Terms:
    """Configuration and credentials that are in force together."""

    state: InForce
    contents: Mapping[Part, Any] = field(repr=False)

    def frozen(self) -> tuple[int, int]:
        """Return the two snapshots, which are the caller's.  Raises OSError, and ConfigurationError."""
        try:
            first = freeze(CONFIGURATION, self.state)
        except TypeError as error:
            raise ConfigurationError(f"the configuration has a value that cannot be handed on: {error}") from None
        try:
            return first, freeze(CREDENTIALS, self.contents)
        except BaseException:
            os.close(first)
            raise


def read_terms(load: Callable[[], Configuration], before: InForce, plugins: Collection[str]) -> Terms:
    """Read everything anew.  ``before``: what is in force.  ``plugins``: names of those that are installed.

    Raises ConfigurationError, which says what to change, and Unsettled.
    """
    early = prints(before.configuration)
    configuration, waiting = renewed(before.configuration, load())
    _check_not_empty(configuration)
    found, files = prints(configuration), stamps(configuration)
    if any(early.get(path, state) != state for path, state in found.items()):
        raise Unsettled("a file has changed while it was read")
    vault = Vault(configuration)
    Policy(configuration)
    plugin_users(configuration, plugins)
    if configuration.kernel.enabled and None in configuration.rules().profiles(Role.CLIENT):
        _load_system_trust(vault)
    for trust in vault.trusts():
        trust.digest  # noqa: B018  computed here, it goes with the trust
    if any(map(is_being_written, named_files(configuration))) or prints(configuration) != found:
        raise Unsettled("a file has changed while it was read, or is being written")
    lists = vault.lists()
    check_lists(before.configuration, before.lists or {}, configuration, lists)
    return Terms(InForce(configuration, waiting, files, found, lists), vault.contents())


def _check_not_empty(configuration: Configuration) -> None:
    """Raise ConfigurationError if the file is empty: its defaults were taken for what somebody wanted."""
    if configuration.file is not None and not configuration.file.stat().st_size:
        raise ConfigurationError(f"{configuration.file}: the file is empty; write a comment, if defaults are meant")


def with_lists(state: InForce) -> InForce:
    """Return the state with the lists that its files have, if it has none: at the start they were just read.

    A file that cannot be read has none: whoever reads it as a whole says so.
    """
    if state.lists is not None:
        return state
    lists: dict[str, Dates] = {}
    for name, settings in state.configuration.trust.items():
        with contextlib.suppress(ConfigurationError):
            lists[name] = dates_of(load_trust((), settings.crl))
    return replace(state, lists=lists)


def opened(snapshots: tuple[int, int]) -> tuple[InForce, Vault]:
    """Return what two snapshots hold, which it closes.  Raises ValueError."""
    try:
        state = thawed_state(snapshots[0])
    except ValueError:
        os.close(snapshots[1])
        raise
    vault = Vault(state.configuration, contents=thaw(snapshots[1]), files=state.files)
    vault.findings(datetime.now(UTC))  # remembered for the metrics, which ask on the loop
    return state, vault


def thawed_state(fd: int) -> InForce:
    """Return the state that a snapshot holds, which it closes.  Raises ValueError."""
    state = thaw(fd)
    if not isinstance(state, InForce):
        raise ValueError("a snapshot holds no configuration")
    return state


def _load_system_trust(vault: Vault) -> None:
    try:
        vault.system_trust  # noqa: B018
    except ConfigurationError:
        return  # as at the start: requests that need it are refused
