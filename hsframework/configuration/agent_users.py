"""Users of agents, by which a dispatcher knows the plugin of an agent that it has not started.

The agent of a plugin runs as one of these: the user ``agents.NAME.user``; ``hsframework-NAME``, which packages and
units use; a number of its own, the default of ``hsframework run`` and of ``hsframework agent``.  Each may join what
:mod:`hsframework.dispatcher.grants` gives the plugin, so that a dispatcher and agents that were started apart go
together without a line of configuration.

The default number is from 60800 to 61055: systemd's table of user ids leaves these unused: no other process runs and no
file is owned under them.  ``nobody`` would be shared with other programs.  Numbers are allocated to all installed
plugins at once: two plugins never share one, and none is a number of the user database.

Agents that share a user are one agent: each can end the other, and has its groups and keys.  So a configuration by
which two plugins would share one is refused, and one by which an agent and a consumer would.  The service's own user is
exempt, since it may do everything: a container may have no other.
"""

from __future__ import annotations

import os
import pwd
import zlib
from collections.abc import Collection, Mapping

from hsframework.configuration.settings import Configuration
from hsframework.errors import ConfigurationError

USER_PREFIX = "hsframework-"
FIRST_AGENT_UID = 60800
AGENT_UIDS = 256


def default_uids(plugins: Collection[str]) -> Mapping[str, int]:
    """Return the user id of each plugin's agent for which no user is named.

    A plugin has the same number whichever others are installed, unless two want one: then the first by name has it, and
    the other the next that is free.  Raises ConfigurationError if there are too few.
    """
    found: dict[str, int] = {}
    taken: set[int] = set()
    for plugin in sorted(set(plugins)):
        wanted = zlib.crc32(plugin.encode())
        numbers = (FIRST_AGENT_UID + (wanted + step) % AGENT_UIDS for step in range(AGENT_UIDS))
        uid = next((number for number in numbers if number not in taken and not _exists(number)), None)
        if uid is None:
            raise ConfigurationError(
                f"no user id from {FIRST_AGENT_UID} to {FIRST_AGENT_UID + AGENT_UIDS - 1} is free for the agent of "
                f"{plugin!r}; set agents.{plugin}.user"
            )
        taken.add(uid)
        found[plugin] = uid
    return found


def default_uid(plugin: str, installed: Collection[str] = ()) -> int:
    """Return the user id of a plugin's agent for which no user is named; ``installed``: all plugins."""
    return default_uids({plugin, *installed})[plugin]


def plugin_users(configuration: Configuration, installed: Collection[str]) -> Mapping[int, str]:
    """Return the plugin by the user id of its agent, but for the service's own user.

    Raises ConfigurationError if two plugins would share one, or an agent and a consumer.
    """
    exempt = {0, os.geteuid()}
    consumers = {uid: f"allow[{index}]" for index, rule in enumerate(configuration.allow) for uid in _uids(rule.users)}
    numbers = default_uids(installed)
    owners: dict[int, str] = {}
    for plugin in installed:
        settings = configuration.agents.get(plugin)
        named = [USER_PREFIX + plugin, *([settings.user] if settings is not None and settings.user else [])]
        for uid in {numbers[plugin], *_uids(named)} - exempt:
            other = owners.setdefault(uid, plugin)
            if other != plugin:
                raise ConfigurationError(
                    f"the agents of {other!r} and of {plugin!r} would both run as user {uid}, and each would have the "
                    f"groups and the keys of the other; set agents.{plugin}.user to another"
                )
            if uid in consumers:
                raise ConfigurationError(
                    f"the agent of {plugin!r} runs as user {uid}, who is a consumer by {consumers[uid]} and could take "
                    f"the agent's place; set agents.{plugin}.user to another"
                )
    return owners


def _uids(users: Collection[str]) -> set[int]:
    """Return the numbers of those users that exist."""
    return {uid for user in users if (uid := _uid(user)) is not None}


def _uid(user: str) -> int | None:
    if user.isdecimal():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def _exists(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True
