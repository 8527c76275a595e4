"""Privileges that an agent gives up before it meets a peer: user, capabilities, core dumps, keyrings.

The order matters, and :func:`drop_privileges` keeps it:

* Changing the user resets PR_SET_DUMPABLE and PR_SET_PDEATHSIG, so these come after it.
* Capabilities belong to a thread: everything here runs in the main thread, before any other is started.
* Root's interpreter may be unreadable to the agent's user, so one capability, CAP_DAC_READ_SEARCH, can be kept until
  the plugins are imported: :func:`drop_last_capability` ends that.

The default agent user is a number of its own for each plugin (:mod:`hsframework.configuration.agent_users`).
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Collection
from dataclasses import dataclass

import structlog

from hsframework.configuration.agent_users import default_uid
from hsframework.errors import ConfigurationError
from hsframework.process.capabilities import (
    CAP_DAC_READ_SEARCH,
    clear_bounding_set,
    forbid_core_dumps,
    forbid_new_privileges,
    keep_capabilities_through_setuid,
    set_capabilities,
    those_permitted,
)
from hsframework.process.keyctl import join_session_keyring

_log = structlog.get_logger("hsframework.agent")


@dataclass(frozen=True, slots=True)
class AgentUser:
    """A user that an agent runs as.  ``name``: for logs; the digits of a number that has no entry."""

    name: str
    uid: int
    gid: int


def agent_user(configured: str | None, plugin: str, installed: Collection[str] = ()) -> AgentUser | None:
    """Return the user for the agent of a plugin, None to keep the process's own, which is not root then.

    ``configured``: a name or a number.  ``installed``: all plugins, none of which has the same number.  Raises
    ConfigurationError for a user that does not exist, or cannot be taken.
    """
    if configured is None:
        if os.geteuid() != 0:
            return None
        uid = default_uid(plugin, installed)
        return AgentUser(str(uid), uid, uid)
    user = _look_up(configured)
    if os.geteuid() != 0:
        if user.uid == os.geteuid():
            return None
        raise ConfigurationError(
            f"only root can run an agent as {configured!r}; start it as root, or leave the user out"
        )
    return user


def _look_up(user: str) -> AgentUser:
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except KeyError:
        if user.isdecimal():
            return AgentUser(user, int(user), int(user))
        raise ConfigurationError(f"there is no user {user!r}; create it or name another") from None
    except OverflowError:
        raise ConfigurationError(f"{user} is no user id") from None
    return AgentUser(entry.pw_name, entry.pw_uid, entry.pw_gid)


def drop_privileges(user: AgentUser | None) -> None:
    """Become ``user`` (None: keep the user) without groups, without capabilities, unable to gain any, and not dumpable.

    Another user keeps CAP_DAC_READ_SEARCH, if root had it, until :func:`drop_last_capability`.  Raises
    ConfigurationError.
    """
    if user is not None:
        clear_bounding_set()
        keep_capabilities_through_setuid(True)
        _become(user)
        keep_capabilities_through_setuid(False)
    set_capabilities(those_permitted([CAP_DAC_READ_SEARCH]) if user is not None else 0)
    forbid_new_privileges()
    forbid_core_dumps()


def _become(user: AgentUser) -> None:
    """Become a user without groups.  Raises ConfigurationError that names the system call."""
    ids = (user.uid,) * 3, (user.gid,) * 3
    if (os.getresuid(), os.getresgid()) == ids and not set(os.getgroups()) - {user.gid}:
        _log.warning(
            "the agent runs as the user of the service: nothing but capabilities keeps them apart", uid=user.uid
        )
        return
    changes: tuple[tuple[str, Callable[[], None]], ...] = (
        ("setgroups", lambda: os.setgroups([])),
        ("setresgid", lambda: os.setresgid(*ids[1])),
        ("setresuid", lambda: os.setresuid(*ids[0])),
    )
    for call, change in changes:
        try:
            change()
        except OSError as error:
            raise ConfigurationError(
                f"{call}: {error.strerror}: cannot become user {user.name}; start the service with CAP_SETUID and "
                "CAP_SETGID where this user id exists.  In a container with one user, agents.NAME.user = "
                f"{str(os.getuid())!r} runs the agent as that one"
            ) from None


def drop_last_capability() -> None:
    """Give up the capability that :func:`drop_privileges` has kept."""
    set_capabilities(0)


def join_own_session_keyring() -> bool:
    """Join a new session keyring.  Return True if it was made, False if this kernel or its sandbox has no keyrings."""
    try:
        join_session_keyring()
    except OSError as error:
        _log.info("no session keyring of its own", reason=error.strerror)
        return False
    return True
