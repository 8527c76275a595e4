"""Netlink specs: a family's operations, attribute sets and multicast groups, read from YAML in the kernel's own format
(Documentation/userspace-api/netlink/specs.rst).

The whole file is checked when it is loaded, so that codecs, pyroute2 classes and documentation need not check it again.
An unknown key is an error.  The file NAME.sensitive.yaml beside NAME.yaml names the attributes that are secrets, which
the codec decodes to :class:`hsframework.interface.Secret`::

    session: [client-secret, server-secret]

A spec with attributes of type ``binary``, the only ones that can be secret, needs that file; ``{}`` if none is.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from hsframework.errors import ConfigurationError
from hsframework.interface import Attribute, AttributeSet, Operation, Specification
from hsframework.netlink.spec_reader import SpecificationReader
from hsframework.netlink.spec_sensitive import sensitive_file
from hsframework.netlink.spec_types import INTEGER_TYPES, MAX_NESTING, NLMSG_MIN_TYPE
from hsframework.netlink.spec_yaml import read_yaml

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
    "package_specification",
    "parse_specification",
]


@cache
def builtin_specification(name: str) -> Specification:
    """Return a spec that ships with the core, by the name of its file in ``specs``: ``handshake``, ``local`` …"""
    return package_specification("hsframework.netlink", name)


def package_specification(package: str, name: str) -> Specification:
    """Read and check ``specs/NAME.yaml`` of an installed package, and ``specs/NAME.sensitive.yaml`` beside it.

    Raises ConfigurationError, which names the file and the wrong entry.
    """
    return _load(resources.files(package) / "specs", f"{name}.yaml", f"{name}.yaml")


def load_specification(path: Path | str) -> Specification:
    """Read and check a spec in a YAML file, and NAME.sensitive.yaml beside it.

    Raises ConfigurationError, which names the file and the wrong entry.
    """
    return _load(Path(path).parent, Path(path).name, str(path))


def parse_specification(text: str, *, origin: str = "<text>", sensitive: str | None = None) -> Specification:
    """Parse and check the YAML text of a spec.

    ``sensitive``: the YAML text that names its secret attributes, as in the file beside a spec; None: there is no such
    file.  ``origin``: the spec's file, for messages.  Raises ConfigurationError.
    """
    try:
        return SpecificationReader(origin).family(read_yaml(text, origin), sensitive)
    except RecursionError:
        raise ConfigurationError(f"{origin}: nested too deep") from None


def _load(folder: Traversable, name: str, origin: str) -> Specification:
    text = _read(folder / name, origin)
    beside = folder / sensitive_file(name)
    sensitive = _read(beside, sensitive_file(origin)) if beside.is_file() else None
    return parse_specification(text, origin=origin, sensitive=sensitive)


def _read(file: Traversable, origin: str) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{origin}: cannot read the netlink spec: {error}") from None
