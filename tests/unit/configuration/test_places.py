"""Places of keys in a TOML file: strings, lists, arrays of tables and dotted keys; messages that get them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from hsframework.configuration.places import located, places_in

TEXT = '''# a comment = 1
required-plugins = ["a",
  "b"] # and [another]
[limits]
per-source = 1 # = [x]
"a b" = 'x # y'
multi = """
[not.a.table]
a = 1
"""
raw = \'\'\'
[nor.this]
\'\'\'
[kernel.raw]
protocols.tlshd = 1
[[rule]]
networks = ["10.0.0.0/8", # c ]
   "11.0.0.0/8",
]
[[rule]]
name = "x]"
[rule.sub]
y = {a = 1, b = [1, 2]}
z=[[1,2],
[3]]
[[rule]]\r
[ profiles . "web.1" ]
trust = "a\\"]b"
last = "no end of line"'''
LINES = {
    "required-plugins": 2,
    "required-plugins[0]": 2,
    "required-plugins[1]": 3,
    "limits": 4,
    "limits.per-source": 5,
    "limits.a b": 6,
    "limits.multi": 7,
    "limits.raw": 11,
    "kernel": 14,
    "kernel.raw": 14,
    "kernel.raw.protocols": 15,
    "kernel.raw.protocols.tlshd": 15,
    "rule[0]": 16,
    "rule[0].networks": 17,
    "rule[0].networks[0]": 17,
    "rule[0].networks[1]": 18,
    "rule[1]": 20,
    "rule[1].name": 21,
    "rule[1].sub": 22,
    "rule[1].sub.y": 23,
    "rule[1].sub.z": 24,
    "rule[1].sub.z[0]": 24,
    "rule[1].sub.z[1]": 25,
    "rule[2]": 26,
    "profiles": 27,
    "profiles.web.1": 27,
    "profiles.web.1.trust": 28,
    "profiles.web.1.last": 29,
}


def test_places() -> None:
    """Each key, table and item of a list has its line, and nothing else is taken for one."""
    assert tomllib.loads(TEXT)
    assert places_in(TEXT, Path("f")) == {key: f"f:{line}" for key, line in LINES.items()}


@pytest.mark.parametrize(
    ("message", "place"),
    [
        ("limits.per-source: a number is wanted", "f:5"),
        ("limits: per-source must be at least 1", "f:5"),
        ("limits.per-sauce: unknown key", "f:4"),
        ("rule[0]: networks: 10.0.0.0/33 is none", "f:17"),
        ("rule[1].profile: 'a' is not configured", "f:20"),
        ("kernel.raw: protocols.tlshd: 0 is not from 1", "f:15"),
        ("profiles.web.1.trust: no", "f:28"),
        ("required-plugins: 'a' is in blocked-plugins too", "f:2"),
        ("nothing of this: is a key", None),
        ("'a' is wrong", None),
        ("", None),
    ],
)
def test_a_message_gets_the_place_of_its_key(message: str, place: str | None) -> None:
    """That of the key itself, or else of the table in which it would be; a message about no key stays as it is."""
    assert located(places_in(TEXT, Path("f")), message) == (message if place is None else f"{place}: {message}")


def test_a_more_exact_key() -> None:
    """It decides on the place, and the message stays as it is; an unknown one has its table's."""
    places = places_in(TEXT, Path("f"))
    assert located(places, "rule[0]: bad", "rule[0].networks[1]") == "f:18: rule[0]: bad"
    assert located(places, "rule[0]: bad", "rule[0].nothing") == "f:16: rule[0]: bad"
    assert located(places, "x: bad", "elsewhere.x") == "x: bad"
