"""Plugins: discovered by their entry points, checked one by one, and called so that a bad one harms only itself.

* A plugin is a module or an object with functions marked ``@hsframework.hookimpl``, named in the entry point group
  ``hsframework`` of its distribution.  Its name is the entry point's.
* A plugin is recorded with its error and skipped whole if it was written for another version, cannot be imported, has
  hooks that do not fit their specifications or protocols of the wrong shape, or takes a name that is taken.  Other
  plugins are not affected.
* Plugins are loaded in the order of their names.  Of two with the same name that one is used whose distribution bears
  the name, else the first by the distribution's; both are told of the other.
* Hooks are plain functions.  A call of a coroutine or a generator as ``hsframework_authorize`` would decide nothing, so
  both are refused.  An ``authorize`` that returns a value instead of None refuses the handshake.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy
import structlog

from hsframework import hookspecs
from hsframework.configuration.toml import settings_from_table
from hsframework.errors import ConfigurationError, HandshakeError, HsframeworkError, PluginError, RequiredPluginError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.registry.checks import check_hook, check_plugin, check_protocol, check_settings_type
from hsframework.registry.compatibility import check_distribution
from hsframework.registry.installed import Broken, Found, installed

if TYPE_CHECKING:
    from pathlib import Path

    from hsframework.interface import PeerIdentity, Protocol, Request, Result

_log = structlog.get_logger("hsframework.registry")


@dataclass(frozen=True, slots=True)
class PluginRecord:
    """One plugin, in use or skipped."""

    name: str
    distribution: str = ""
    version: str = ""
    """Of the distribution; both are empty for a plugin that was registered without an entry point."""
    protocols: tuple[str, ...] = ()
    """Names of the protocols that it serves."""
    error: str | None = None
    """Reason for which it was skipped; None: it is in use."""
    rivals: tuple[str, ...] = ()
    """Other distributions that name a plugin so, with their versions."""

    @property
    def message(self) -> str:
        """The error, or an empty text."""
        return self.error or ""


class RegisteredProtocol(NamedTuple):
    """A protocol and the record of its plugin."""

    protocol: Protocol
    record: PluginRecord


class _Hook(NamedTuple):
    plugin: str
    function: Callable[..., Any]
    arguments: tuple[str, ...]


class PluginRegistry:
    """The plugins of one process.

    ``records``: every plugin in the order of loading, also those that were skipped.  ``protocols``: those of the
    plugins in use, by name.  Calls through :attr:`hook` raise a plugin's exceptions; the methods here are guarded.
    """

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self.records: list[PluginRecord] = []
        self.protocols: dict[str, RegisteredProtocol] = {}
        self.broken: tuple[Broken, ...] = ()
        """Distributions on the path whose metadata cannot be used."""
        self._settings: dict[str, type[Any]] = {}
        self._refresh()

    @property
    def hook(self) -> pluggy.HookRelay:
        """pluggy's relay to the hooks of every plugin in use."""
        return self._manager.hook

    @property
    def packages(self) -> frozenset[str]:
        """Packages of the plugins in use; of a module that is in none, its own name."""
        modules = [getattr(plugin, "__name__", type(plugin).__module__) for plugin in self._manager.get_plugins()]
        return frozenset(module.rpartition(".")[0] or module for module in modules)

    @property
    def errors(self) -> list[PluginRecord]:
        """Records of the plugins that were skipped."""
        return [record for record in self.records if record.error is not None]

    def register(self, plugin: object, name: str, *, distribution: str = "", version: str = "") -> PluginRecord:
        """Register a module or an object as a plugin.  An error is in the returned record, and is not raised."""
        return self._admit(name, distribution, version, lambda: plugin)

    def load(self, found: Found) -> PluginRecord:
        """Import and register the plugin of an entry point.  An error is in the returned record, and is not raised."""

        def load() -> object:
            check_distribution(found.metadata)
            return found.entry_point.load()

        if found.rivals:
            _log.warning(
                "a plugin's name is claimed by several distributions; uninstall all but one",
                plugin=found.name,
                distribution=f"{found.distribution} {found.version}",
                others=found.rivals,
            )
        return self._admit(found.name, found.distribution, found.version, load, found.rivals)

    def skip(self, record: PluginRecord) -> None:
        """Add the record of a plugin that is not to be used."""
        self.records.append(record)

    def missing(self, required: Iterable[str]) -> dict[str, str]:
        """Return the required plugins that are not in use, with the reason for each."""
        known = {record.name: record.error for record in self.records}
        why = {name: known.get(name, "it is not installed") for name in required}
        return {name: reason for name, reason in why.items() if reason is not None}

    def require(self, names: Iterable[str]) -> None:
        """Raise RequiredPluginError if one of these plugins is not in use."""
        for name, reason in self.missing(names).items():
            raise RequiredPluginError(
                f"the plugin {name!r} is required and cannot be used, so nothing is served: {reason}; mend it, or "
                "take it out of required-plugins"
            )

    def _admit(
        self,
        name: str,
        distribution: str,
        version: str,
        load: Callable[[], object],
        rivals: tuple[str, ...] = (),
    ) -> PluginRecord:
        protocols: tuple[Protocol, ...] = ()
        problem = None
        registered = False
        try:
            if self._manager.has_plugin(name):
                owner = ", ".join(rivals) or "another plugin"
                raise PluginError(f"the plugin name {name!r} is taken by {owner}; uninstall one of them")
            plugin = load()
            check_plugin(plugin)
            registered = True
            self._manager.register(plugin, name)
            self._manager.check_pending()
            self._check_hooks(name)
            protocols = self._collect(name)
            self._check_settings(name, protocols)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            problem = _described(error)
            if registered and self._manager.has_plugin(name):
                self._manager.unregister(name=name)
            _log.error("a plugin is skipped", plugin=name, distribution=distribution, reason=problem)
        record = PluginRecord(name, distribution, version, tuple(item.name for item in protocols), problem, rivals)
        self.records.append(record)
        self.protocols.update((item.name, RegisteredProtocol(item, record)) for item in protocols)
        self._refresh()
        return record

    def _hooks(self, hook: str) -> list[_Hook]:
        implementations = getattr(self._manager.hook, hook).get_hookimpls()
        # In pluggy's calling order: its list is in the order of registration, and the last one is called first.
        return [_Hook(item.plugin_name, item.function, tuple(item.argnames)) for item in reversed(implementations)]

    def _check_hooks(self, name: str) -> None:
        for caller in self._manager.get_hookcallers(self._manager.get_plugin(name)) or ():
            for item in caller.get_hookimpls():
                if item.plugin_name == name:
                    check_hook(caller.name, item)

    def _collect(self, name: str) -> tuple[Protocol, ...]:
        found: list[Protocol] = []
        for hook in self._hooks("hsframework_protocols"):
            if hook.plugin == name:
                found.extend(check_protocol(item) for item in hook.function())
        names = [item.name for item in found]
        for taken in names:
            if taken in self.protocols or names.count(taken) > 1:
                owner = self.protocols[taken].record.name if taken in self.protocols else name
                raise PluginError(
                    f"the protocol name {taken!r} is taken by the plugin {owner!r}; uninstall one of them"
                )
        return tuple(found)

    def _check_settings(self, name: str, protocols: Iterable[Protocol]) -> None:
        kinds = self._hooks_of(name, "hsframework_settings")
        if not kinds:
            return
        if not self._hooks_of(name, "hsframework_configure"):
            raise PluginError("hsframework_settings without hsframework_configure: nobody takes the settings")
        if any(item.name == name and item.settings_type is not None for item in protocols):
            raise PluginError(f"[plugins.{name}] are the settings of the protocol: leave hsframework_settings out")
        self._settings[name] = check_settings_type(kinds[0].function(), "what hsframework_settings gives")

    def _hooks_of(self, plugin: str, hook: str) -> list[_Hook]:
        return [item for item in self._hooks(hook) if item.plugin == plugin]

    def _refresh(self) -> None:
        self._authorize = self._hooks("hsframework_authorize")
        self._started = self._hooks("hsframework_handshake_started")
        self._finished = self._hooks("hsframework_handshake_finished")

    # Guarded calls of hooks

    def configure(self, tables: Mapping[str, Mapping[str, Any]], *, base: Path | None = None) -> None:
        """Call ``hsframework_configure`` of each plugin with the settings in the table of its name.

        ``base``: the folder to which paths in the tables are relative.  Raises ConfigurationError.  A plugin whose hook
        raises anything else is recorded with the error and skipped from then on.
        """
        for hook in self._hooks("hsframework_configure"):
            kind, table = self._settings.get(hook.plugin), tables.get(hook.plugin, {})
            where = f"plugins.{hook.plugin}"
            if kind is None and table and hook.plugin not in self.protocols:
                raise ConfigurationError(f"{where}: this plugin has no settings; remove the table")
            settings = None if kind is None else settings_from_table(kind, table, where, base=base)
            try:
                _call(hook, {"settings": settings})
            except (ConfigurationError, KeyboardInterrupt):
                raise
            except BaseException as error:
                _log.exception("a plugin failed to take its settings", plugin=hook.plugin)
                self._give_up(hook.plugin, f"hsframework_configure failed: {_described(error)}")

    def _give_up(self, name: str, problem: str) -> None:
        self._manager.unregister(name=name)
        self.records = [
            dataclasses.replace(item, error=problem, protocols=()) if item.name == name else item
            for item in self.records
        ]
        self.protocols = {key: item for key, item in self.protocols.items() if item.record.name != name}
        self._refresh()
        _log.error("a plugin is skipped", plugin=name, reason=problem)

    def authorize(self, request: Request, peer: PeerIdentity) -> None:
        """Call ``hsframework_authorize`` of each plugin.

        Raises HandshakeError if one refuses, and ``HandshakeFailed(INTERNAL)`` (EIO) if one fails to decide.
        """
        for hook in self._authorize:
            try:
                answer = _call(hook, {"request": request, "peer": peer})
            except HandshakeError:
                raise
            except KeyboardInterrupt:
                raise
            except BaseException:
                _log.exception("a plugin failed to authorize; the handshake is refused", plugin=hook.plugin)
                raise _undecided(hook.plugin) from None
            if answer is not None:
                _log.error(
                    "a plugin's authorize returned a value, where it returns None or raises; the handshake is refused",
                    plugin=hook.plugin,
                    returned=type(answer).__name__,
                )
                raise _undecided(hook.plugin)

    def handshake_started(self, request: Request) -> None:
        """Call ``hsframework_handshake_started`` of each plugin.  Its exceptions are logged, and not raised."""
        for hook in self._started:
            _call_logged(hook, {"request": request})

    def handshake_finished(self, request: Request, outcome: Result | HsframeworkError, duration: float) -> None:
        """Call ``hsframework_handshake_finished`` of each plugin; ``duration``: seconds.

        Its exceptions are logged, and not raised.
        """
        for hook in self._finished:
            _call_logged(hook, {"request": request, "outcome": outcome, "duration": duration})


