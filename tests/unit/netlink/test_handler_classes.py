"""The handler classes of a kernel, as it names its groups."""

from __future__ import annotations

import pytest

from hsframework.netlink.control import Family
from hsframework.netlink.handler_classes import handler_classes


@pytest.mark.parametrize(
    ("groups", "classes"),
    [
        ({"none": 5, "tlshd": 6}, {"tlshd": 1}),
        ({"none": 32, "tlshd": 33, "quic": 34, "psp": 35}, {"tlshd": 1, "quic": 2, "psp": 3}),
        ({"quic": 34, "tlshd": 33, "none": 32}, {"tlshd": 1, "quic": 2}),
        ({"none": 5}, {}),
        ({}, {}),
    ],
)
def test_handler_classes(groups: dict[str, int], classes: dict[str, int]) -> None:
    """A group's class is its distance from the first group, which is nobody's; their order does not matter."""
    assert handler_classes(Family("handshake", 30, groups)) == classes
