"""The units for systemd give what the processes need, and no more."""

from __future__ import annotations

import collections
from pathlib import Path

import pytest

from hsframework.configuration.settings import Configuration, KernelSettings
from hsframework.dispatcher.main import needed_capabilities
from hsframework.process import capabilities
from hsframework.supervisor.ending import KILL_TIME
from hsframework.supervisor.main import STOP_TIMEOUT_APART

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
def test_capabilities(namespaces: tuple[str, ...]) -> None:
    """The bounding set is what the dispatcher keeps, and what its supervisor forks cells with, and no more.

    With the drop-in the dispatcher may enter network namespaces too.
    """
    names = ("hsframework.service", *(("drop-ins/netns.conf",) if namespaces else ()))
    unit = settings(*names)
    needed = needed_capabilities(Configuration(kernel=KernelSettings(namespaces=namespaces)))
    assert {getattr(capabilities, name) for name in unit["CapabilityBoundingSet"]} == {
        *needed,
        capabilities.CAP_SETUID,
        capabilities.CAP_SETGID,
    }
    assert unit["RestrictNamespaces"] == (["net"] if namespaces else ["yes"])


@pytest.mark.parametrize("name", ["hsframework.service", "hsframework-agent@.service"])
def test_memory_may_be_locked(name: str) -> None:
    """Both may lock what they use, and are not the first to be killed."""
    unit = settings(name)
    assert unit["LimitMEMLOCK"] == ["infinity"]
    assert int(unit["OOMScoreAdjust"][0]) < 0
    assert unit["OOMPolicy"] == ["continue"], "one that is killed, a user's for example, takes no other with it"


def test_users_processes_may_give_way_and_go_back() -> None:
    """They may become nice, and ordinary again, as hsframework.process.giving_way makes them; and no more than that."""
    unit = settings("hsframework.service")
    assert unit["LimitNICE"] == ["+0"]
    filters = unit["SystemCallFilter"]
    assert filters.index("setpriority") > filters.index("~@resources")


def test_the_dispatchers_priority() -> None:
    """It may take its priority and give it up, as hsframework.dispatcher.realtime does; and no higher one.

    The unit gives it to nobody else: neither the supervisor nor what that forks runs ahead.
    """
    unit = settings("hsframework.service")
    assert (unit["CPUSchedulingPolicy"], unit["LimitRTPRIO"]) == ([], ["1"])
    assert unit["RestrictRealtime"] == []
    filters = unit["SystemCallFilter"]
    assert filters.index("sched_setscheduler") > filters.index("~@resources")
    assert settings("hsframework-agent@.service")["RestrictRealtime"] == ["yes"]


@pytest.mark.parametrize("name", ["hsframework.service", "hsframework-agent@.service"])
def test_what_is_never_given_up_and_what_is_not_tried_again(name: str) -> None:
    """No start limit ends the service for good; a wrong configuration (status 2) is not tried again in a loop."""
    unit = settings(name)
    assert unit["StartLimitIntervalSec"] == ["0"]
    # systemd would end workers beside their keeper, which takes it for their death; and wait for a cell that hangs.
    assert unit["KillMode"] == ["process" if name == "hsframework.service" else "mixed"]
    assert unit["Restart"] == ["always"]
    assert unit["RestartPreventExitStatus"] == ["2"]
    assert unit["Type"] == ["notify-reload" if name == "hsframework.service" else "notify"]


def test_a_stop_is_over_in_time() -> None:
    """Also one that kills: systemd would call it a failure."""
    unit = settings("hsframework.service")
    assert int(unit["TimeoutStopSec"][0]) > 2 * (STOP_TIMEOUT_APART + KILL_TIME)


def test_a_reload_fails_if_a_file_is_wrong() -> None:
    """The command's status is the reload's, and the service tells when it ends (for systemd before 253: not at all)."""
    unit = settings("hsframework.service")
    assert unit["ExecReload"] == "/usr/bin/hsframework reload --runtime-dir /run/hsframework".split()


def test_the_order_at_boot() -> None:
    """Before what mounts, without the default dependencies, which may need a mount; and never beside tlshd."""
    unit = settings("hsframework.service")
    assert {"remote-fs-pre.target", "nvmf-autoconnect.service"} <= set(unit["Before"])
    assert unit["DefaultDependencies"] == ["no"]
    assert "tlshd.service" in unit["Conflicts"]
    agent = settings("hsframework-agent@.service")
    assert agent["PartOf"] == ["hsframework.service"]
    assert "hsframework.service" not in agent["After"], "the dispatcher is ready when an agent has joined"


def test_the_agent_tries_the_kernels_tls() -> None:
    """Its probe takes AF_INET, in a network of its own; it needs no system call for capabilities."""
    unit = settings("hsframework-agent@.service")
    assert {"AF_INET", "AF_INET6"} <= set(unit["RestrictAddressFamilies"])
    assert unit["PrivateNetwork"] == ["yes"]
    assert "capset" not in unit["SystemCallFilter"]


def test_the_configuration_may_be_readable_by_root_alone() -> None:
    """An agent's user gets its content as a credential; without a file the defaults."""
    unit = settings("hsframework-agent@.service")
    assert unit["LoadCredential"] == ["hsframework.toml:/etc/hsframework/hsframework.toml"]
    assert unit["SetCredential"][0].startswith("hsframework.toml:")
