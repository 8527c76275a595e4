"""Groups that the agent of a plugin may join."""

from __future__ import annotations

import pytest

from hsframework.configuration.settings import AgentSettings, Configuration, KernelSettings, RawSettings
from hsframework.dispatcher.grants import refused_groups

INSTALLED = ("tls13", "quic", "psp", "noise", "noise-nk")
RAW = {"tlshd": 1, "psp": 3, "smb": 4}


@pytest.mark.parametrize(
    ("plugin", "group", "raw", "problem"),
    [
        ("tls13", "tlshd", False, None),
        ("noise", "tlshd", False, "add 'noise' to kernel.plugins"),
        ("noise", "tls13", False, "it bears the name of another plugin"),
        ("noise", "noise", False, None),
        ("noise", "noise-ik", False, None),
        ("noise", "smb", False, "it bears no plugin's name; set agents.noise.groups"),
        ("noise", "noises", False, "it bears no plugin's name"),
        ("psp", "noise-ik", False, "it bears the name of another plugin"),
        ("noise", "noise-nk", False, "it bears the name of another plugin"),
        ("noise-nk", "noise-nk", False, None),
        ("noise-nk", "noise", False, "it bears the name of another plugin"),
        ("noise", "smb", True, "add 'noise' to kernel.plugins"),
        ("noise", "psp", True, "add 'noise' to kernel.plugins"),
        ("quic", "smb", True, None),
        ("psp", "psp", True, None),
    ],
)
def test_what_the_rule_gives(plugin: str, group: str, raw: bool, problem: str | None) -> None:
    """The kernel's groups to the plugins that serve it, those of the raw form too; any other to the one of its name."""
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


def test_a_group_that_the_configuration_gives_to_another_is_not_to_be_had() -> None:
    """The configuration claims first, whatever the group is called; each that is named there has it."""
    configuration = Configuration(agents={"noise": AgentSettings(groups=("noise", "psp-2", "shared"))})
    assert refused_groups("psp", ["psp", "psp-2"], configuration, INSTALLED) == {
        "psp-2": "the configuration gives it to 'noise'; set agents.psp.groups"
    }
    both = Configuration(agents={name: AgentSettings(groups=("shared",)) for name in ("noise", "psp")})
    assert refused_groups("noise", ["shared"], both, INSTALLED) == {}
    assert refused_groups("psp", ["shared"], both, INSTALLED) == {}
