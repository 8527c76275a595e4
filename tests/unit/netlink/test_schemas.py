"""Every netlink spec in the repository is one for the kernel's own tools too.

The schemas are the kernel's, by whose letter its tools refuse a spec (tests/data/netlink-schemas).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from hsframework.errors import ConfigurationError
from hsframework.netlink import spec_reader
from hsframework.netlink.spec import load_specification
from hsframework.netlink.spec_reader import SpecificationReader
from hsframework.scaffold import Names, create
from tests.support.specs import LICENCE, SCHEMAS, SENSITIVE, SPECIFICATIONS, name_of, tree_of

Tree = dict[str, Any]


def complaints(tree: Tree) -> list[str]:
    """Return what the schema of the spec's own protocol refuses in it."""
    schema = tree_of(SCHEMAS / f"{tree.get('protocol', 'genetlink')}.yaml")
    found = Draft7Validator(schema).iter_errors(tree)
    return [f"{'.'.join(map(str, error.path))}: {error.message}" for error in found]


def test_all_of_them_are_found() -> None:
    """The core's five, one of each plugin, the example's and the scaffold's; and nothing names secrets of no spec."""
    assert {"local.yaml", "handshake.yaml", "tls13.yaml", "noise.yaml", "knock.yaml"} < {p.name for p in SPECIFICATIONS}
    assert len(SPECIFICATIONS) >= 10
    for path in SENSITIVE:
        assert path.with_name(path.name.replace(".sensitive.", ".")) in SPECIFICATIONS


@pytest.mark.parametrize("path", SPECIFICATIONS, ids=name_of)
def test_a_spec_is_valid(path: Path) -> None:
    """By the kernel's schema and by our loader; its licence is the one that the kernel's generator asks for."""
    assert complaints(tree_of(path)) == []
    assert path.read_text("utf-8").splitlines()[0] == LICENCE
    assert load_specification(path).doc


@pytest.mark.parametrize("name", ["greet", "a-longer-name"])
def test_the_spec_of_a_new_plugin_is_valid(name: str, tmp_path: Path) -> None:
    """`hsframework plugin new` begins with a good one, under any name."""
    create(Names(name), tmp_path)
    (path,) = tmp_path.rglob("specs/*.yaml")
    test_a_spec_is_valid(path)
    assert tree_of(path)["name"] == name


def _inline_secret(tree: Tree) -> None:
    tree["attribute-sets"][0]["attributes"][1]["x-sensitive"] = True


def _torn_text(tree: Tree) -> None:
    tree["attribute-sets"][0]["attributes"][0]["or more"] = None


def _no_text(tree: Tree) -> None:
    del tree["operations"]["list"][0]["doc"]


def _group_number(tree: Tree) -> None:
    tree["mcast-groups"] = {"list": [{"name": "g", "value": 1}]}


@pytest.mark.parametrize("damage", [_inline_secret, _torn_text, _no_text, _group_number])
def test_the_schema_would_notice(damage: Callable[[Tree], None]) -> None:
    """The faults that specs of ours had are refused by the schema that they are checked with."""
    tree = tree_of(next(path for path in SPECIFICATIONS if path.name == "local.yaml"))
    assert complaints(tree) == []
    damage(tree)
    assert len(complaints(tree)) == 1


# The loader's keys and the schemas'

PLACES: dict[str, tuple[str, ...]] = {
    "definition": ("definitions", "items"),
    "set": ("attribute-sets", "items"),
    "attribute": ("attribute-sets", "items", "attributes", "items"),
    "checks": ("attribute-sets", "items", "attributes", "items", "checks"),
    "operations": ("operations",),
    "operation": ("operations", "list", "items"),
    "exchange": ("operations", "list", "items", "do"),
    "message": ("operations", "list", "items", "do", "request"),
    "groups": ("mcast-groups",),
    "group": ("mcast-groups", "list", "items"),
}
"""The loader's places in a schema."""

REFUSED = {
    "netlink-raw": {"sub-messages"},
    "definition": {"members"},
    "set": {"subset-of"},
    "attribute": {"byte-order", "selector", "struct", "sub-message", "sub-type", "type-value"},
    "operations": {"fixed-header"},
    "operation": {"fixed-header"},
    "message": {"value"},
}
"""Keys of the schemas that the loader refuses, since messages would be other ones with them."""


def _keys(schema: Tree, path: tuple[str, ...]) -> set[str]:
    for step in path:
        schema = schema[step] if step == "items" else schema["properties"][step]
    return set(schema["properties"])


