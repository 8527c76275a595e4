"""The units for systemd give what the processes need, and no more."""

from __future__ import annotations

import collections
from pathlib import Path

import pytest

from hsframework.configuration.settings import Configuration, KernelSettings
from hsframework.dispatcher.main import needed_capabilities
from hsframework.process import capabilities

UNITS = Path(__file__).parents[3] / "packaging" / "systemd"


def settings(*names: str) -> dict[str, list[str]]:
    """Return the settings of a unit and its drop-ins, with lists put together and emptied as systemd does it."""
    found: dict[str, list[str]] = collections.defaultdict(list)
    for name in names:
        for line in (UNITS / name).read_text().splitlines():
            key, equals, value = line.partition("=")
            if equals and not line.startswith("#"):
                found[key] = found[key] + value.split() if value else []
    return found


@pytest.mark.parametrize("namespaces", [(), ("blue",)], ids=["plain", "netns"])
def test_the_dispatchers_capabilities(namespaces: tuple[str, ...]) -> None:
    """The bounding set is what the dispatcher keeps; with the drop-in it may enter network namespaces too."""
    names = ("hsframework.service", *(("drop-ins/netns.conf",) if namespaces else ()))
    unit = settings(*names)
    needed = needed_capabilities(Configuration(kernel=KernelSettings(namespaces=namespaces)))
    assert {getattr(capabilities, name) for name in unit["CapabilityBoundingSet"]} == set(needed)
    assert unit["RestrictNamespaces"] == (["net"] if namespaces else ["yes"])


@pytest.mark.parametrize("name", ["hsframework.service", "hsframework-agent@.service"])
def test_memory_may_be_locked(name: str) -> None:
    """Both may lock what they use, and are not the first to be killed."""
    unit = settings(name)
    assert unit["LimitMEMLOCK"] == ["infinity"]
    assert int(unit["OOMScoreAdjust"][0]) < 0


def test_the_dispatchers_priority() -> None:
    """It may give its priority up and take it again, as hsframework.dispatcher.realtime does; and no higher one."""
    unit = settings("hsframework.service")
    assert (unit["CPUSchedulingPolicy"], unit["CPUSchedulingPriority"], unit["LimitRTPRIO"]) == (["rr"], ["1"], ["1"])
    assert unit["RestrictRealtime"] == []
    filters = unit["SystemCallFilter"]
    assert filters.index("sched_setscheduler") > filters.index("~@resources")
    assert settings("hsframework-agent@.service")["RestrictRealtime"] == ["yes"]
