"""The built wheels, in an environment of their own, with the source tree out of reach."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.wheels.conftest import PLUGINS, ROOT, Environment, make_wheel

pytestmark = [pytest.mark.wheels, pytest.mark.timeout(600)]

RAISES = "raise RuntimeError('this plugin is broken on purpose')\n"
EXITS = "raise SystemExit(3)\n"
TOY = """
import hsframework
from hsframework.interface import Handshaker, Protocol, Result


class ToyHandshaker(Handshaker):
    async def handshake(self, request, endpoint):
        return Result()


class Toy(Protocol):
    name = "{name}"
    groups = ("{name}",)

    def prepare(self, settings):
        return ToyHandshaker()


@hsframework.hookimpl
def hsframework_protocols():
    return [Toy()]
"""


def plugins(environment: Environment) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the list of ``hsframework plugins --json``, by plugin and distribution."""
    finished = environment.run("hsframework", "plugins", "--json")
    assert finished.returncode == 0, finished.stderr
    return {(entry["name"], entry["distribution"]): entry for entry in json.loads(finished.stdout)}


@contextmanager
def installed(environment: Environment, **wheels: Path) -> Iterator[None]:
    """Install the wheels, by the name of their distribution with underscores, for as long as the block lasts."""
    environment.install(*wheels.values())
    try:
        yield
    finally:
        environment.uninstall(*wheels)


def test_what_is_in_them(wheels: dict[str, Path]) -> None:
    """Types are marked, the netlink specs travel along, and nothing of the tests does, such as a peer's program."""
    specs = {path.name for path in (ROOT / "hsframework" / "netlink" / "specs").glob("*.yaml")}
    with zipfile.ZipFile(wheels["hsframework"]) as archive:
        names = set(archive.namelist())
    assert "hsframework/py.typed" in names
    assert {f"hsframework/netlink/specs/{name}" for name in specs} <= names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"hsframework"}
    for plugin in PLUGINS:
        package = f"hsframework_{plugin.name}"
        with zipfile.ZipFile(wheels[package]) as archive:
            names = set(archive.namelist())
        assert f"{package}/py.typed" in names
        assert f"{package}/specs/{plugin.name}.yaml" in names
        assert {name.split("/")[0].split("-")[0] for name in names} == {package}
        assert not any(name.endswith("_peer.py") for name in names)


def test_the_source_tree_is_out_of_reach(environment: Environment) -> None:
    """The code under test here is the installed one."""
    assert str(environment.folder) in environment.python("import hsframework; print(hsframework.__file__)")


def test_every_module_of_the_core_imports(environment: Environment) -> None:
    """No module of the core needs what only a plugin, the tests or the development tools bring.

    But for the one that is pytest's own plugin, and comes with ``hsframework[testing]``, and the adapters that have an
    extra of their name.
    """
    environment.python(
        "import importlib, pkgutil, hsframework\n"
        "for module in pkgutil.walk_packages(hsframework.__path__, 'hsframework.'):\n"
        "    extras = *('adapters.' + name for name in ('aiosmtpd', 'anyio', 'httpx', 'uvicorn')), 'pytest_plugin'\n"
        "    if not module.name.endswith(('__main__', *extras)): importlib.import_module(module.name)\n"
        "import sys; assert 'aioquic' not in sys.modules and 'pytest' not in sys.modules"
    )


def test_plugins_come_and_go(environment: Environment, wheels: dict[str, Path]) -> None:
    """The core alone lists no plugin; with its wheel installed tls13 is there, and uninstalled it is gone."""
    assert plugins(environment) == {}
    assert "No plugins are installed" in environment.run("hsframework", "plugins").stdout
    with installed(environment, hsframework_tls13=wheels["hsframework_tls13"]):
        entry = plugins(environment)["tls13", "hsframework-tls13"]
        assert (entry["protocols"], entry["error"]) == (["tls13"], None)
        assert "tls13" in entry["groups"]
        assert "tls13" in environment.run("hsframework", "plugins").stdout
    assert plugins(environment) == {}


def test_the_plugins_stand_beside_each_other(environment: Environment, wheels: dict[str, Path]) -> None:
    """All that this repository has, from their wheels: each with its protocol, and every module of each imports."""
    packages = {f"hsframework_{plugin.name}": plugin.name for plugin in PLUGINS}
    with installed(environment, **{package: wheels[package] for package in packages}):
        listed = plugins(environment)
        for package, name in packages.items():
            entry = listed[name, package.replace("_", "-")]
            assert entry["error"] is None
            assert name in entry["protocols"]
            environment.python(
                f"import importlib, pkgutil, {package}\n"
                f"for module in pkgutil.walk_packages({package}.__path__, '{package}.'):\n"
                "    importlib.import_module(module.name)"
            )


def test_bad_plugins_harm_only_themselves(environment: Environment, wheels: dict[str, Path], tmp_path: Path) -> None:
    """One that raises, one that exits, one that takes a plugin's name and one that takes a protocol's name.

    Each is listed with what is wrong; those that are well are in use.
    """
    with installed(
        environment,
        hsframework_tls13=wheels["hsframework_tls13"],
        a_raises=make_wheel(tmp_path, "a-raises", "a-raises", "a_raises", RAISES),
        b_exits=make_wheel(tmp_path, "b-exits", "b-exits", "b_exits", EXITS),
        z_takes_plugin=make_wheel(tmp_path, "z-takes-plugin", "tls13", "z_plugin", TOY.format(name="other")),
        z_takes_protocol=make_wheel(tmp_path, "z-takes-protocol", "z-rival", "z_rival", TOY.format(name="tls13")),
        z_toy=make_wheel(tmp_path, "z-toy", "z-toy", "z_toy", TOY.format(name="toy")),
    ):
        listed = plugins(environment)
        shown = environment.run("hsframework", "plugins")
    errors = {key: entry["error"] for key, entry in listed.items()}
    assert errors["tls13", "hsframework-tls13"] is None
    assert errors["z-toy", "z-toy"] is None
    assert "RuntimeError: this plugin is broken on purpose" in errors["a-raises", "a-raises"]
    assert "SystemExit" in errors["b-exits", "b-exits"]
    assert "'tls13' is taken" in errors["tls13", "z-takes-plugin"]
    assert "'tls13' is taken by the plugin 'tls13'" in errors["z-rival", "z-takes-protocol"]
    assert shown.returncode == 0
    assert "this plugin is broken on purpose" in shown.stdout
    assert "Traceback" not in shown.stdout + shown.stderr


def test_the_conformance_suite_from_the_wheels(environment: Environment, wheels: dict[str, Path]) -> None:
    """With ``hsframework[testing]`` a plugin that is installed from its wheel is held against every rule, as the how-to
    page says; and its fixtures are there."""
    page = (ROOT / "docs/howto/test-a-plugin.md").read_text("utf-8")
    for name in ("conformance", "fixtures"):
        code = page.partition(f"<!-- pytest: {name} -->\n```python\n")[2].partition("\n```")[0]
        (environment.empty / f"test_{name}.py").write_text(code)
    with installed(environment, hsframework_tls13=wheels["hsframework_tls13"]):
        environment.install(f"hsframework[testing] @ {wheels['hsframework'].as_uri()}")
        finished = environment.run("python", "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider")
        environment.uninstall("pytest")
    assert finished.returncode == 0, finished.stdout
    assert "26 passed" in finished.stdout
