"""The TLS policy of one request: a priority string in GnuTLS's syntax, as far as it applies to TLS 1.3.  Sans-IO.

A string has words between colons, which are read from left to right, in either case:

* A keyword (``NORMAL``, ``SECURE192``, ``NONE`` …) stands for lists of ciphers, groups and signatures.
* ``+WORD`` adds at the end of its list, ``-WORD`` and ``!WORD`` take away.
* ``%OPTION`` changes something else.

What concerns older versions alone has no effect.  What is not offered here, or would loosen a check, is refused, and so
is a string that leaves no version, cipher, group or signature.  Certificates are judged as without a policy, whatever
verification profile GnuTLS has for a keyword; ``SIGN-`` words choose the signatures of the handshake.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache

from hsframework.errors import ConfigurationError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Request
from hsframework.tls.priority_words import (
    CERTIFICATE_ONLY,
    INITIAL,
    KEYWORDS,
    NO_TICKETS,
    OPTIONS,
    SERVER_PRECEDENCE,
    SPELLINGS,
    TLS_1_3,
    WORDS,
    Keyword,
    Kind,
)

__all__ = ["MAX_LENGTH", "TlsPolicy", "parse_priorities", "policy_of"]

MAX_LENGTH = 1024
"""Characters of a priority string."""

_EXAMPLE = "write for example NORMAL, SECURE192, or NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305"
_ADD = {
    Kind.VERSION: "+VERS-TLS1.3, the only one",
    Kind.CIPHER: "+AES-256-GCM, +CHACHA20-POLY1305, +AES-128-GCM or +AES-128-CCM",
    Kind.AEAD: "+AEAD",
    Kind.GROUP: "+GROUP-X25519, +GROUP-SECP384R1 or another",
    Kind.SIGNATURE: "+SIGN-ALL, +SIGN-ECDSA-SECP256R1-SHA256 or another of TLS 1.3",
}
"""The words that mend a string that leaves nothing of a kind."""


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """The algorithms that a handshake may use, as numbers on the wire, in order of preference; no list is empty."""

    ciphers: tuple[int, ...]
    """Cipher suites (RFC 8446 appendix B.4)."""
    groups: tuple[int, ...]
    """Groups for the key exchange (RFC 8446 section 4.2.7)."""
    signatures: tuple[int, ...]
    """Signature schemes (RFC 8446 section 4.2.3), with those that only sign certificates."""
    server_precedence: bool = False
    """True if a server chooses by its own preference and not by its client's (``%SERVER_PRECEDENCE``)."""
    tickets: bool = True
    """False if sessions are neither resumed nor offered for it (``%NO_TICKETS``)."""

    def within(self, bound: TlsPolicy) -> TlsPolicy:
        """Return what both policies allow, in this one's order.  Raises ConfigurationError where that is nothing."""
        lists = {}
        for name in ("ciphers", "groups", "signatures"):
            allowed = getattr(bound, name)
            lists[name] = tuple(code for code in getattr(self, name) if code in allowed)
            if _is_nothing(lists[name]):
                raise ConfigurationError(f"its TLS policy and its profile's have no {name[:-1]} in common")
        return TlsPolicy(
            **lists,
            server_precedence=self.server_precedence or bound.server_precedence,
            tickets=self.tickets and bound.tickets,
        )


def parse_priorities(text: str) -> TlsPolicy:
    """Return the policy that a priority string stands for.

    Raises ConfigurationError, which names the word, its position and the remedy.
    """
    return _parsed(text)


def policy_of(request: Request) -> TlsPolicy | None:
    """Return what every policy of a request allows, in the order of the first; None: it has none.

    Raises HandshakeFailed (NOT_OFFERED_HERE) for one that cannot be kept.
    """
    policy = None
    try:
        for text in request.tls_priorities:
            further = parse_priorities(text)
            policy = further if policy is None else policy.within(further)
    except ConfigurationError as error:
        raise HandshakeFailed(Failure.NOT_OFFERED_HERE, str(error)) from None
    return policy


@lru_cache(maxsize=256)
def _parsed(text: str) -> TlsPolicy:
    if not text.strip(" "):
        raise ConfigurationError(f"a priority string is empty; {_EXAMPLE}")
    if not text.isascii():
        raise ConfigurationError(f"a priority string has ASCII characters alone, and {text[:64]!a} others")
    if len(text) > MAX_LENGTH:
        raise ConfigurationError(f"a priority string has {len(text)} characters; {MAX_LENGTH} are allowed")
    reader = _Reader()
    for position, word in enumerate(text.split(":"), start=1):
        reader.take(position, word.strip(" "))
    return reader.policy()


