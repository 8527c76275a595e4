"""Priority strings mean here what they mean to GnuTLS, as far as TLS 1.3 and what is offered here go."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache

import pytest
from hypothesis import given, settings, strategies as st

from hsframework.errors import ConfigurationError
from hsframework.tls.priorities import parse_priorities
from hsframework.tls.priority_words import CERTIFICATE_ONLY, CIPHERS, GROUPS, KEYWORDS, OPTIONS, SIGNATURES, WORDS, Kind

TLS_1_3 = ":-VERS-ALL:+VERS-TLS1.3"
HYBRIDS = frozenset(code for name, code in GROUPS.items() if "MLKEM" in name)
"""In every keyword here, and in none of GnuTLS's."""

Lists = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


@pytest.fixture(autouse=True, scope="module")
def gnutls() -> None:
    if shutil.which("gnutls-cli") is None:
        pytest.skip("the program gnutls-cli is not installed")


@cache
def _listed(text: str) -> str:
    command = ["gnutls-cli", "--list", "--priority", text]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stdout


@cache
def _known_words() -> frozenset[str]:
    """Return the words behind a sign that the installed GnuTLS knows, and that are known here too."""
    listed = subprocess.run(["gnutls-cli", "--list"], capture_output=True, text=True, check=True, timeout=20).stdout
    words = set(re.findall(r"[\w.-]+", listed.partition("Certificate types:")[2].upper()))
    bulk = {word for word in WORDS if word.endswith("-ALL") and "GOST" not in word}
    return frozenset((words | bulk | {f"CURVE-{name}" for name in ("X25519", "SECP384R1")}) & WORDS.keys())


@cache
def _known_options() -> tuple[str, ...]:
    """Return the options that can be kept here, and that the installed GnuTLS knows."""
    kept = (f"%{name}" for name, kept in OPTIONS.items() if kept)
    return tuple(option for option in kept if "Ciphers:" in _listed(f"NORMAL:{option}"))


def _theirs(text: str) -> Lists | None:
    """Return GnuTLS's ciphers, groups and signatures, of those that are offered here; None: it refuses the string."""
    listed = _listed(text + TLS_1_3)
    if "Protocols:" not in listed:
        return None
    suites = tuple(int(high + low, 16) for high, low in re.findall(r"0x(13), 0x(..)\tTLS1\.3", listed))
    return (
        tuple(code for code in suites if code in CIPHERS.values()),
        _codes("Groups", "GROUP-", listed, GROUPS),
        _codes("PK-signatures", "SIGN-", listed, SIGNATURES),
    )


def _codes(head: str, prefix: str, listed: str, table: Mapping[str, int]) -> tuple[int, ...]:
    found = re.search(rf"^{head}: (.*)$", listed, re.MULTILINE)
    assert found is not None, listed
    names = [name.removeprefix(prefix) for name in found[1].split(", ")]
    return tuple(table[name] for name in names if name in table)


def _ours(text: str) -> Lists | None:
    try:
        policy = parse_priorities(text + TLS_1_3)
    except ConfigurationError:
        return None
    ml_dsa = frozenset(code for name, code in SIGNATURES.items() if name.startswith("ML-DSA"))
    return (
        policy.ciphers,
        tuple(code for code in policy.groups if code not in HYBRIDS),
        tuple(code for code in policy.signatures if code not in ml_dsa),
    )


def _compare(text: str) -> None:
    """Compare the lists and their order; where one refuses, the other does, or has nothing that is offered."""
    ours, theirs = _ours(text), _theirs(text)
    if ours is None:
        assert theirs is None or _nothing_is_left(theirs) or _asks_for_more(text), text
    elif theirs is None:
        # What GnuTLS of this age does not have is all that is left.
        assert _nothing_is_left(ours), text
    else:
        assert ours == theirs, text


def _nothing_is_left(lists: Lists) -> bool:
    return not all(lists[:2]) or CERTIFICATE_ONLY.issuperset(lists[2])


def _asks_for_more(text: str) -> bool:
    """True if the string names what is not offered here."""
    words = text.upper().split(":")
    added = [WORDS[word[1:]].kind for word in words if word[0] == "+" and word[1:] in WORDS]
    return Kind.NOT_OFFERED in added or any(not OPTIONS.get(word[1:], True) for word in words if word[0] == "%")


@pytest.mark.parametrize(
    "text",
    [
        *KEYWORDS,
        "SECURE256:+SECURE128:-COMP-ALL",
        "NORMAL:-AES-256-GCM:+AES-256-GCM",
        "NORMAL:PERFORMANCE",
        "NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305",
        "SECURE192:-GROUP-ALL:+GROUP-SECP384R1:%SERVER_PRECEDENCE",
        "NORMAL:-GROUP-EC-ALL",
        "NORMAL:-GROUP-DH-ALL:!AES-128-CCM",
        "NORMAL:-SIGN-ALL:+SIGN-EdDSA-Ed25519:+SIGN-RSA-SHA256",
        "NONE:+AEAD:+AES-256-GCM:+GROUP-SECP384R1:+SIGN-ECDSA-SECP384R1-SHA384",
        "+AEAD:+AES-128-GCM",
        "normal:-aes-128-gcm:%NO_TICKETS",
        "NORMAL:-KX-ALL:+ECDHE-PSK",
    ],
)
def test_the_same_lists(text: str) -> None:
    """Strings as people write them, each in the order of preference that GnuTLS lists."""
    assert _ours(text) is not None
    assert _theirs(text) is not None
    _compare(text)


@pytest.mark.parametrize(
    "text",
    ["", "NORMAL:", "NORMAL::+AEAD", "AES-256-GCM", "NORMAL:+AES-265-GCM", "NORMAL:%FOO", "NORMAL:-NORMAL", "@SYSTEM",
     "NONE:+AEAD", "NORMAL:-CIPHER-ALL", "NORMAL:-MAC-ALL", "NORMAL:-SIGN-ALL", "NORMAL:+VERS-TLS1.4",
     "NORMAL:+GROUP-FOO", "NORMAL:+SIGN-FOO", "NORMAL:+CTYPE-FOO"],
)  # fmt: skip
def test_both_refuse(text: str) -> None:
    """A mistake by GnuTLS's judgement is one here."""
    assert (_ours(text), _theirs(text)) == (None, None)


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_any_string(data: st.DataObject) -> None:
    """Keywords, additions, removals and options in any order."""
    items = st.builds("{}{}".format, st.sampled_from("+-!"), st.sampled_from(sorted(_known_words())))
    options = st.sampled_from(_known_options())
    more = st.sampled_from([*KEYWORDS, *(f"+{keyword}" for keyword in KEYWORDS)])
    words = data.draw(st.lists(st.one_of(items, items, items, more, options), max_size=8))
    _compare(":".join([data.draw(st.sampled_from([*KEYWORDS, "NONE"])), *words]))
