"""The package hsframework.interface: its files depend on each other one way, and it hands on every name of theirs."""

from __future__ import annotations

import ast
import pickle

import pytest

from hsframework import interface
from hsframework.interface import AuthMode, PeerIdentity, PresharedKey, Result, Role, Secret, Trust
from tests.unit.compatibility.promise import ROOT

FOLDER = ROOT / "hsframework" / "interface"
USES = {
    "credentials": set(),
    "result": set(),
    "demands": set(),
    "endpoint": set(),
    "gate": set(),
    "specification": set(),
    "request": {"credentials", "result"},
    "streams": {"request", "result"},
    "protocol": {"demands", "endpoint", "gate", "request", "result", "specification"},
}
"""Each file and those that it imports; none imports one further down."""


def test_files_depend_one_way() -> None:
    """No file imports another than those listed, and the list has no circle."""
    found = {path.stem: _imported(ast.parse(path.read_text("utf-8"))) for path in FOLDER.glob("*.py")}
    found.pop("__init__")
    assert found == USES
    order = list(USES)
    assert all(order.index(used) < order.index(name) for name, uses in USES.items() for used in uses)


def test_every_name_is_handed_on() -> None:
    """``__all__`` has every public name that a file defines, and nothing else but the versions."""
    versions = {"INTERFACE_VERSION", "OLDEST_INTERFACE_VERSION"}
    defined = {
        item.name
        for name in USES
        for item in ast.parse((FOLDER / f"{name}.py").read_text("utf-8")).body
        if isinstance(item, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not item.name.startswith("_")
    }
    assert set(interface.__all__) == defined | versions
    assert len(interface.__all__) == len(set(interface.__all__))


@pytest.mark.parametrize(
    "value", [Role.CLIENT, AuthMode.PSK, Trust((b"anchor",)), PeerIdentity(psk_identity=b"name"), Result(alpn="sunrpc")]
)
def test_values_are_pickled(value: object) -> None:
    """A value without a secret survives pickling, and its repr names its class alone."""
    assert pickle.loads(pickle.dumps(value)) == value
    assert "hsframework" not in repr(value)


def test_a_secret_is_not_pickled_or_shown() -> None:
    """Neither by itself nor within a value."""
    key = PresharedKey(b"name", Secret(b"hunter2"))
    assert "hunter2" not in repr(key)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(key)


def _imported(module: ast.Module) -> set[str]:
    """Return the files of the package that a file imports."""
    names = [node.module or "" for node in ast.walk(module) if isinstance(node, ast.ImportFrom)]
    return {name.rpartition(".")[2] for name in names if name.startswith("hsframework.interface.")}
