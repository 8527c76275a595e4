"""Reader of NAME.sensitive.yaml, which names the secret attributes of the netlink spec NAME.yaml beside it.

A mapping of attribute sets to lists of names::

    identity: [private-key]
    psk: [key]

It is a file of its own because the kernel's schema of specs allows no further key.  What is not secret is shown in logs
and errors.  So a name that the spec does not have is an error, and so is a missing file where the spec has binary
attributes, the only ones that can be secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import PurePath

from hsframework.errors import ConfigurationError
from hsframework.interface import AttributeSet
from hsframework.netlink.spec_yaml import hint, read_yaml


def sensitive_file(specification: str) -> str:
    """Return the name of the file that goes with a spec's: ``NAME.yaml`` → ``NAME.sensitive.yaml``.

    A spec that is no file, as ``<text>``, has an argument of ``parse_specification`` for it.
    """
    if specification.startswith("<"):
        return "the argument 'sensitive'"
    path = PurePath(specification)
    return str(path.with_name(f"{path.stem}.sensitive{path.suffix}"))


def mark_sensitive(sets: Mapping[str, AttributeSet], text: str | None, origin: str) -> dict[str, AttributeSet]:
    """Return the sets with the secret attributes marked.

    ``text``: of the file beside the spec, None if there is none; ``origin``: the spec's name, for messages.  Raises
    ConfigurationError.
    """
    beside = sensitive_file(origin)
    if text is None:
        _refuse_undecided(sets, origin, beside)
        return dict(sets)
    names = set(_names(read_yaml(text, beside), sets, beside))
    return {used.name: _marked(used, {name for owner, name in names if owner == used.name}) for used in sets.values()}


def _marked(used: AttributeSet, names: set[str]) -> AttributeSet:
    attributes = {
        name: replace(attribute, sensitive=True) if name in names else attribute
        for name, attribute in used.attributes.items()
    }
    return AttributeSet(used.name, attributes)


def _refuse_undecided(sets: Mapping[str, AttributeSet], origin: str, beside: str) -> None:
    for used in sets.values():
        for attribute in used.attributes.values():
            if attribute.type == "binary":
                raise ConfigurationError(
                    f"{origin}: attribute-sets.{used.name}.{attribute.name} is binary, perhaps a secret: put the names "
                    f"of those that are into {beside}, as `{used.name}: [{attribute.name}]`; `{{}}` if none is"
                )


def _names(tree: object, sets: Mapping[str, AttributeSet], beside: str) -> Iterator[tuple[str, str]]:
    """Yield set and name of each secret attribute.  Raises ConfigurationError."""
    if not isinstance(tree, dict):
        raise ConfigurationError(f"{beside}: a mapping of attribute sets to lists of names is wanted, or {{}}")
    for owner, names in tree.items():
        if owner not in sets:
            raise ConfigurationError(f"{beside}: there is no attribute set {owner!r}{hint(str(owner), sets)}")
        if not isinstance(names, list):
            raise ConfigurationError(f"{beside}: {owner}: a list of names is wanted here")
        attributes = sets[owner].attributes
        for name in names:
            if not isinstance(name, str) or name not in attributes:
                known = hint(str(name), attributes)
                raise ConfigurationError(f"{beside}: {owner}: there is no attribute {name!r}{known}")
            if attributes[name].type != "binary":
                raise ConfigurationError(f"{beside}: {owner}.{name}: only an attribute of type binary can be secret")
            yield owner, name
