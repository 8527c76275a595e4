"""Groups that the agent of a plugin may join."""

from __future__ import annotations

import pytest

from hsframework.configuration.settings import AgentSettings, Configuration, KernelSettings, RawSettings
from hsframework.supervisor.grants import refused_groups

INSTALLED = ("tls13", "quic", "psp", "noise")
RAW = {"tlshd": 1, "psp": 3, "smb": 4}


@pytest.mark.parametrize(
    ("plugin", "group", "raw", "problem"),
    [
        ("tls13", "tlshd", False, None),
        ("noise", "tlshd", False, "add 'noise' to kernel.plugins"),
        ("noise", "tls13", False, "it bears the name of another plugin"),
        ("noise", "noise", False, None),
        ("noise", "noise-ik", False, None),
        ("noise", "smb", False, None),
        ("noise", "smb", True, "add 'noise' to kernel.plugins"),
        ("noise", "psp", True, "add 'noise' to kernel.plugins"),
        ("quic", "smb", True, None),
        ("psp", "psp", True, None),
    ],
)
def test_what_the_rule_gives(plugin: str, group: str, raw: bool, problem: str | None) -> None:
    """The kernel's groups to the plugins that serve it, those of the raw form too; no other plugin's name to any."""
    configuration = Configuration(kernel=KernelSettings(raw=RawSettings(enabled=raw, protocols=RAW)))
    refused = refused_groups(plugin, [group], configuration, INSTALLED)
    assert refused.keys() == ({group} if problem else set())
    assert problem is None or problem in refused[group]


def test_what_is_written_down_decides() -> None:
    """``agents.NAME.groups`` gives what the rule does not, and takes what it does."""
    configuration = Configuration(agents={"noise": AgentSettings(groups=("tlshd",))})
    assert refused_groups("noise", ["tlshd", "noise"], configuration, INSTALLED) == {
        "noise": "add it to agents.noise.groups"
    }
