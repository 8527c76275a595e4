"""Plugins: a good one is found through its entry point, a bad one is recorded with its error and harms nothing else."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hsframework
from hsframework.errors import ConfigurationError, HandshakeError, RequiredPluginError
from hsframework.interface import AuthMode, PeerIdentity, Request, Result, Role
from hsframework.registry.plugins import PluginRegistry, load_plugins

Install = Callable[..., None]

GOOD = """
    import hsframework
    from hsframework.interface import Handshaker, Protocol, Request, Endpoint, Result

    class Hello(Protocol):
        name = "{name}"
        groups = ("{name}",)

        def prepare(self, settings):
            raise NotImplementedError

    @hsframework.hookimpl
    def hsframework_protocols():
        yield Hello()
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """``install(plugin, source)`` puts a distribution with one module and one entry point on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def do(
        plugin: str, source: str, *, distribution: str | None = None, value: str | None = None, requires: str = ""
    ) -> None:
        distribution = distribution or f"dist_{plugin}"
        module = f"module_{distribution}"
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
        info = tmp_path / f"{distribution}-1.5.dist-info"
        info.mkdir()
        requirement = f"Requires-Dist: {requires}\n" if requires else ""
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n{requirement}")
        (info / "entry_points.txt").write_text(f"[hsframework]\n{plugin} = {value or module}\n")
        monkeypatch.delitem(sys.modules, module, raising=False)

    return do


def names(registry: PluginRegistry) -> dict[str, str | None]:
    """Return plugins and their errors."""
    return {record.name: record.error for record in registry.records}


def load(*plugins: str) -> PluginRegistry:
    """Load these alone, so that what is installed beside the test does not matter."""
    return load_plugins(only=plugins)


def test_a_good_plugin_is_found(install: Install) -> None:
    """Its record tells name, distribution, version and protocols; its protocol can be looked up."""
    install("hello", GOOD.format(name="hello"))
    registry = load("hello")
    (record,) = registry.records
    assert (record.name, record.distribution, record.version) == ("hello", "dist_hello", "1.5")
    assert (record.protocols, record.error, registry.errors) == (("hello",), None, [])
    protocol, owner = registry.protocols["hello"]
    assert (protocol.name, owner) == ("hello", record)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise ValueError('broken at import')", "ValueError: broken at import"),
        ("import sys; sys.exit('leaving')", "SystemExit: leaving"),
        ("import no_such_module_anywhere", "No module named 'no_such_module_anywhere'"),
        ("def (", "SyntaxError"),
        ("class Strange(BaseException): pass\nraise Strange('x')", "Strange: x"),
    ],
)
def test_import_that_fails_is_recorded(install: Install, source: str, said: str) -> None:
    """A plugin whose import raises anything is listed with the error, and the others are loaded."""
    install("bad", source)
    install("good", GOOD.format(name="good"))
    registry = load("bad", "good")
    error = names(registry)["bad"]
    assert error is not None
    assert said in error
    assert list(registry.protocols) == ["good"]


def test_interrupt_passes(install: Install) -> None:
    """Control-C while plugins are loaded ends the program, and is no plugin's error."""
    install("slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load("slow")


def test_entry_point_that_names_nothing(install: Install) -> None:
    """An attribute that is not in the module."""
    install("gone", GOOD.format(name="gone"), value="module_dist_gone:nothing")
    assert "AttributeError" in (names(load("gone"))["gone"] or "")


def test_protocol_name_taken(install: Install) -> None:
    """The second plugin is skipped whole, its other hooks with it; the first is unharmed."""
    install("alpha", GOOD.format(name="shared"))
    install("beta", GOOD.format(name="shared") + BAD_AUTHORIZE)
    registry = load("alpha", "beta")
    assert registry.protocols["shared"].record.name == "alpha"
    assert "taken by the plugin 'alpha'" in (names(registry)["beta"] or "")
    registry.authorize(REQUEST, PeerIdentity())


BAD_AUTHORIZE = """
    @hsframework.hookimpl
    def hsframework_authorize(request, peer):
        raise RuntimeError("a skipped plugin was asked")
"""


def test_plugin_name_taken(install: Install) -> None:
    """Of two distributions with one plugin name the first by name is used."""
    install("twin", GOOD.format(name="one"), distribution="a_dist")
    install("twin", GOOD.format(name="two"), distribution="b_dist")
    registry = load("twin")
    first, second = registry.records
    assert (first.distribution, first.error) == ("a_dist", None)
    assert second.distribution == "b_dist"
    assert "taken" in second.message
    assert list(registry.protocols) == ["one"]


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ("def hsframework_authorize(request, somebody): pass", "somebody"),
        ("def hsframework_athorize(request, peer): pass", "hsframework_athorize"),
        ("async def hsframework_authorize(request, peer): pass", "is a coroutine"),
        ("def hsframework_authorize(request, peer): yield", "is a generator"),
        ("async def hsframework_handshake_started(request): yield", "is a coroutine"),
        ("def hsframework_protocols(): raise LookupError('no protocol today')", "LookupError: no protocol today"),
        ("def hsframework_protocols(): return None", "TypeError"),
    ],
)
def test_hooks_that_do_not_fit(install: Install, hook: str, said: str) -> None:
    """A wrong signature, an unknown name, a function that would decide nothing: refused, and nothing is left behind."""
    install("bad", f"import hsframework\n@hsframework.hookimpl\n{hook}\n")
    install("good", GOOD.format(name="good"))
    registry = load("bad", "good")
    assert said in (names(registry)["bad"] or "")
    assert names(registry)["good"] is None
    registry.authorize(REQUEST, PeerIdentity())