class _Reader:
    """The lists, from one word to the next."""

    def __init__(self) -> None:
        self._lists: dict[Kind, list[int]] = {kind: [] for kind in _ADD}
        self._emptied: dict[Kind, str] = {}
        """By kind, the word that took the last item."""
        self._keyword = False
        self._options: set[str] = set()

    def take(self, position: int, word: str) -> None:
        """Read one word.  Raises ConfigurationError."""
        where = f"word {position} of the priority string, {word[:64]!r},"
        sign, body = word[:1], word[1:].upper()
        if position == 1 and word.upper() != "NONE":
            self._add_lists(INITIAL)
            self._add(Kind.VERSION, (TLS_1_3,))
        if not word:
            raise ConfigurationError(f"word {position} of the priority string is empty; take the colon out")
        if word.upper() == "NONE" and position == 1:
            self._keyword = True
        elif word.upper() in KEYWORDS:
            self._take_keyword(KEYWORDS[word.upper()], where)
        elif sign == "+" and body in KEYWORDS:
            self._add_keyword(KEYWORDS[body])
        elif sign in "+-!":
            self._take_item(sign, body, where)
        elif sign == "%":
            self._take_option(body, where)
        else:
            raise _unknown(where, word, KEYWORDS, f"begin it with +, - or %, or {_EXAMPLE}")

    def policy(self) -> TlsPolicy:
        """Return the policy.  Raises ConfigurationError if a list is empty."""
        for kind, codes in self._lists.items():
            if _is_nothing(codes):
                what = "cipher" if kind is Kind.AEAD else kind.value
                by = self._emptied.get(kind, "the priority string")
                raise ConfigurationError(f"{by} leaves no {what} of TLS 1.3; add {_ADD[kind]}")
        return TlsPolicy(
            ciphers=tuple(self._lists[Kind.CIPHER]),
            groups=tuple(self._lists[Kind.GROUP]),
            signatures=tuple(self._lists[Kind.SIGNATURE]),
            server_precedence=SERVER_PRECEDENCE in self._options,
            tickets=NO_TICKETS not in self._options,
        )

    def _take_keyword(self, keyword: Keyword, where: str) -> None:
        """Let the first keyword replace the lists; a later one adds to them, as in GnuTLS."""
        if self._keyword:
            self._add_keyword(keyword)
            return
        self._keyword = True
        for kind in (Kind.CIPHER, Kind.AEAD, Kind.GROUP, Kind.SIGNATURE):
            self._lists[kind].clear()
        if not keyword.version:
            self._lists[Kind.VERSION].clear()
            self._emptied[Kind.VERSION] = f"{where} means TLS 1.2, and"
        self._add_keyword(keyword)

    def _add_keyword(self, keyword: Keyword) -> None:
        self._add_lists(keyword)
        self._add(Kind.AEAD, (1,))

    def _add_lists(self, keyword: Keyword) -> None:
        self._add(Kind.CIPHER, keyword.ciphers)
        self._add(Kind.GROUP, keyword.groups)
        self._add(Kind.SIGNATURE, keyword.signatures)

    def _add(self, kind: Kind, codes: Iterable[int]) -> None:
        found = self._lists[kind]
        found.extend(code for code in codes if code not in found)

    def _take_item(self, sign: str, body: str, where: str) -> None:
        word = WORDS.get(body)
        if word is None:
            raise _unknown(where, body, SPELLINGS, "see gnutls-cli --list for the words that there are", sign)
        if word.kind is Kind.NOT_OFFERED and sign == "+":
            raise ConfigurationError(f"{where} asks for what is not offered here; take it out")
        if word.kind not in self._lists:
            return
        if sign == "+":
            self._add(word.kind, word.codes)
            return
        left = [code for code in self._lists[word.kind] if code not in word.codes]
        if left != self._lists[word.kind] and _is_nothing(left):
            self._emptied[word.kind] = where.removesuffix(",")
        self._lists[word.kind] = left

    def _take_option(self, body: str, where: str) -> None:
        kept = OPTIONS.get(body)
        if kept is None:
            raise _unknown(where, body, OPTIONS, "take it out", "%")
        if not kept:
            raise ConfigurationError(f"{where} asks for what is not offered here; take it out")
        self._options.add(body)


def _is_nothing(codes: Collection[int]) -> bool:
    """True if no handshake can be had with these: there are none, or only those that sign certificates."""
    return CERTIFICATE_ONLY.issuperset(codes)


def _unknown(where: str, word: str, known: Collection[str], remedy: str, sign: str = "") -> ConfigurationError:
    spelled = {name.upper(): name for name in known}
    close = difflib.get_close_matches(word.upper()[:64], spelled, n=1)
    return ConfigurationError(f"{where} is not known; {f'write {sign}{spelled[close[0]]!s}' if close else remedy}")
