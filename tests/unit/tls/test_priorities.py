"""Priority strings: the policy that each stands for, what is refused in which words, and any string at all."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from hsframework.errors import ConfigurationError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import AuthMode, Request, Role
from hsframework.tls.priorities import MAX_LENGTH, TlsPolicy, parse_priorities, policy_of
from hsframework.tls.priority_words import CERTIFICATE_ONLY, CIPHERS, GROUPS, KEYWORDS, OPTIONS, SIGNATURES, WORDS

AES_128, AES_256, CHACHA20, CCM = 0x1301, 0x1302, 0x1303, 0x1304
HYBRIDS = (0x11EC, 0x11EB, 0x11ED)
P256, P384, P521, X25519, X448 = 0x17, 0x18, 0x19, 0x1D, 0x1E
FFDHE = (0x100, 0x101, 0x102)
EXPLICIT = "NONE:+VERS-TLS1.3:+AEAD:+AES-256-GCM:+GROUP-SECP384R1:+SIGN-ECDSA-SECP384R1-SHA384"
REQUEST = Request(id=1, group="tls13", role=Role.CLIENT, auth_mode=AuthMode.UNAUTHENTICATED, deadline=1.0)


@pytest.mark.parametrize(
    ("text", "ciphers"),
    [
        ("NORMAL", (AES_256, CHACHA20, AES_128, CCM)),
        ("PERFORMANCE", (AES_128, AES_256, CHACHA20, CCM)),
        ("SECURE128", (AES_256, CHACHA20, AES_128, CCM)),
        ("SECURE192", (AES_256, CHACHA20)),
        ("SECURE256", (AES_256, CHACHA20)),
        ("SUITEB128:+VERS-TLS1.3", (AES_256, AES_128)),
        ("SUITEB192:+VERS-TLS1.3", (AES_256,)),
        ("NORMAL:-AES-256-GCM", (CHACHA20, AES_128, CCM)),
        ("NORMAL:!AES-256-GCM:+AES-256-GCM", (CHACHA20, AES_128, CCM, AES_256)),
        ("NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305", (CHACHA20,)),
        ("SECURE192:+SECURE128", (AES_256, CHACHA20, AES_128, CCM)),
        ("PERFORMANCE:NORMAL", (AES_128, AES_256, CHACHA20, CCM)),
        ("NORMAL:-CIPHER-ALL:+AES-128-CCM:+CIPHER-ALL", (CCM, AES_256, CHACHA20, AES_128)),
        ("+AEAD:+AES-128-GCM", (AES_128,)),
        ("normal:-aes-128-ccm: +vers-tls1.3", (AES_256, CHACHA20, AES_128)),
        (EXPLICIT, (AES_256,)),
    ],
)
def test_ciphers(text: str, ciphers: tuple[int, ...]) -> None:
    """Keywords, additions and removals, from left to right."""
    assert parse_priorities(text).ciphers == ciphers


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("NORMAL", (*HYBRIDS, P256, P384, P521, X25519, X448, *FFDHE)),
        ("SECURE192", (HYBRIDS[2], P384, P521)),
        ("SUITEB192:+VERS-TLS1.3", (P384,)),
        ("NORMAL:-GROUP-ALL:+GROUP-X25519", (X25519,)),
        ("NORMAL:-GROUP-ALL:+GROUP-X25519-MLKEM768:+GROUP-SECP384R1", (HYBRIDS[0], P384)),
        ("NORMAL:-GROUP-DH-ALL:-GROUP-EC-ALL", HYBRIDS),
        ("NORMAL:-CURVE-ALL:+CURVE-X448", (X448,)),
        (EXPLICIT, (P384,)),
    ],
)
def test_groups(text: str, groups: tuple[int, ...]) -> None:
    """The hybrids come first in every keyword but those of Suite B."""
    assert parse_priorities(text).groups == groups


@pytest.mark.parametrize(
    ("text", "signatures"),
    [
        ("NORMAL:-SIGN-ALL:+SIGN-EdDSA-Ed25519", (0x0807,)),
        ("NORMAL:-SIGN-ALL:+SIGN-RSA-PSS-RSAE-SHA256:+SIGN-RSA-SHA256", (0x0804, 0x0401)),
        ("SUITEB128:+VERS-TLS1.3", (0x0403, 0x0503)),
        (EXPLICIT, (0x0503,)),
    ],
)
def test_signatures(text: str, signatures: tuple[int, ...]) -> None:
    """Those of handshakes, and those that sign certificates."""
    assert parse_priorities(text).signatures == signatures


def test_options() -> None:
    """Server precedence and tickets are told; the rest of what can be kept changes nothing."""
    plain = parse_priorities("NORMAL")
    assert (plain.server_precedence, plain.tickets) == (False, True)
    assert parse_priorities("NORMAL:%SERVER_PRECEDENCE") == replace(plain, server_precedence=True)
    assert parse_priorities("NORMAL:%no_tickets") == replace(plain, tickets=False)
    assert parse_priorities("NORMAL:%COMPAT:%SAFE_RENEGOTIATION:%PROFILE_MEDIUM") == plain


@pytest.mark.parametrize(
    "words",
    ["-VERS-TLS1.2", "+VERS-TLS1.2:+VERS-DTLS1.2", "-AES-256-CBC:-SHA1", "-RSA:+DHE-RSA", "-COMP-ALL", "+CTYPE-X509",
     "-SIGN-RSA-SHA1", "-GROUP-FFDHE8192:-AES-128-CCM-8", "-CTYPE-OPENPGP", "-GROUP-SECP192R1", "-KX-ALL"],
)  # fmt: skip
def test_words_of_older_versions(words: str) -> None:
    """They have no effect; what is not offered may be taken away."""
    assert parse_priorities(f"NORMAL:{words}") == parse_priorities("NORMAL")


def test_the_default_of_the_published_form() -> None:
    """The default policy of a kernel of the published form is understood whole."""
    policy = parse_priorities(
        "NORMAL:-VERS-ALL:+VERS-TLS1.3:%NO_TICKETS:-CIPHER-ALL:"
        "+AES-256-GCM:+AES-128-GCM:+CHACHA20-POLY1305:+AES-128-CCM"
    )
    assert policy == replace(parse_priorities("NORMAL"), ciphers=(AES_256, AES_128, CHACHA20, CCM), tickets=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a priority string is empty; write for example NORMAL"),
        ("  ", "a priority string is empty"),
        ("NORMAL:", "word 2 of the priority string is empty; take the colon out"),
        (":NORMAL", "word 1 of the priority string is empty"),
        ("NORMAL::-AES-128-GCM", "word 2 of the priority string is empty"),
        ("NORMALLY", "word 1 of the priority string, 'NORMALLY', is not known; write NORMAL"),
        ("NORMAL:AES-256-GCM", "word 2 of the priority string, 'AES-256-GCM', is not known; begin it with +, - or %"),
        ("NORMAL:+AES-265-GCM", "word 2 of the priority string, '+AES-265-GCM', is not known; write +AES-256-GCM"),
        ("NORMAL:-AES-256-GCM:+GROUP-X22519", "word 3 …, '+GROUP-X22519', is not known; write +GROUP-X25519"),
        ("NORMAL:+SIGN-EDDSA-ED2551", "write +SIGN-EdDSA-Ed25519"),
        ("NORMAL:+ROT13", "'+ROT13', is not known; see gnutls-cli --list"),
        ("NORMAL:%NO_TICKET", "word 2 …, '%NO_TICKET', is not known; write %NO_TICKETS"),
        ("NORMAL:+AES-128-CCM-8", "word 2 …, '+AES-128-CCM-8', asks for what is not offered here; take it out"),
        ("NORMAL:+GROUP-FFDHE8192", "word 2 … not offered here"),
        ("NORMAL:+CTYPE-RAWPK", "word 2 … not offered here"),
        ("NORMAL:+SRP", "word 2 … not offered here"),
        ("NORMAL:%VERIFY_ALLOW_BROKEN", "word 2 … not offered here"),
        ("NORMAL:%PROFILE_ULTRA", "word 2 … not offered here"),
        ("NORMAL:-VERS-ALL:+VERS-TLS1.2", "word 2 …, '-VERS-ALL' leaves no version of TLS 1.3; add"),
        ("NORMAL:-VERS-TLS1.3", "word 2 … leaves no version of TLS 1.3; add +VERS-TLS1.3, the only one"),
        ("SUITEB128", "word 1 …, 'SUITEB128', means TLS 1.2, and leaves no version of TLS 1.3; add +VERS-TLS1.3"),
        ("NORMAL:-CIPHER-ALL", "word 2 … leaves no cipher of TLS 1.3; add +AES-256-GCM, +CHACHA20-POLY1305"),
        ("SECURE192:-AES-256-GCM:-CHACHA20-POLY1305", "word 3 … leaves no cipher of TLS 1.3"),
        ("NORMAL:-MAC-ALL:+SHA256", "word 2 … leaves no cipher of TLS 1.3; add +AEAD"),
        ("NORMAL:-GROUP-ALL", "word 2 … leaves no group of TLS 1.3; add +GROUP-X25519"),
        ("NORMAL:-SIGN-ALL:+SIGN-RSA-SHA256", "word 2 … leaves no signature of TLS 1.3; add"),
        ("NONE", "the priority string leaves no version of TLS 1.3; add"),
        ("NONE:+VERS-TLS1.3", "the priority string leaves no cipher of TLS 1.3; add"),
        ("NONE:+VERS-TLS1.3:+AES-256-GCM", "the priority string leaves no cipher of TLS 1.3; add +AEAD"),
        ("@SYSTEM", "word 1 …, '@SYSTEM', is not known"),
        ("NORMAL:-NORMAL", "word 2 …, '-NORMAL', is not known"),
        ("NORMÅL", "ASCII characters alone"),
        ("NORMAL:" + "-RSA:" * 300 + "-RSA", f"has 1511 characters; {MAX_LENGTH} are allowed"),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, words: str) -> None:
    """The word, its position and the remedy are named."""
    with pytest.raises(ConfigurationError, match=".*".join(map(re.escape, words.split("…")))):
        parse_priorities(text)


def test_a_long_word_is_cut() -> None:
    """An error does not repeat a kilobyte of input."""
    with pytest.raises(ConfigurationError) as refused:
        parse_priorities("NORMAL:+" + "X" * 1000)
    assert len(str(refused.value)) < 250


WORD = st.one_of(
    st.sampled_from([f"{sign}{word}" for sign in "+-!" for word in WORDS]),
    st.sampled_from([*KEYWORDS, "NONE", *(f"+{keyword}" for keyword in KEYWORDS), *(f"%{name}" for name in OPTIONS)]),
)


def _parsed(text: str) -> TlsPolicy | None:
    try:
        return parse_priorities(text)
    except ConfigurationError as error:
        assert str(error)
        return None


@given(st.lists(WORD, min_size=1, max_size=12).map(":".join))
def test_any_string_of_known_words(text: str) -> None:
    """It is refused in words, or has something of each kind, all of it known and nothing twice."""
    policy = _parsed(text)
    if policy is None:
        return
    for codes, known in ((policy.ciphers, CIPHERS), (policy.groups, GROUPS), (policy.signatures, SIGNATURES)):
        assert codes
        assert len(set(codes)) == len(codes)
        assert set(codes) <= set(known.values())
    assert not CERTIFICATE_ONLY.issuperset(policy.signatures)


@given(st.text(max_size=64))
def test_any_text(text: str) -> None:
    """Nothing but a ConfigurationError comes of it."""
    _parsed(text)
    _parsed(f"NORMAL:{text}")


@given(st.lists(WORD, max_size=6), st.sampled_from([f"-{word}" for word in WORDS]))
def test_what_is_taken_away_last_is_gone(words: list[str], removal: str) -> None:
    """A removal at the end leaves the rest in its order."""
    before, after = _parsed(":".join(["NORMAL", *words])), _parsed(":".join(["NORMAL", *words, removal]))
    if before is None or after is None:
        return
    gone = WORDS[removal[1:]].codes
    for name in ("ciphers", "groups", "signatures"):
        left = [code for code in getattr(before, name) if code not in gone]
        assert list(getattr(after, name)) == (left or list(getattr(before, name)))


def test_every_spelling_is_read_in_either_case() -> None:
    """Words are keyed in capitals, so that lower case finds them."""
    for word in WORDS:
        assert word == word.upper()
        assert _parsed(f"NORMAL:-{word.lower()}:+NORMAL:+{word.lower()}") == _parsed(f"NORMAL:-{word}:+NORMAL:+{word}")


def test_two_policies_hold_together() -> None:
    """A policy holds what both allow, in the order of the first; the stricter of each option."""
    first = parse_priorities("PERFORMANCE:%SERVER_PRECEDENCE")
    both = first.within(parse_priorities("SECURE192:%NO_TICKETS"))
    assert both.ciphers == (AES_256, CHACHA20)
    assert both.groups == (HYBRIDS[2], P384, P521)
    assert (both.server_precedence, both.tickets) == (True, False)
    assert first.within(first) == first


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        ("NORMAL:-CIPHER-ALL:+AES-128-GCM", "SECURE192", "cipher"),
        ("NORMAL:-GROUP-ALL:+GROUP-X25519", "SECURE192", "group"),
        ("NORMAL:-SIGN-ALL:+SIGN-EdDSA-Ed25519:+SIGN-RSA-SHA384", "SECURE192", "signature"),
    ],
)
def test_policies_without_anything_in_common(one: str, other: str, what: str) -> None:
    """They are refused together, which is said."""
    with pytest.raises(ConfigurationError, match=f"no {what} in common"):
        parse_priorities(one).within(parse_priorities(other))


def test_the_policy_of_a_request() -> None:
    """None without one; all of them together; a failure with its reason for one that cannot be kept."""
    assert policy_of(REQUEST) is None
    assert policy_of(replace(REQUEST, tls_priorities=("SECURE192",))) == parse_priorities("SECURE192")
    both = policy_of(replace(REQUEST, tls_priorities=("NORMAL:-AES-256-GCM", "SECURE192")))
    assert both is not None
    assert both.ciphers == (CHACHA20,)
    for wrong in (("NORMALLY",), ("SECURE192", "NORMAL:-CIPHER-ALL:+AES-128-GCM")):
        with pytest.raises(HandshakeFailed) as failed:
            policy_of(replace(REQUEST, tls_priorities=wrong))
        assert failed.value.failure is Failure.NOT_OFFERED_HERE
        assert failed.value.detail
