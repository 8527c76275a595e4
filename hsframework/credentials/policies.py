"""Certificate policies of a path (RFC 5280 sections 4.2.1.4, 4.2.1.5, 4.2.1.11, 4.2.1.14 and 6.1, RFC 9618).

The initial policies are any-policy, and no explicit policy is required, so that a path can fail in one way only: an
authority in it requires an explicit policy, and no policy is valid for the whole path.  OpenSSL would need the initial
policies as an argument, for which the binding has no call.

Of the graph of RFC 9618 only the present level is kept: the policies that are valid so far, each with those that are
expected of the next certificate.
"""

from __future__ import annotations

from collections.abc import Sequence

from hsframework.credentials.certificate import Facts, ParsedCertificate
from hsframework.failures import Failure, HandshakeFailed

ANY_POLICY = "2.5.29.32.0"
MAX_POLICIES = 256
"""Policies and mappings of one certificate."""

_Level = dict[str, frozenset[str]]
"""Valid policies, each with the policies that are expected of the next certificate; empty: there is none."""


def check_policies(path: Sequence[ParsedCertificate]) -> None:
    """Check that a policy is valid for the whole path if an authority in it requires one.

    ``path``: the leaf first, the anchor last, whose own extensions are not processed.  Raises
    ``HandshakeFailed(UNTRUSTED)``.
    """
    if not any(certificate.facts.limits_policies for certificate in path[:-1]):
        return
    level: _Level = {ANY_POLICY: frozenset({ANY_POLICY})}
    size = len(path) - 1
    explicit = mapping = any_policy = size + 1
    for depth, certificate in enumerate(reversed(path[:-1]), start=1):
        facts, last = certificate.facts, depth == size
        exempt = certificate.self_issued and not last
        level = _next_level(level, facts, any_policy_counts=any_policy > 0 or exempt)
        if explicit <= 0 and not level:
            raise _no_policy(facts)
        if not last:
            level = _map(level, facts, allowed=mapping > 0)
        if not exempt:
            explicit, mapping, any_policy = explicit - 1, mapping - 1, any_policy - 1
        explicit, mapping, any_policy = _limits(facts, explicit, mapping, any_policy, last=last)
    if explicit <= 0 and not level:
        raise _no_policy(path[0].facts)


def _next_level(level: _Level, facts: Facts, *, any_policy_counts: bool) -> _Level:
    """Return the policies that are valid with one more certificate (RFC 5280 section 6.1.3 (d) and (e))."""
    stated = facts.policies
    if len(stated) > MAX_POLICIES:
        raise HandshakeFailed(Failure.UNTRUSTED, f"{facts.label} states more than {MAX_POLICIES} policies")
    expected = frozenset().union(*level.values()) if level else frozenset()
    following = {
        policy: frozenset({policy})
        for policy in stated
        if policy != ANY_POLICY and (policy in expected or ANY_POLICY in level)
    }
    if ANY_POLICY in stated and any_policy_counts:
        for policy in expected - following.keys():
            following[policy] = frozenset({policy})
    return following


def _map(level: _Level, facts: Facts, *, allowed: bool) -> _Level:
    """Return the policies with the mappings of an authority (RFC 5280 section 6.1.4 (a) and (b))."""
    if len(facts.policy_mappings) > MAX_POLICIES:
        raise HandshakeFailed(Failure.UNTRUSTED, f"{facts.label} maps more than {MAX_POLICIES} policies")
    mappings: dict[str, set[str]] = {}
    for ours, theirs in facts.policy_mappings:
        if ANY_POLICY in (ours, theirs):
            raise HandshakeFailed(Failure.UNTRUSTED, f"{facts.label} maps any-policy")
        mappings.setdefault(ours, set()).add(theirs)
    mapped = dict(level)
    for policy, expected in mappings.items():
        if not allowed:
            mapped.pop(policy, None)
        elif policy in level or ANY_POLICY in level:
            mapped[policy] = frozenset(expected)
    return mapped


def _limits(facts: Facts, explicit: int, mapping: int, any_policy: int, *, last: bool) -> tuple[int, int, int]:
    """Return the numbers of certificates that may follow without an explicit policy, with mappings, with any-policy."""
    constraints = facts.policy_constraints
    required = None if constraints is None else constraints.require_explicit_policy
    # In the last certificate zero alone counts (RFC 5280 section 6.1.5 (b)).
    if required is not None and (not last or required == 0):
        explicit = min(explicit, required)
    if constraints is not None and constraints.inhibit_policy_mapping is not None:
        mapping = min(mapping, constraints.inhibit_policy_mapping)
    if facts.inhibit_any_policy is not None:
        any_policy = min(any_policy, facts.inhibit_any_policy)
    return explicit, mapping, any_policy


def _no_policy(facts: Facts) -> HandshakeFailed:
    detail = f"{facts.label}: an authority requires an explicit policy, and none is valid for the whole path"
    return HandshakeFailed(Failure.UNTRUSTED, detail)
