"""Checks that a plugin fits this core: by its distribution before the import, by its interface version afterwards.

* A distribution requires a range of ``hsframework`` versions, as any dependency.  pip checks it when it installs the
  plugin, but not when the core is upgraded later, so it is checked again at every start.
* A plugin names the interface for which it was written: ``hsframework_interface_version`` in the module or object that
  its entry point names, and ``interface_version`` in each protocol.  The default is 1.
"""

from __future__ import annotations

from importlib import metadata

from hsframework import __version__
from hsframework.errors import PluginError
from hsframework.interface import INTERFACE_VERSION, OLDEST_INTERFACE_VERSION

PLUGIN_ATTRIBUTE = "hsframework_interface_version"
_CORE = "hsframework"


def check_distribution(distribution: metadata.Distribution | None, core: str = __version__) -> None:
    """Raise PluginError if a distribution requires another version of the core than ``core``."""
    for text in () if distribution is None else distribution.requires or ():
        if not text.lower().startswith(_CORE):
            continue
        from packaging.requirements import InvalidRequirement, Requirement
        from packaging.utils import canonicalize_name

        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            continue
        applies = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
        if canonicalize_name(wanted.name) != _CORE or not applies or wanted.specifier.contains(core, prereleases=True):
            continue
        assert distribution is not None
        raise PluginError(
            f"{distribution.name} {distribution.version} works with {_CORE} {wanted.specifier}, and this is {core}; "
            f"install versions that go together: pip install --upgrade {_CORE} {distribution.name}"
        )


def check_interface_version(version: object, whose: str) -> None:
    """Raise PluginError for an interface version that this core does not serve; ``whose``: for messages."""
    if type(version) is not int:
        raise PluginError(f"{whose} says that it was written for interface version {version!r:.80}; a number is wanted")
    if OLDEST_INTERFACE_VERSION <= version <= INTERFACE_VERSION:
        return
    newer = version > INTERFACE_VERSION
    span = str(INTERFACE_VERSION)
    if OLDEST_INTERFACE_VERSION < INTERFACE_VERSION:
        span = f"{OLDEST_INTERFACE_VERSION} to {INTERFACE_VERSION}"
    raise PluginError(
        f"{whose} was written for interface version {version}, and {_CORE} {__version__} serves {span}; "
        f"install a newer {_CORE if newer else 'version of the plugin'}"
    )