def test_wrappers_are_refused(install: Install) -> None:
    """No plugin stands between another one and its hooks."""
    install(
        "bad",
        "import hsframework\n@hsframework.hookimpl(wrapper=True)\n"
        "def hsframework_authorize(request, peer):\n    return (yield)\n",
    )
    assert "hook wrapper" in (names(load("bad"))["bad"] or "")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("Hello.interface_version = 99", "Hello was written for interface version 99, and hsframework"),
        ("Hello.interface_version = 0", "install a newer version of the plugin"),
        ("Hello.interface_version = '1'", "a number is wanted"),
        ("hsframework_interface_version = 99", "the plugin was written for interface version 99"),
        ("Hello.name = 'Upper Case'", "'Upper Case'"),
        ("del Hello.name", "name is None"),
        ("Hello.groups = 'hello'", "a tuple of names"),
        ("Hello.groups = ()", "a tuple of names"),
        ("Hello.socket_protocols = frozenset()", "socket_protocols"),
        ("Hello.socket_protocols = {'tcp'}", "socket_protocols"),
        ("Hello.settings_type = dict", "settings_type"),
        ("Hello = lambda: 'a text'", "gave str"),
        ("hello = Hello; Hello = lambda: hello", "the class Hello"),
    ],
)
def test_protocols_of_the_wrong_shape(install: Install, change: str, said: str) -> None:
    """Each rule of the interface that can be checked at load is."""
    install("bad", textwrap.dedent(GOOD.format(name="hello")) + change + "\n")
    assert said in (names(load("bad"))["bad"] or "")


@pytest.mark.parametrize(
    ("requirement", "said"),
    [
        ("hsframework>=99", "works with hsframework >=99, and this is"),
        ("hsframework[testing]<0.0.1", "works with hsframework <0.0.1"),
        ("hsframework==99; python_version>='3'", "works with hsframework ==99"),
        ("hsframework>=0.0.1,<99", None),
        ("hsframework==99; python_version<'3'", None),
        ("hsframework==99; extra=='old'", None),
        ("hsframework-other==99", None),
        ("hsframework nonsense", None),
    ],
)
def test_distributions_for_other_versions(install: Install, requirement: str, said: str | None) -> None:
    """A plugin whose distribution does not work with this core is skipped before it is imported, with what to do."""
    source = GOOD if said is None else "raise AssertionError('imported')"
    install("picky", source.format(name="picky"), requires=requirement)
    error = names(load("picky"))["picky"]
    assert error is None if said is None else said in (error or "")
    assert ("module_dist_picky" in sys.modules) == (said is None)


