"""Users of agents, by which a dispatcher knows the plugin of an agent that it has not started.

The agent of a plugin runs as one of these: the user ``agents.NAME.user``; ``hsframework-NAME``, which packages and
units use; a number of its own, the default of ``hsframework run`` and of ``hsframework agent``.  Each may join what
:mod:`hsframework.dispatcher.grants` gives the plugin, so that a dispatcher and agents that were started apart go
together without a line of configuration.

The default number is from 60800 to 61055: systemd's table of user ids leaves these unused: no other process runs and no
file is owned under them.  ``nobody`` would be shared with other programs.
"""

from __future__ import annotations

import pwd
import zlib
from collections.abc import Collection, Mapping

from hsframework.configuration.settings import Configuration

USER_PREFIX = "hsframework-"
FIRST_AGENT_UID = 60800
AGENT_UIDS = 256


def default_uid(plugin: str) -> int:
    """Return the user id of a plugin's agent for which no user is named."""
    return FIRST_AGENT_UID + zlib.crc32(plugin.encode()) % AGENT_UIDS


def plugin_users(configuration: Configuration, installed: Collection[str]) -> Mapping[int, str]:
    """Return the plugin by the user id of its agent.

    A user id that two plugins have in common is left out: it would give each of them the groups of the other.
    """
    owners: dict[int, set[str]] = {}
    for plugin in installed:
        settings = configuration.agents.get(plugin)
        named = [USER_PREFIX + plugin, *([settings.user] if settings is not None and settings.user else [])]
        uids = {uid for name in named if (uid := _uid(name)) is not None}
        for uid in uids | {default_uid(plugin)}:
            owners.setdefault(uid, set()).add(plugin)
    return {uid: plugins.pop() for uid, plugins in owners.items() if len(plugins) == 1}


def _uid(user: str) -> int | None:
    if user.isdecimal():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None