def test_the_loader_knows_the_keys_of_the_schemas() -> None:
    """In each place the keys of both schemas, and no other, are passed over, read, or refused for a reason."""
    schemas = {name: tree_of(SCHEMAS / f"{name}.yaml") for name in ("genetlink", "netlink-raw")}
    assert set(spec_reader._KEYS) == set(PLACES) | set(schemas)
    for place, known in spec_reader._KEYS.items():
        if place in schemas:
            theirs = set(schemas[place]["properties"])
        else:
            theirs = set().union(*(_keys(schema, PLACES[place]) for schema in schemas.values()))
        assert known <= theirs, place
        assert theirs - known == REFUSED.get(place, set()), place


def _places(tree: Any) -> Iterator[Tree]:
    """Yield every mapping in a spec's tree."""
    if isinstance(tree, dict):
        yield tree
    for inner in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _places(inner)


def _fill(place: Tree, content: Tree) -> None:
    place.clear()
    place.update(content)


@pytest.mark.parametrize("path", SPECIFICATIONS, ids=name_of)
def test_no_misspelt_key_is_passed_over(path: Path) -> None:
    """Each key of each spec, with its last letter twice, is refused by its name; a suggestion goes with it."""
    tree = tree_of(path)
    beside = path.with_name(f"{path.stem}.sensitive.yaml")
    sensitive = beside.read_text("utf-8") if beside.is_file() else None
    tried = set()
    for place in _places(tree):
        good = dict(place)
        for key in good:
            if (key, tuple(good)) in tried:
                continue
            tried.add((key, tuple(good)))
            wrong = f"{key}{key[-1]}"
            _fill(place, {wrong if name == key else name: value for name, value in good.items()})
            with pytest.raises(ConfigurationError, match=f"'{wrong}' is unknown here.* did you mean '{key}'"):
                SpecificationReader("mine.yaml").family(tree, sensitive)
            _fill(place, good)
    assert len(tried) > 10


# The kernel's own specs of families that we have a spec of


def _flat(tree: Tree) -> Iterator[tuple[str, Any]]:
    """Yield everything in a spec but its texts, as place and value: numbers are counted as the kernel does."""
    for entry in tree.get("definitions", []):
        yield f"definition {entry['name']}", {"value-start": 0} | _without(entry, "name", "doc")
    for entry in tree["attribute-sets"]:
        number = 0
        for attribute in entry["attributes"]:
            number = attribute.get("value", number + 1)
            place = f"attribute {entry['name']}.{attribute['name']}"
            yield place, _without(attribute, "name", "doc") | {"value": number}
    number = 0
    for operation in tree["operations"]["list"]:
        number = operation.get("value", number + 1)
        yield f"operation {operation['name']}", _without(operation, "name", "doc") | {"value": number}
    for group in tree["mcast-groups"]["list"]:
        yield f"group {group['name']}", _without(group, "name")


def _without(tree: Tree, *keys: str) -> Tree:
    return {key: copy.deepcopy(value) for key, value in tree.items() if key not in keys}


def _ours_and_theirs(family: str) -> tuple[Tree, Tree]:
    (ours,) = (path for path in SPECIFICATIONS if name_of(path) == f"hsframework/netlink/specs/{family}.yaml")
    return dict(_flat(tree_of(ours))), dict(_flat(tree_of(SCHEMAS / "specs" / f"{family}.yaml")))


def test_handshake_is_the_kernels_but_for_ready() -> None:
    """Numbers, types, checks, flags, directions and groups; the one difference is documented in the spec's head."""
    ours, theirs = _ours_and_theirs("handshake")
    different = {
        place: (theirs.get(place), ours.get(place))
        for place in ours.keys() | theirs
        if theirs.get(place) != ours.get(place)
    }
    assert different == {
        "operation ready": (
            {"notify": "accept", "value": 1},
            {"attribute-set": "accept", "event": {"attributes": ["handler-class"]}, "value": 1},
        )
    }


def test_psp_is_a_part_of_the_kernels() -> None:
    """Our part of it has the kernel's numbers and types; counters of either size are binary here."""
    ours, theirs = _ours_and_theirs("psp")
    assert len(ours) > 30
    for place, entry in ours.items():
        assert place in theirs
        kind, number = theirs[place].get("type"), theirs[place].get("value")
        assert (entry.get("type"), entry.get("value")) == ("binary" if kind == "uint" else kind, number), place
