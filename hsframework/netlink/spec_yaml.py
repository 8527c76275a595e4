"""YAML of netlink specs and of the files beside them, read without the silent losses that YAML allows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import yaml

from hsframework.errors import ConfigurationError

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(text: str, origin: str) -> Any:
    """Return the tree of a YAML text; ``origin``: for messages.

    Raises ConfigurationError, also for a mapping with one key twice, of which YAML would drop the first.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        _refuse_repeated_keys(node, origin)
        return loader.construct_document(node) if node is not None else None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or number that Python cannot represent
        raise ConfigurationError(f"{origin}: not YAML: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{origin}: nested too deep") from None
    finally:
        loader.dispose()


def _refuse_repeated_keys(root: yaml.Node | None, origin: str) -> None:
    """Walk the nodes, each once: an alias makes a graph of them.  Raises ConfigurationError."""
    left, seen = [root] if root is not None else [], set[int]()
    while left:
        node = left.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            left.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                left.append(value)
                if isinstance(key, yaml.ScalarNode):
                    if key.value in keys:
                        line = key.start_mark.line + 1
                        raise ConfigurationError(f"{origin}: line {line}: the key {key.value!r} is there twice")
                    keys.add(key.value)


def hint(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: a similar known one, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
