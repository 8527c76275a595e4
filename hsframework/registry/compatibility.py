"""Does a plugin fit this core?  Asked of its distribution before anything of it is imported, and of itself afterwards.

* A distribution requires ``hsframework`` in a range, as any dependency.  pip sees to that when it installs, and does
  not when the core is renewed later: so it is looked at again, at every start.
* A plugin says for which interface it was written: ``hsframework_interface_version`` in the module or object that its
  entry point names, and ``interface_version`` in each protocol.  What says nothing was written for 1.
"""

from __future__ import annotations

from importlib import metadata

from hsframework import __version__
from hsframework.errors import PluginError
from hsframework.interface import INTERFACE_VERSION, OLDEST_INTERFACE_VERSION

PLUGIN_ATTRIBUTE = "hsframework_interface_version"
_CORE = "hsframework"


def check_distribution(distribution: metadata.Distribution | None, core: str = __version__) -> None:
    """Raises PluginError where a distribution requires another version of the core."""
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
    """Raises PluginError for a plugin or a protocol that was written for an interface that is not served here."""
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
