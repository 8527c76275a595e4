"""``--attribute``: typed by the protocol's own specification, and clear about what it does not know."""

from __future__ import annotations

import argparse

import pytest

from hsframework.commands import _attributes
from hsframework.errors import ConfigurationError


def parsed(*words: str, protocol: str = "psp") -> dict[str, object]:
    parser = argparse.ArgumentParser()
    parser.set_defaults(protocol=protocol)
    _attributes.add_argument(parser)
    given = [word for text in words for word in ("--attribute", text)]
    return _attributes.attributes(parser.parse_args(given))


def test_given() -> None:
    """A string as it is, with what signs it has; none at all for a protocol that has none."""
    assert parsed("device=kernel") == {"device": "kernel"}
    assert parsed("device=a=b") == {"device": "a=b"}
    assert parsed(protocol="tls13") == {}


@pytest.mark.parametrize(
    ("words", "protocol", "text"),
    [
        (("device",), "psp", "NAME=VALUE"),
        (("device=kernel", "device=software"), "psp", "no name comes twice"),
        (("color=red",), "psp", "it knows: device"),
        (("device=kernel",), "no-such-protocol", "it knows: none"),
    ],
)
def test_refused(words: tuple[str, ...], protocol: str, text: str) -> None:
    """With what to change."""
    with pytest.raises(ConfigurationError, match=text):
        parsed(*words, protocol=protocol)