@pytest.mark.parametrize("value", ["len", "Path", "__doc__"])
def test_entry_points_that_are_no_plugin(install: Install, value: str) -> None:
    """A class or a text has no hooks that could be called."""
    install("odd", '"""Doc."""\nfrom pathlib import Path\nlen = 3\n', value=f"module_dist_odd:{value}")
    assert "a module or an object" in (names(load("odd"))["odd"] or "")


def test_blocked_plugins_are_not_imported(install: Install) -> None:
    """They are listed as blocked."""
    install("hello", "raise AssertionError('imported')")
    registry = load_plugins(only=("hello",), blocked=("hello",))
    assert names(registry) == {"hello": "blocked by the configuration"}
    assert "module_dist_hello" not in sys.modules


def test_only_what_is_asked_for_is_imported(install: Install) -> None:
    """Others are not touched."""
    install("hello", GOOD.format(name="hello"))
    install("other", "raise AssertionError('imported')")
    assert names(load("hello")) == {"hello": None}


REQUEST = Request(id=1, group="g", role=Role.CLIENT, auth_mode=AuthMode.X509, deadline=0.0)


class Hooks:
    """Every guarded hook, with answers that a test chooses."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.heard: list[str] = []

    @hsframework.hookimpl
    def hsframework_authorize(self, peer: PeerIdentity) -> Any:
        self.heard.append("authorize")
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    @hsframework.hookimpl
    def hsframework_handshake_started(self, request: Request) -> None:
        self.heard.append("started")
        if isinstance(self.answer, BaseException):
            raise self.answer

    @hsframework.hookimpl
    def hsframework_handshake_finished(self, duration: float, outcome: Any) -> None:
        self.heard.append("finished")
        if isinstance(self.answer, BaseException):
            raise self.answer


@pytest.mark.parametrize("answer", [False, True, 0, "yes", RuntimeError("x"), SystemExit(1)])
def test_authorize_fails_closed(answer: object) -> None:
    """A hook that returns something, or fails, has not allowed anything."""
    registry = PluginRegistry()
    registry.register(Hooks(answer), "strict")
    with pytest.raises(HandshakeError, match="'strict'"):
        registry.authorize(REQUEST, PeerIdentity())


def test_authorize_asks_every_plugin() -> None:
    """One refusal is enough, and it is passed on as it is."""
    refusal = HandshakeError("not on a Friday", errno=1)
    allows, refuses = Hooks(), Hooks(refusal)
    registry = PluginRegistry()
    for name, plugin in (("refuses", refuses), ("allows", allows)):
        assert registry.register(plugin, name).error is None
    with pytest.raises(HandshakeError) as caught:
        registry.authorize(REQUEST, PeerIdentity())
    assert caught.value is refusal
    assert (allows.heard, refuses.heard) == (["authorize"], ["authorize"])


def test_listeners_cannot_harm() -> None:
    """Each listener hears, whatever the others raise."""
    hooks = [Hooks(RuntimeError("x")), Hooks(SystemExit(1)), Hooks()]
    registry = PluginRegistry()
    for number, plugin in enumerate(hooks):
        registry.register(plugin, f"p{number}")
    registry.handshake_started(REQUEST)
    registry.handshake_finished(REQUEST, Result(), 0.5)
    assert [plugin.heard for plugin in hooks] == [["started", "finished"]] * 3


def test_loading_plugins_imports_nothing_heavy() -> None:
    """Start-up time: neither pyroute2 nor a cryptographic library comes with the plugin manager itself."""
    code = (
        "import sys; from hsframework.registry.plugins import load_plugins; load_plugins(only=())\n"
        "print([name for name in ('pyroute2', 'OpenSSL', 'cryptography', 'aioquic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Settings

CONFIGURED = """
    import dataclasses
    import hsframework
    from hsframework.errors import ConfigurationError

    seen = []

    @dataclasses.dataclass(frozen=True)
    class Settings:
        colour: str = "blue"

    @hsframework.hookimpl
    def hsframework_settings():
        return Settings

    @hsframework.hookimpl
    def hsframework_configure(settings):
        if settings.colour == "red":
            raise ConfigurationError("plugins.paint.colour: not red")
        if settings.colour == "green":
            raise OSError("no paint")
        seen.append(settings.colour)

    @hsframework.hookimpl
    def hsframework_authorize(request, peer):
        seen.append("asked")
