"""Rule for the groups that the agent of a plugin may join.

It holds for agents that a supervisor has started, and for those that run as their plugin's user.

A keeper runs its plugin's code, so the groups that it names are a wish.  The registry of groups is made of what an
administrator wrote or installed, and the first row that fits decides:

* ``[agents.NAME] groups``, where it is set: these and no others;
* the kernel's own groups (``tlshd`` and whatever the running kernel names) are those of the plugins in ``[kernel]
  plugins``, and those of ``[kernel.raw] protocols`` are of these and of the plugin of that name;
* the group of the plugin's own name is its own;
* a group in ``[agents.OTHER] groups`` is the other plugin's;
* any other is that of the plugin with whose name it begins (``NAME-…``), of several the one with the longest name; a
  group that bears no plugin's name belongs to none.

An agent that root or the dispatcher's own user runs is bound by neither: nobody could hold it to that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from hsframework.configuration.agent_users import plugin_users
from hsframework.configuration.settings import AgentSettings, Configuration
from hsframework.dispatcher.sources.kernel.groups import GENERIC, RAW, form_of


class KnownAgents:
    """Agents of installed plugins that run as their plugins' users; ``plugins``: the plugins' names."""

    def __init__(self, configuration: Configuration, plugins: Collection[str]) -> None:
        self._configuration = configuration
        self._plugins = plugins
        self._owners = plugin_users(configuration, plugins)

    def known(self, uid: int) -> bool:
        """True if the user is that of a plugin's agent."""
        return uid in self._owners

    def refused(self, uid: int, group: str) -> str | None:
        """Return what to change if the agent that runs as this user should join the group; None: it may."""
        return refused_groups(self._owners[uid], [group], self._configuration, self._plugins).get(group)


def refused_groups(
    plugin: str, wanted: Iterable[str], configuration: Configuration, installed: Collection[str]
) -> dict[str, str]:
    """Return those of the groups that the plugin's agent may not join, each with what to change if it should."""
    settings = configuration.agents.get(plugin, AgentSettings())
    problems = ((group, _problem(plugin, group, settings, configuration, installed)) for group in wanted)
    return {group: problem for group, problem in problems if problem is not None}


def _problem(
    plugin: str, group: str, settings: AgentSettings, configuration: Configuration, installed: Collection[str]
) -> str | None:
    if settings.groups is not None:
        return None if group in settings.groups else f"add it to agents.{plugin}.groups"
    form = form_of(group, configuration)
    if form == GENERIC or (form == RAW and group != plugin):
        named = plugin in configuration.kernel.plugins
        return None if named else f"it is the kernel's; add {plugin!r} to kernel.plugins"
    if group == plugin:
        return None
    others = [name for name, other in configuration.agents.items() if name != plugin and group in (other.groups or ())]
    if others:
        return f"the configuration gives it to {others[0]!r}; set agents.{plugin}.groups"
    owner = _owner(group, {plugin, *installed})
    if owner == plugin:
        return None
    whose = "it bears no plugin's name" if owner is None else "it bears the name of another plugin"
    return f"{whose}; set agents.{plugin}.groups"


def _owner(group: str, plugins: Iterable[str]) -> str | None:
    """Return the plugin whose name a group bears."""
    return max((name for name in plugins if group == name or group.startswith(f"{name}-")), key=len, default=None)