Registry = PluginRegistry


def load_plugins(
    only: Collection[str] | None = None, blocked: Iterable[str] = (), *, unfit: Mapping[str, str] | None = None
) -> PluginRegistry:
    """Load the installed plugins.

    ``only``: names of plugins; others are neither imported nor recorded; None: all.  ``blocked``: names of plugins that
    are recorded as skipped, and not imported.  ``unfit``: the same, with the reason for each.
    """
    registry = PluginRegistry()
    refused = dict.fromkeys(blocked, "blocked by the configuration")
    for name, reason in (unfit or {}).items():
        refused[name] = reason
        _log.error("a plugin is skipped", plugin=name, reason=reason)
    found = installed()
    for broken in found.broken:
        _log.warning("a distribution cannot be read, and is passed over", where=broken.where, reason=broken.reason)
    registry.broken = found.broken
    for each in found.plugins:
        if only is not None and each.name not in only:
            continue
        if each.name in refused:
            registry.skip(
                PluginRecord(each.name, each.distribution, each.version, error=refused[each.name], rivals=each.rivals)
            )
            continue
        registry.load(each)
    return registry


def _call(hook: _Hook, values: dict[str, object]) -> object:
    return hook.function(*[values[name] for name in hook.arguments])


def _described(error: BaseException) -> str:
    return str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"


def _call_logged(hook: _Hook, values: dict[str, object]) -> None:
    try:
        _call(hook, values)
    except KeyboardInterrupt:
        raise
    except BaseException:
        _log.exception("a plugin's hook failed", plugin=hook.plugin)


def _undecided(plugin: str) -> HandshakeFailed:
    return HandshakeFailed(Failure.INTERNAL, f"the plugin {plugin!r} failed to say whether the peer is authorized")