"""


@pytest.mark.parametrize(("table", "colour"), [({}, "blue"), ({"colour": "white"}, "white")])
def test_settings_are_given(install: Install, table: dict[str, Any], colour: str) -> None:
    """Once, as the dataclass that the plugin has named, with its defaults."""
    install("paint", CONFIGURED)
    registry = load("paint")
    registry.configure({"paint": table, "other": {"ignored": 1}})
    assert sys.modules["module_dist_paint"].seen == [colour]


@pytest.mark.parametrize(
    ("table", "said"),
    [({"color": "blue"}, "plugins.paint.color: unknown key; did you mean 'colour'"), ({"colour": "red"}, "not red")],
)
def test_settings_that_are_wrong(install: Install, table: dict[str, Any], said: str) -> None:
    """An error for who wrote the configuration, and not a plugin that is skipped: it may be there to refuse peers."""
    install("paint", CONFIGURED)
    with pytest.raises(ConfigurationError, match=said):
        load("paint").configure({"paint": table})


def test_a_table_that_nobody_wants(install: Install) -> None:
    """A plugin that is configured and has named no settings."""
    install("plain", "import hsframework\n@hsframework.hookimpl\ndef hsframework_configure(settings):\n    pass\n")
    registry = load("plain")
    registry.configure({})
    with pytest.raises(ConfigurationError, match="has no settings; remove the table"):
        registry.configure({"plain": {"colour": "blue"}})


def test_a_plugin_that_fails_to_take_its_settings(install: Install) -> None:
    """It is skipped whole: none of its hooks is called from then on, and a plugin that requires it is told."""
    install("paint", CONFIGURED + textwrap.dedent(GOOD.format(name="paint")).replace("\n", "\n    "))
    install("good", GOOD.format(name="good"))
    registry = load("good", "paint")
    registry.configure({"paint": {"colour": "green"}})
    assert names(registry) == {"good": None, "paint": "hsframework_configure failed: OSError: no paint"}
    assert list(registry.protocols) == ["good"]
    registry.authorize(REQUEST, PeerIdentity())
    assert sys.modules["module_dist_paint"].seen == []
    with pytest.raises(RequiredPluginError, match="no paint"):
        registry.require(["paint"])


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (CONFIGURED.replace("def hsframework_configure", "def configure_not"), "nobody takes the settings"),
        (CONFIGURED.replace("return Settings", "return dict"), "a dataclass is wanted"),
        (CONFIGURED.replace("return Settings", "return Settings()"), "a dataclass is wanted"),
    ],
)
def test_settings_of_the_wrong_shape(install: Install, source: str, said: str) -> None:
    """Found when the plugin is loaded."""
    install("paint", source.replace("@hsframework.hookimpl\n    def configure_not", "def configure_not"))
    assert said in (names(load("paint"))["paint"] or "")


def test_settings_that_a_protocol_has_already(install: Install) -> None:
    """One table has one owner."""
    protocol = textwrap.dedent(GOOD.format(name="paint")) + "Hello.settings_type = Settings\n"
    install("paint", CONFIGURED + protocol.replace("\n", "\n    "))
    assert "are the settings of the protocol" in (names(load("paint"))["paint"] or "")
