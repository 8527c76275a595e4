"""Checks of plugins, hooks and protocols: each raises PluginError, which says what is wrong and what is expected."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

import pluggy

from hsframework.errors import PluginError
from hsframework.interface import AuthMode, Demand, Protocol
from hsframework.registry.compatibility import PLUGIN_ATTRIBUTE, check_interface_version

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_GENERATORS_ALLOWED = ("hsframework_protocols",)


def check_plugin(plugin: object) -> None:
    """Check the object that an entry point names.  Raises PluginError unless it is a module or an object with hooks."""
    if plugin is None or isinstance(plugin, (type, str, bytes, int, float)):
        raise PluginError(f"the entry point names {plugin!r:.80}; a module or an object with hooks is wanted")
    check_interface_version(getattr(plugin, PLUGIN_ATTRIBUTE, 1), "the plugin")


def check_hook(name: str, item: pluggy.HookImpl) -> None:
    """Check an implementation of the hook ``name``.  Raises PluginError unless it is a plain function."""
    if item.hookwrapper or item.wrapper:
        raise PluginError(f"{name} is a hook wrapper; a plugin does not stand between others and their hooks")
    if inspect.iscoroutinefunction(item.function) or inspect.isasyncgenfunction(item.function):
        raise PluginError(f"{name} is a coroutine; hooks are plain functions")
    if inspect.isgeneratorfunction(item.function) and name not in _GENERATORS_ALLOWED:
        raise PluginError(f"{name} is a generator; hooks are plain functions")


def check_protocol(item: object) -> Protocol:
    """Check an item that ``hsframework_protocols`` returned, and return it as a Protocol.  Raises PluginError."""
    if not isinstance(item, Protocol):
        raise PluginError(
            f"hsframework_protocols gave {_shown(item)}; instances of hsframework.interface.Protocol are wanted"
        )
    check_interface_version(item.interface_version, _shown(item))
    name = getattr(item, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PluginError(
            f"{_shown(item)}.name is {name!r:.80}; lower-case letters, digits and dashes are wanted, 63 at most"
        )
    groups: object = getattr(item, "groups", None)
    if not isinstance(groups, tuple) or not groups or not all(isinstance(group, str) and group for group in groups):
        raise PluginError(f"{name}: groups is {groups!r:.80}; a tuple of names is wanted")
    served: object = item.socket_protocols
    if not isinstance(served, (set, frozenset)) or not served or not all(type(number) is int for number in served):
        raise PluginError(f"{name}: socket_protocols is {served!r:.80}; a frozenset of SO_PROTOCOL numbers is wanted")
    if not isinstance(item.tls_policies, bool):
        raise PluginError(f"{name}: tls_policies is {item.tls_policies!r:.80}; True or False is wanted")
    _check_members(name, "auth_modes", item.auth_modes, AuthMode)
    _check_members(name, "understands", item.understands, Demand)
    if item.settings_type is not None:
        check_settings_type(item.settings_type, f"{name}: settings_type")
    return item


def _check_members(name: str, attribute: str, value: object, kind: type[AuthMode] | type[Demand]) -> None:
    """Raise PluginError unless the value is a set of members of this enumeration: a text could be misspelt."""
    if not isinstance(value, (set, frozenset)) or not all(isinstance(member, kind) for member in value):
        raise PluginError(f"{name}: {attribute} is {value!r:.80}; a frozenset of {kind.__name__} is wanted")


def check_settings_type(kind: object, whose: str) -> type[Any]:
    """Check a settings type, and return it.  Raises PluginError unless it is a dataclass; ``whose``: for messages."""
    if not isinstance(kind, type) or not dataclasses.is_dataclass(kind):
        raise PluginError(f"{whose} is {kind!r:.80}; a dataclass is wanted")
    return kind


def _shown(item: object) -> str:
    return f"the class {item.__name__}" if isinstance(item, type) else type(item).__name__
