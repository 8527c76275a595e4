"""The warm-up's order: privileges go first, the last one when everything is loaded, and then memory is locked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hsframework.agent import warmup
from hsframework.agent.privileges import AgentUser
from hsframework.agent.warmup import KeeperOptions, warm_up
from hsframework.configuration.settings import MemorySettings
from hsframework.interface import Handshaker
from hsframework.probes import Yes
from tests.unit.agent.fakes import ToyPlugin, ToyProtocol, registry_with

USER = AgentUser("toy", 60_801, 60_801)
MEMORY = MemorySettings(lock=True)

STEPS = [
    ("trusted_users", ()),
    ("prepare_protection", (MEMORY,)),
    ("drop_privileges", (USER,)),
    ("join_own_session_keyring", ()),
    ("raise_fd_limit", ()),
    ("limit_memory", (2048,)),
    ("unfit_plugins", (("toy", "blocked"),)),
    ("_load_and_prepare", ()),
    ("supported_ciphers", ()),
    ("_practise", ()),
    ("prepare_confinement", ()),
    ("forbid_source_reading", ()),
    ("drop_last_capability", ()),
    ("lock_memory", (MEMORY,)),
    ("confine_keeper", ()),
]


def test_the_order_of_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plugin is imported with more than the right to read; none is served with that, and
    the keeper is confined last."""
    done: list[tuple[str, tuple[Any, ...]]] = []

    def step(name: str) -> Any:
        def play(*arguments: Any, **options: Any) -> Any:
            if name == "_load_and_prepare":
                arguments, answer = (), ("the registry", ("served",))
                done.append((name, arguments))
                return answer
            done.append((name, arguments))
            if name == "supported_ciphers":
                return Yes(frozenset({51}))
            if name == "lock_memory":
                assert options == {"populate": True}
            return {}

        return play

    for name, _ in STEPS:
        monkeypatch.setattr(warmup, name, step(name))
    monkeypatch.setattr("gc.freeze", lambda: None)
    options = KeeperOptions(
        agent_socket_path=Path("agent.sock"), plugin="toy", memory=MEMORY, user=USER, blocked=("blocked",)
    )
    result: object = warm_up(options)
    assert result == ("the registry", ("served",), "yes")
    assert done == STEPS


def test_plugins_logs_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loggers below a plugin's package are told before it is prepared, which it may want to log about."""
    shown: list[frozenset[str]] = []

    class Noting(ToyProtocol):
        def prepare(self, settings: Any) -> Handshaker:
            assert shown
            return super().prepare(settings)

    registry = registry_with(ToyPlugin(Noting()))
    monkeypatch.setattr(warmup, "show_packages", shown.append)
    options = KeeperOptions(agent_socket_path=Path("agent.sock"), plugin=registry.records[0].name, registry=registry)
    warmup._load_and_prepare(options, {})
    assert shown == [frozenset({"tests.unit.agent"})]
