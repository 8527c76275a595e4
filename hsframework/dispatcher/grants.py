"""Rule for the groups that the agent of a plugin may join.

It holds for agents that a supervisor has started, and for those that run as their plugin's user.

A keeper runs its plugin's code, so the groups that it names are a wish.  What decides is what an administrator wrote or
installed:

* ``[agents.NAME] groups``, where it is set: these and no others;
* else the kernel's own groups (``tlshd`` and whatever the running kernel names) for the plugins in ``[kernel] plugins``
  alone, those of ``[kernel.raw] protocols`` for these and for the plugin of that name, none that bears the name of
  another installed plugin, and any other.

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
    if group != plugin and group in installed:
        return f"it bears the name of another plugin; set agents.{plugin}.groups"
    return None
