"""Netlink specs: a family's operations, attribute sets and multicast groups, read from YAML in the kernel's own format
(Documentation/userspace-api/netlink/specs.rst).

The whole file is checked when it is loaded, so that codecs, pyroute2 classes and documentation need not check it again.
One key is ours: with ``x-sensitive: true`` on a binary attribute the codec decodes its value to a
:class:`hsframework.interface.Secret`.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path

import yaml

from hsframework.errors import ConfigurationError
from hsframework.netlink.spec_reader import SpecificationReader
from hsframework.netlink.spec_types import (
    INTEGER_TYPES,
    MAX_NESTING,
    NLMSG_MIN_TYPE,
    Attribute,
    AttributeSet,
    Operation,
    Specification,
)

__all__ = [
    "INTEGER_TYPES",
    "MAX_NESTING",
    "NLMSG_MIN_TYPE",
    "Attribute",
    "AttributeSet",
    "Operation",
    "Specification",
    "builtin_specification",
    "load_specification",
    "parse_specification",
]


@cache
def builtin_specification(name: str) -> Specification:
    """Return a spec that ships with the core: ``handshake``, ``handshake-raw``, ``local``, ``nlctrl`` or ``psp``."""
    text = resources.files("hsframework.netlink").joinpath("specs", f"{name}.yaml").read_text("utf-8")
    return parse_specification(text, origin=f"{name}.yaml")


def load_specification(path: Path | str) -> Specification:
    """Read and check a spec in a YAML file.  Raises ConfigurationError, which names the file and the wrong entry."""
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot read the netlink spec: {error}") from None
    return parse_specification(text, origin=str(path))


def parse_specification(text: str, *, origin: str = "<text>") -> Specification:
    """Parse and check the YAML text of a spec; ``origin``: for messages.  Raises ConfigurationError."""
    try:
        tree = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or number that Python cannot represent
        raise ConfigurationError(f"{origin}: not YAML: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{origin}: nested too deep") from None
    try:
        return SpecificationReader(origin).family(tree)
    except RecursionError:
        raise ConfigurationError(f"{origin}: nested too deep") from None
